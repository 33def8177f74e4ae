"""A real browser for tests: Debian's Chromium, without a window, driven by Selenium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile. Where none is installed the test is skipped, or fails if
    CHARLSTM_BROWSER=required says that there has to be one, as in continuous integration."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        why = "needs Chromium and its driver: on Debian, apt-get install chromium chromium-driver"
        if os.environ.get("CHARLSTM_BROWSER") == "required":
            pytest.fail(why)
        pytest.skip(why)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, Service(driver))
    try:
        yield found
    finally:
        found.quit()


def show_as(browser: webdriver.Chrome, width: int, scheme: str = "light", height: int = 900) -> None:
    """The size of the window, and whether its user likes it light or dark."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    likes = [{"name": "prefers-color-scheme", "value": scheme}]
    likes += [{"name": "prefers-reduced-motion", "value": "reduce"}]  # a click need not wait for a scroll
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": likes})
