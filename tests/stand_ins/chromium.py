"""A headless Chromium, for tests of pages."""

import os
import shutil
from pathlib import Path
from typing import Any, Optional

import pytest


def chromium(downloads: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Any:
    """A driver of a browser of its own; skips the test where there is none.

    Args:
        downloads: folder of what pages export.
        width: of the screen; below 600 it is a phone's.
        height: of the screen.
        dark: whether the user prefers dark pages.
    """
    selenium = pytest.importorskip("selenium", reason="drives the browser: pip install selenium")
    assert selenium
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = _program("chromium", "chromium-browser"), _program("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    # Chromium refuses its sandbox to root, as in a container.
    arguments += ["--no-sandbox"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
    for argument in (*arguments, f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    found.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    return found


def _program(*names: str) -> Optional[str]:
    return next((path for path in map(shutil.which, names) if path), None)
