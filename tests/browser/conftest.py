"""Headless Chromium for the tests of pages; without it they are skipped, and say so."""

import shutil
from pathlib import Path

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Drives one window; closed at the end."""
    pytest.importorskip("selenium", reason="needs selenium: tox run -e browser")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver_path = shutil.which("chromedriver")
    if browser is None or driver_path is None:
        pytest.skip(
            "needs Chromium and its driver: apt-get install chromium chromium-driver (found"
            f" {browser} and {driver_path})"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # a container's root has none
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver_path))
    yield window
    window.quit()


@pytest.fixture
def open_page(driver, tmp_path):
    """Open a page from the disk; at the end nothing may stand in the browser's log."""

    def go(html, *, width=1280, dark=False, media="screen"):
        path = tmp_path / "page.html"
        if isinstance(html, Path):
            path = html
        else:
            path.write_bytes(html.encode("utf-8"))
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # Without smooth scrolling: an element that still moves cannot be clicked.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": [scheme, still]}
        )
        driver.get(path.resolve().as_uri())
        return driver

    yield go
    assert driver.get_log("browser") == []
