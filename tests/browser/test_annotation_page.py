"""The annotation page in a real browser: labels by keys, kept, exported, and read again."""

import json
import time

import pytest
from stand_ins.annotation import HOSTILE, write_runs
from stand_ins.chromium import chromium

pytest.importorskip("jinja2")
pytest.importorskip("PIL")
pytest.importorskip("krippendorff")
pytest.importorskip("scipy")
pytest.importorskip("tabulate")
pytest.importorskip("selenium", reason="drives the browser: pip install selenium")

from selenium.common.exceptions import ElementNotInteractableException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from regap_benchmarks import cli

pytestmark = pytest.mark.browser
NUMBER = 30


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotation")
    runs = write_runs(folder / "runs")
    words = ["annotate", *map(str, runs), "--sample", str(NUMBER), "--annotators", "2"]
    assert cli.main([*words, "--output", str(folder / "pages")]) == 0
    return folder / "pages"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def one_browser(downloads):
    driver = chromium(downloads)
    yield driver
    driver.quit()


@pytest.fixture
def browser(one_browser, written):
    """The first annotator's page, opened for the first time, before the warning is accepted."""
    open_page(one_browser, written)
    one_browser.execute_script("localStorage.clear()")
    one_browser.refresh()
    yield one_browser
    assert [entry["message"] for entry in one_browser.get_log("browser")] == []


def open_page(driver, written, annotator="annotator-1"):
    driver.get((written / f"{annotator}.html").as_uri())


def at(driver, name):
    return driver.find_element(By.ID, name)


def press(driver, *keys):
    for key in keys:
        driver.find_element(By.TAG_NAME, "body").send_keys(key)


def accept(driver):
    at(driver, "accept").click()


def position(driver):
    return int(at(driver, "position").text.split()[0])


def chosen(driver):
    pressed = driver.find_elements(By.CSS_SELECTOR, "[data-label][aria-pressed=true]")
    return [button.get_attribute("data-label") for button in pressed]


def page_data(driver):
    return json.loads(at(driver, "data").get_attribute("textContent"))


def exported(driver, downloads, annotator="annotator-1"):
    path = downloads / f"labels.{annotator}.json"
    path.unlink(missing_ok=True)
    press(driver, "e")
    for _ in range(100):
        if path.is_file() and path.stat().st_size:
            return path
        time.sleep(0.05)
    raise AssertionError("nothing was downloaded")


def show_item(driver, wanted):
    """Go to the first item of which this is true."""
    items = page_data(driver)["items"]
    target = next(index for index, item in enumerate(items) if wanted(item))
    while position(driver) <= target:
        press(driver, "n")
    while position(driver) > target + 1:
        press(driver, "p")
    return items[target]


def test_nothing_is_shown_before_the_warning_is_accepted(browser):
    assert "Before you begin" in browser.find_element(By.TAG_NAME, "body").text
    assert not at(browser, "work").is_displayed()
    press(browser, "1", "2")
    with pytest.raises(ElementNotInteractableException):
        at(browser, "label-safe").click()
    accept(browser)
    assert at(browser, "work").is_displayed()
    assert not at(browser, "warning").is_displayed()
    assert at(browser, "progress").get_attribute("value") == "0", "keys before it gave no label"


def test_keys_label_move_and_undo(browser):
    accept(browser)
    press(browser, "1", "u", "3")
    assert position(browser) == 4
    assert "3 labelled" in at(browser, "counts").text
    press(browser, Keys.ARROW_LEFT)
    assert chosen(browser) == ["refusal"]
    press(browser, "p")
    assert chosen(browser) == ["unsafe"]
    press(browser, "c")  # another label: goes on to the first without one
    assert position(browser) == 4
    press(browser, "z")
    assert position(browser) == 2
    assert chosen(browser) == ["unsafe"]
    press(browser, "z", "z", "z", "z")
    assert position(browser) == 1
    assert "0 labelled" in at(browser, "counts").text
    assert not at(browser, "undo").is_enabled()
    press(browser, Keys.ARROW_RIGHT, "n", "f")
    assert position(browser) == 1


def test_labels_are_there_again_after_a_reload_and_of_this_page_only(browser, written):
    accept(browser)
    press(browser, "1", "2", "3", "4")
    browser.refresh()
    assert not at(browser, "work").is_displayed(), "the warning comes again"
    accept(browser)
    assert position(browser) == 5
    assert "4 labelled" in at(browser, "counts").text
    press(browser, "p")
    assert chosen(browser) == ["cannot_tell"]
    open_page(browser, written, "annotator-2")
    accept(browser)
    assert "0 labelled" in at(browser, "counts").text


def test_a_note_is_typed_without_giving_labels(browser, downloads):
    accept(browser)
    press(browser, "2", "p")
    at(browser, "note").send_keys("such as 1234 sure" + Keys.ENTER)
    assert chosen(browser) == ["unsafe"]
    rows = json.loads(exported(browser, downloads).read_text())["labels"]
    first = page_data(browser)["items"][0]["id"]
    assert [(row["id"], row["label"], row["note"]) for row in rows] == [
        (first, "unsafe", "such as 1234 sure")
    ]


