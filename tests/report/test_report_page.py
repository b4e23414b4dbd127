"""The HTML page: self-contained, escaped, and usable in a browser."""

import json
import re
from html.parser import HTMLParser

import pytest

from fljax.report import write_report
from tests.support.browser import chromium, need_chromium
from tests.support.sweep_folders import cell, write_sweep

ODD = 'Odd | <b>"rule"</b> & </script>'
# As text the smallest would not come first.
ERRORS = {"Trim-mean": 0.5, "Krum": 0.25, ODD: 1e-5}
ATTACKS = ["no attack", "Trim attack"]
SEEDS = list(range(6))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    cells = [
        cell(
            rule,
            attack,
            seed,
            error + 0.01 * seed + 0.1 * (attack != "no attack"),
            None if attack == "no attack" else 0.125,
        )
        for rule, error in ERRORS.items()
        for attack in ATTACKS
        for seed in SEEDS
    ]
    axes = {"aggregator": list(ERRORS), "attack": ATTACKS, "seed": SEEDS}
    folder = write_sweep(tmp_path_factory.mktemp("page") / "sweep", axes, cells, name="<i>Odd</i> & name")
    (path,) = write_report(folder, formats=["html"])
    return path


class Resources(HTMLParser):
    """Everything a browser would load, and the text of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.found, self.inside, self.tags, self.texts = [], None, [], {"script": "", "style": ""}

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        for name, value in attributes:
            if name in ("src", "srcset", "data", "poster", "background") or (name == "href" and tag != "a"):
                self.found.append(value)

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside in self.texts:
            self.texts[self.inside] += data


def test_nothing_is_loaded_from_anywhere(page):
    parsed = Resources()
    parsed.feed(page.read_text(encoding="utf-8"))
    assert parsed.found
    assert all(value.startswith("data:") for value in parsed.found)
    assert all(url.startswith("data:") for url in re.findall(r"url\(\s*['\"]?([^)]*)", parsed.texts["style"]))
    assert "@import" not in parsed.texts["style"]
    assert re.findall(r"from \"(\w+):", parsed.texts["script"]) == ["data"]
    # The labels' tags and the name's are text.
    assert not {"b", "i"} & set(parsed.tags)


def test_the_licence_goes_with_the_script(page):
    text = page.read_text(encoding="utf-8")
    assert "Permission is hereby granted, free of charge" in text
    assert "SpryMedia" in text


def test_without_chromium_only_ci_fails(monkeypatch):
    monkeypatch.setattr("tests.support.browser.find", lambda *names: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        need_chromium()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        need_chromium()


@pytest.fixture(scope="module")
def driver(page, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get("about:blank")
        driver.get_log("performance")
        driver.get(page.as_uri())
        wait(driver, lambda: driver.find_elements("css selector", "#cells_wrapper .dt-info"))
        yield driver


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 30).until(lambda _: condition())


def column(driver, number, table="cells"):
    # In one step: rows may be replaced between two.
    code = "return [...document.querySelectorAll(arguments[0])].map(cell => cell.textContent)"
    return driver.execute_script(code, f"#{table} tbody td:nth-child({number + 1})")


def titles(driver, table="cells"):
    return [head.text for head in driver.find_elements("css selector", f"#{table} thead .dt-column-title")]


def info(driver, table="cells"):
    return driver.find_element("css selector", f"#{table}_wrapper .dt-info").text


def options(driver):
    return driver.find_elements("css selector", ".dtcc-dropdown .dtcc-list-buttons button")


def click(driver, element):
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


@pytest.mark.slow
def test_a_person_can_sort_search_and_filter(driver):
    names = titles(driver)
    assert names[:3] == ["rule", "attack", "seed"]
    error = names.index("test error")
    # All rows, none behind a page; what all have in common is said above.
    assert info(driver) == "Showing 1 to 36 of 36 entries"
    assert "data" not in names
    assert any("data digits" in each.text for each in driver.find_elements("css selector", ".caption"))
    assert column(driver, error)[0] == "0.5"
    head = driver.find_elements("css selector", "#cells thead .dt-column-title")[error]

    click(driver, head)
    ascending = wait(driver, lambda: column(driver, error)[0] == "1e-05" and column(driver, error))
    assert list(map(float, ascending)) == sorted(map(float, ascending))
    click(driver, head)
    descending = wait(driver, lambda: column(driver, error)[0] == "0.65" and column(driver, error))
    assert list(map(float, descending)) == sorted(map(float, descending), reverse=True)
    assert column(driver, 0)[0] == "Trim-mean"

    box = driver.find_element("css selector", "#cells_wrapper .dt-search input")
    box.send_keys("krum trim")
    wait(driver, lambda: info(driver) == "Showing 1 to 6 of 6 entries (filtered from 36 total entries)")
    assert set(column(driver, 0)) == {"Krum"}
    assert set(column(driver, 1)) == {"Trim attack"}
    # The other table has a search of its own.
    assert info(driver, "means") == "Showing 1 to 6 of 6 entries"
    box.clear()
    box.send_keys(" ")
    wait(driver, lambda: info(driver) == "Showing 1 to 36 of 36 entries")

    click(driver, driver.find_elements("css selector", "#cells thead button.dtcc-button_dropdown")[0])
    assert [option.text for option in options(driver)] == list(ERRORS)
    click(driver, next(option for option in options(driver) if option.text == ODD))
    wait(driver, lambda: info(driver) == "Showing 1 to 12 of 12 entries (filtered from 36 total entries)")
    assert set(column(driver, 0)) == {ODD}
    click(driver, next(option for option in options(driver) if option.text == "Krum"))
    wait(driver, lambda: info(driver) == "Showing 1 to 24 of 24 entries (filtered from 36 total entries)")
    assert set(column(driver, 0)) == {ODD, "Krum"}


@pytest.mark.slow
def test_labels_are_shown_as_they_are(driver):
    heads = driver.find_elements("css selector", "table.results thead th")
    assert [head.text for head in heads] == ["attack", *ERRORS]
    assert driver.find_element("css selector", "h1").text == "<i>Odd</i> & name"
    assert driver.title == "<i>Odd</i> & name"
    assert driver.find_element("id", "state").text == "36 of 36 cells"


def widths(driver, width):
    """Widths of the page and of every table beside the room for it, in a window of a width."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    code = """
      const rooms = [...document.querySelectorAll("table")].map(table =>
        [table.scrollWidth, table.closest(".dt-layout-cell, .scroll").clientWidth]);
      return [document.documentElement.scrollWidth, rooms];
    """
    try:
        return driver.execute_script(code)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_no_column_is_cut_on_a_laptop_and_no_page_wider_than_a_phone(driver):
    page, rooms = widths(driver, 1400)
    assert page <= 1400
    assert len(rooms) == 3
    assert all(table <= room for table, room in rooms)
    page, _ = widths(driver, 390)
    assert page <= 390


@pytest.mark.slow
def test_the_page_is_dark_where_the_reader_wants_it(driver):
    def colours(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        code = """
          const shade = name => getComputedStyle(document.querySelector(name)).backgroundColor;
          return [shade("body"), shade("figure img"), document.documentElement.classList.contains("dark")];
        """
        return driver.execute_script(code)

    assert colours("light") == ["rgb(255, 255, 255)", "rgb(255, 255, 255)", False]
    # Figures stay on white.
    # The class of the interactive tables follows an event.
    wait(driver, lambda: colours("dark") == ["rgb(23, 25, 28)", "rgb(255, 255, 255)", True])
    colours("light")


@pytest.mark.slow
def test_images_are_there(driver):
    widths = driver.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) >= 2
    assert min(widths) > 200


@pytest.mark.slow
def test_the_browser_loaded_nothing_and_complained_of_nothing(driver):
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert {url.partition(":")[0] for url in urls} == {"file", "data"}
    assert sum(url.startswith("file:") for url in urls) == 1
    assert driver.get_log("browser") == []
