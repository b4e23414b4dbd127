"""The site builds without a warning, loads nothing from anywhere, and can be searched and read on a phone."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from filelock import FileLock

from fljax.cli.listing import KINDS
from tests.support.browser import chromium
from tests.support.processes import QUICKLY

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# Pages with wide tables, formulas, code, pictures, help texts and the output of notebooks.
ON_A_PHONE = (
    *("index", "getting-started", "contributing", "explanations/architecture", "tutorials/figure"),
    *("reference/rules/index", "reference/rules/fltrust", "reference/attacks/alie", "reference/api/fljax"),
    *("reference/configuration", "reference/command-line", "guides/reports", "results/benchmarks"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as `make docs` builds it, in a folder of its own; once for all workers."""
    pytest.importorskip("sphinx", reason="needs the extra docs")
    worker = tmp_path_factory.getbasetemp()
    out = (worker.parent if "PYTEST_XDIST_WORKER" in os.environ else worker) / "site"
    # Quick programs, but not two devices: a person who builds it has one.
    own = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_"))}
    options = ("--builder", "html", "--fail-on-warning", "--keep-going", "--quiet", "-d", out / "doctrees")
    with FileLock(f"{out}.lock"):
        # Where another worker has built it, this finds nothing to do.
        done = subprocess.run(
            [sys.executable, "-m", "sphinx", *options, ROOT / "docs", out / "html"],
            env={**own, "PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICKLY},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "html"


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors, self.math = [], [], set(), 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.math += tag == "math"
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in ("link", "script", "img", "iframe", "object"):
            self.loaded += [values[name] for name in ("src", "href", "data") if values.get(name)]


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_component_has_a_page(site, pages):
    for kind, listed in KINDS.items():
        names = [entry.name for entry in listed.entries() if entry.function is not None]
        for name in names:
            path = site / "reference" / kind / f"{name}.html"
            assert path in pages, path
    text = (site / "reference/rules/krum.html").read_text(encoding="utf-8")
    assert "argmin<sub><i>i</i></sub>" in text
    assert "krum.svg" in text
    assert pages[site / "explanations/architecture.html"].math >= 3


def test_links_within_the_site_hold(pages):
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            to = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert to.exists(), f"{path.name}: {link}"
            if anchor and to in pages:
                assert anchor in pages[to].anchors, f"{path.name}: {link}"


def test_nothing_is_loaded_from_anywhere(site, pages):
    for path, page in pages.items():
        assert not [each for each in page.loaded if re.match(r"(https?:)?//", each)], path
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//|@import", style.read_text(encoding="utf-8")), (
            style
        )


def test_notebooks_were_run(site):
    for source in (ROOT / "docs" / "tutorials").glob("*.md"):
        if "{code-cell}" in source.read_text(encoding="utf-8"):
            made = (site / "tutorials" / f"{source.stem}.html").read_text(encoding="utf-8")
            assert "cell_output" in made, source.name
            assert "Traceback" not in made, source.name


def test_a_person_can_search_read_on_a_phone_and_in_the_dark(site, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with chromium(tmp_path) as driver:
        wait = WebDriverWait(driver, 20).until
        driver.get((site / "search.html").as_uri() + "?q=bulyan")
        results = wait(lambda d: d.find_elements(By.CSS_SELECTOR, "#search-results li a"))
        found = next(each for each in results if "rules/bulyan" in each.get_attribute("href"))
        found.click()
        wait(lambda d: d.find_element(By.TAG_NAME, "h1").text.startswith("Bulyan"))
        picture = driver.find_element(By.CSS_SELECTOR, "article img")
        assert driver.execute_script("return arguments[0].naturalWidth", picture) > 100
        driver.find_element(By.CSS_SELECTOR, "article a[href^='index.html']").click()
        wait(lambda d: d.find_element(By.TAG_NAME, "h1").text.startswith("Rules"))

        background = "return getComputedStyle(document.body).backgroundColor"
        before = driver.execute_script(background)
        seen = {before}
        for _ in range(2):
            # One stands in the page, another at the top of a phone.
            toggles = driver.find_elements(By.CSS_SELECTOR, "button.theme-toggle")
            next(each for each in toggles if each.is_displayed()).click()
            seen.add(driver.execute_script(background))
        assert len(seen) == 2, "dark and light look alike"

        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
        )
        for page in ON_A_PHONE:
            driver.get((site / f"{page}.html").as_uri())
            width = driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= 390, f"{page} is {width} wide"
        errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors, errors