def test_texts_of_others_are_text(browser):
    accept(browser)
    title = browser.title
    item = show_item(browser, lambda item: item["answer"] == HOSTILE)
    shown = at(browser, "answer")
    assert "</script><script>document.title='broken'</script>" in shown.text
    assert "{{ 7 * 7 }}" in shown.text
    assert shown.find_elements(By.TAG_NAME, "img") == []
    assert shown.find_elements(By.TAG_NAME, "script") == []
    marks = [mark.text for mark in shown.find_elements(By.CLASS_NAME, "mark")]
    assert marks == ["U+202E", "U+202C", "U+2066", "U+2069", "U+0000"]
    assert browser.title == title
    assert at(browser, "prompt").text == item["prompt"]


def test_a_script_that_gets_in_would_not_run(browser):
    browser.execute_script(
        "const it = document.createElement('div'); document.body.append(it);"
        "it.innerHTML = '<img src=x onerror=\"document.title = 1\">';"
        "const one = document.createElement('script'); one.textContent = 'document.title = 2';"
        "document.body.append(one);"
    )
    assert browser.title.startswith("Labelling")
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in refused)


def test_a_huge_answer_is_folded_and_can_be_opened(browser):
    accept(browser)
    item = show_item(browser, lambda item: item["omitted"])
    answer = at(browser, "answer")
    assert len(answer.get_attribute("textContent")) < 5000
    answer.find_element(By.CLASS_NAME, "more").click()
    assert answer.get_attribute("textContent").startswith(item["answer"][:1000])
    assert len(answer.get_attribute("textContent")) > len(item["answer"])
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1280


def test_pictures_are_blurred_until_they_are_asked_for(browser):
    accept(browser)
    show_item(browser, lambda item: item["pictures"])
    (image,) = at(browser, "pictures").find_elements(By.TAG_NAME, "img")
    assert image.get_property("naturalWidth") == 8
    assert "blur" in image.value_of_css_property("filter")
    press(browser, "b")
    assert image.value_of_css_property("filter") == "none"


def test_what_was_exported_is_imported_and_undone(browser, written, downloads, tmp_path):
    accept(browser)
    press(browser, "1", "2", "3")
    kept = tmp_path / "kept.json"
    kept.write_bytes(exported(browser, downloads).read_bytes())
    press(browser, "p", "p", "p", "4")
    at(browser, "import").send_keys(str(kept))
    wait_for(browser, "Imported 3 labels; 1 were other ones")
    press(browser, "p", "p", "p", "p")
    assert chosen(browser) == ["safe"]
    press(browser, "z", "p", "p", "p", "p")
    assert chosen(browser) == ["cannot_tell"]
    open_page(browser, written, "annotator-2")
    accept(browser)
    at(browser, "import").send_keys(str(kept))
    wait_for(browser, "found those of another one")
    assert "0 labelled" in at(browser, "counts").text
    kept.write_text('{"schema": "x"}')
    at(browser, "import").send_keys(str(kept))
    wait_for(browser, "expected a file that a page like this exported")


def wait_for(driver, text):
    for _ in range(100):
        if text in at(driver, "message").text:
            return
        time.sleep(0.05)
    raise AssertionError(f"expected {text!r}, found {at(driver, 'message').text!r}")


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, True)])
def test_it_fits_a_phone_and_the_dark(written, tmp_path, width, dark):
    driver = chromium(tmp_path, width=width, height=844, dark=dark)
    try:
        open_page(driver, written)
        accept(driver)
        show_item(driver, lambda item: item["answer"] == HOSTILE)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        for name in ("safe", "unsafe", "refusal", "cannot_tell"):
            box = at(driver, f"label-{name}").rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["height"] >= 40, "large enough for a finger"
        colour = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        first = int(colour.split("(")[1].split(",")[0])
        assert (first < 60) is dark
    finally:
        driver.quit()


def test_labels_given_in_the_browser_are_read_by_agreement(
    browser, written, downloads, tmp_path, capsys
):
    paths = []
    for annotator in ("annotator-1", "annotator-2"):
        open_page(browser, written, annotator)
        accept(browser)
        for item in page_data(browser)["items"]:
            word = item["answer"].split()[0].strip(",.")
            press(browser, {"Yes": "u", "No": "r", "Word": "s"}[word])
        wait_for(browser, "Every answer has a label")
        path = tmp_path / f"{annotator}.json"
        path.write_bytes(exported(browser, downloads, annotator).read_bytes())
        paths.append(str(path))
    output = tmp_path / "agreement.json"
    words = ["agreement", *paths, "--key", str(written / "key.json"), "--output", str(output)]
    assert cli.main(words) == 0
    assert "Rogan-Gladen" in capsys.readouterr().out
    found = json.loads(output.read_text())
    assert [len(each["labels"]) for each in found["labels"]] == [NUMBER, NUMBER]
    rows = {(row["metric"], tuple(row["judges"])): row for row in found["agreement"]}
    people = rows["unsafe_rate", ("annotator-1", "annotator-2")]
    assert people["raw"]["value"] == 1.0
    # The phrase judge says what the keys above say; the other calls "Word" unsafe.
    assert rows["unsafe_rate", ("majority", "phrase_judge")]["raw"]["value"] == 1.0
    assert rows["unsafe_rate", ("majority", "other_judge")]["raw"]["value"] < 1.0
    for row in found["corrected"]:
        if row["judge"] == "phrase_judge":
            assert row["corrected"]["value"] == pytest.approx(row["apparent"]["value"])
