"""A headless Chromium without network use of its own."""

import os
import shutil
from contextlib import contextmanager

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,1000",
)


def find(*names):
    return next(filter(None, map(shutil.which, names)), None)


def need_chromium():
    """Paths of Chromium and its driver; skips without them, but fails where CI is set."""
    found = find("chromium", "chromium-browser"), find("chromedriver")
    if not all(found):
        message = "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return found


@contextmanager
def chromium(profile):
    """A driver whose log has every request and every message of the console."""
    browser, driver_path = need_chromium()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # An explicit path: selenium must not go looking for a driver to download.
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
    try:
        yield driver
    finally:
        driver.quit()
