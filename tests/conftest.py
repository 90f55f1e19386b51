"""For all tests: what one armed, the next does not find."""

from typing import Iterator

import pytest

from regap_plugin import activation


@pytest.fixture(autouse=True)
def nothing_stays_armed() -> Iterator[None]:
    """An armed test process would patch an upstream that a later test imports."""
    yield
    activation.disarm()
