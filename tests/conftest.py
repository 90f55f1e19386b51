"""For all tests: what one armed or patched, the next does not find."""

import sys
from typing import Iterator

import pytest

from regap_plugin import activation


@pytest.fixture(autouse=True)
def nothing_stays_armed_or_patched() -> Iterator[None]:
    """Arming patches an upstream that is imported already, as tests of patches import LLaVA."""
    yield
    activation.disarm()
    plugins = sys.modules.get("regap_plugin.plugins")
    if plugins is not None and plugins.load_plugins.cache_info().currsize:
        for name in plugins.load_plugins().upstream_names:
            plugins.load_plugins().upstream(name).revert()
