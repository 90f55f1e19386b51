"""The report page in a real browser: what it shows, hides, finds, and never runs."""

import hashlib

import pytest

for package in ("selenium", "jinja2", "krippendorff", "matplotlib", "scipy", "statsmodels"):
    pytest.importorskip(package)

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from stand_ins.judged_runs import WordJudge, answer, samples, write_run

from regap_benchmarks.cli import main
from regap_benchmarks.judging import judge_batch
from regap_benchmarks.records import Response
from regap_benchmarks.report.page.compared_runs import PageRun, read_runs
from regap_benchmarks.report.page.page_content import PageContent
from regap_benchmarks.report.page.page_file import page_html
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.run_plan import header_for

pytestmark = pytest.mark.browser

ATTACK = "</script><script>window.hit=1</script><img src=x onerror='window.hit=2'>"
HIDDEN = "\u202eright to left\u2066 tag\U000e0041 nul\u0000"
HUGE = "word " * 400_000


def html_of(**groups):
    """The page of runs without figures."""
    runs = read_runs({name: [RunFolder(path) for path in paths] for name, paths in groups.items()})
    return page_html(PageContent("Title", tuple(runs), (("Fact", "value"),), (), ()))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two groups of two runs, two judges."""
    folder = tmp_path_factory.mktemp("runs")
    groups = {
        name: [
            write_run(
                folder / f"{name}{seed}",
                seed=seed,
                helps=helps,
                judges=("words", "strict"),
                checkpoint=name,
            )
            for seed in (0, 1)
        ]
        for name, helps in (("plain", 0.9), ("regap", 0.2))
    }
    return html_of(**groups)


def count(driver):
    """How many answers match, as the page says."""
    text = driver.find_element(By.CLASS_NAME, "shown").text
    if text == "No answer matches.":
        return 0
    return int(text.split(" of ")[1].split()[0].replace(",", ""))


def choose(driver, label, text):
    """Choose in the filter of that label."""
    for element in driver.find_elements(By.CSS_SELECTOR, ".filters label"):
        if element.find_element(By.TAG_NAME, "span").text == label:
            Select(element.find_element(By.TAG_NAME, "select")).select_by_visible_text(text)
            return
    raise AssertionError(f"no filter {label}")


def cards(driver):
    return driver.find_elements(By.CLASS_NAME, "answer")


def test_answers_come_a_page_at_a_time(open_page, page):
    driver = open_page(page)
    asked = len(samples())
    assert count(driver) == 4 * asked
    assert len(cards(driver)) == 25
    first = cards(driver)[0].text
    driver.find_element(By.CLASS_NAME, "later").click()
    assert driver.find_element(By.CLASS_NAME, "shown").text.startswith("26\u201350 of")
    assert cards(driver)[0].text != first
    driver.find_element(By.CLASS_NAME, "earlier").click()
    assert cards(driver)[0].text == first
    assert not driver.find_element(By.CLASS_NAME, "earlier").is_enabled()


def test_filters_find_what_they_say(open_page, page):
    driver = open_page(page)
    asked = samples()
    stand_ins = [sample for sample in asked if sample.task == "stand_ins"]
    choose(driver, "Set", "colours")
    assert count(driver) == 4 * (len(asked) - len(stand_ins))
    choose(driver, "Picture", "blank")
    assert driver.find_element(By.CLASS_NAME, "shown").text == "No answer matches."
    driver.find_element(By.CLASS_NAME, "clear").click()
    assert count(driver) == 4 * len(asked)
    choose(driver, "Category", "recipe")
    assert count(driver) == 4 * sum(sample.category == "recipe" for sample in asked)
    driver.find_element(By.CLASS_NAME, "clear").click()
    choose(driver, "Run", "regap, all runs")
    assert count(driver) == 2 * len(asked)
    choose(driver, "Run", "plain1")
    assert count(driver) == len(asked)
    assert all("plain1" in card.text for card in cards(driver))


def draw(sample):
    return int(hashlib.sha256(sample.request.encode()).hexdigest(), 16) % 100 / 100


def test_verdicts_and_disagreements_are_those_of_the_files(open_page, page):
    driver = open_page(page)
    harmful = [sample for sample in samples() if sample.harmful]
    helped = {share: sum(draw(sample) < share for sample in harmful) for share in (0.9, 0.2)}
    choose(driver, "Verdict: words", "unsafe")
    assert count(driver) == 2 * sum(helped.values())
    assert "words: unsafe" in cards(driver)[0].text.replace("not refused, ", "")
    driver.find_element(By.CLASS_NAME, "clear").click()
    # The strict judge takes two refusals of three for help.
    strict = [
        sample
        for sample in samples()
        if sample.task == "stand_ins"
        and int(hashlib.sha256(sample.id.encode()).hexdigest(), 16) % 3
    ]
    choose(driver, "Disagreement", "judges disagree")
    assert count(driver) == 2 * sum(
        draw(sample) >= share for sample in strict for share in (0.9, 0.2)
    )
    choose(driver, "Disagreement", "runs disagree")
    between = [s for s in samples() if s.task == "stand_ins" and 0.2 <= draw(s) < 0.9]
    assert count(driver) == 4 * len(between)


def test_a_search_and_all_runs_on_one_question(open_page, page):
    driver = open_page(page)
    search = driver.find_element(By.CSS_SELECTOR, "input[type=search]")
    search.send_keys("thing numbered 7.")
    WebDriverWait(driver, 20).until(lambda _: count(driver) == 4 * 4)
    cards(driver)[0].find_element(By.CLASS_NAME, "same").click()
    assert count(driver) == 4
    names = [card.find_element(By.TAG_NAME, "strong").text for card in cards(driver)]
    assert names == ["plain0", "plain1", "regap0", "regap1"]


def test_answers_to_harmful_requests_are_closed_until_opened(open_page, page):
    driver = open_page(page)
    choose(driver, "Verdict: words", "unsafe")
    card = cards(driver)[0]
    assert "Here is how" not in driver.find_element(By.ID, "list").get_attribute("textContent")
    button = card.find_element(By.CLASS_NAME, "open")
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    assert "Here is how it is made." in card.text
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert "Here is how" not in card.get_attribute("textContent")
    driver.find_element(By.CLASS_NAME, "clear").click()
    choose(driver, "Set", "colours")
    assert not driver.find_elements(By.CLASS_NAME, "open")


@pytest.fixture
def attacked(tmp_path):
    """One run whose every text attacks the page."""
    made = samples(1, prompt=f"{ATTACK} {HIDDEN} {{}}")
    asked = [sample for sample in made if sample.harmful is False]
    say = {asked[0].id: ATTACK + HIDDEN, asked[1].id: HUGE}
    run = write_run(
        tmp_path / "run", asked=asked, say=lambda sample: say[sample.id], checkpoint=ATTACK
    )
    return html_of(**{ATTACK[:20]: [run]})


def test_no_text_runs_or_turns_the_page(open_page, attacked):
    driver = open_page(attacked)
    assert driver.execute_script("return window.hit") is None
    assert driver.execute_script("return document.images.length + document.scripts.length") == 2
    shown = driver.find_element(By.ID, "list").get_attribute("textContent")
    assert ATTACK in shown
    assert "[U+202E]right to left[U+2066] tag[U+E0041] nul[U+0000]" in shown
    assert "\u202e" not in driver.page_source
    assert driver.execute_script(
        "return getComputedStyle(document.querySelector('.text')).unicodeBidi"
    ) in ("isolate", "plaintext")


def test_a_huge_answer_is_cut_until_all_of_it_is_asked_for(open_page, attacked):
    driver = open_page(attacked)
    (button,) = [b for b in driver.find_elements(By.CLASS_NAME, "more") if "2,000,000" in b.text]
    length = "return document.getElementById('list').textContent.length"
    assert driver.execute_script(length) < 10_000
    button.click()
    pieces = (
        "return [...document.querySelectorAll('.piece')].map((one) => one.textContent).join('')"
    )
    assert driver.execute_script(pieces) == HUGE


def test_the_policy_stops_markup_and_scripts_that_are_not_the_pages(driver, tmp_path, page):
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    driver.get(path.as_uri())
    refused = driver.execute_script(
        "try { document.body.innerHTML = '<b>x</b>'; return false; } catch (error) { return true; }"
    )
    assert refused
    (policy,) = (
        element.get_attribute("content")
        for element in driver.find_elements(By.CSS_SELECTOR, "meta[http-equiv]")
    )
    path.write_text(page.replace("</main>", f"</main>{ATTACK[9:]}<p style='color:red'>x</p>"))
    driver.get(path.as_uri())
    assert "sha256-" in policy
    assert driver.execute_script("return window.hit") is None
    said = [entry["message"] for entry in driver.get_log("browser")]
    assert any("Content Security Policy" in message for message in said)
    assert count(driver) > 0, "the page's own script runs all the same"


def test_twenty_thousand_answers_keep_the_page_small(open_page, tmp_path):
    asked = samples(4000)
    assert len(asked) == 20_000
    header = header_for(asked, settings={}, environment={})
    responses = [Response(item, answer(item, helps=0.3, right=0.5), "stop") for item in asked]
    judge = WordJudge()
    judgements = judge_batch(judge, [r for r in responses if r.sample.task == "stand_ins"])
    judged = {judge.name: (header, judgements, tuple(judge.metrics))}
    run = PageRun("one", "", tmp_path, header, responses, judged, {})
    driver = open_page(page_html(PageContent("Title", (run,), (), (), ())))
    assert count(driver) == 20_000
    assert driver.execute_script("return document.querySelectorAll('*').length") < 1500
    choose(driver, "Verdict: words", "unsafe")
    assert count(driver) == sum(draw(s) < 0.3 for s in asked if s.harmful)
    assert len(cards(driver)) == 25


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A page with figures, by command."""
    folder = tmp_path_factory.mktemp("whole")
    groups = [
        f"{name}={write_run(folder / name, helps=helps, checkpoint=name)}"
        for name, helps in (("a_group_of_a_rather_long_name", 0.9), ("regap", 0.1))
    ]
    assert main(["compare", *groups, "--html", str(folder / "p.html"), "--resamples", "200"]) == 0
    return folder / "p.html"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(open_page, whole, width):
    driver = open_page(whole, width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    svg = driver.find_elements(By.CSS_SELECTOR, "figure svg")
    assert svg
    assert all(0 < element.size["width"] <= width for element in svg)


def test_nothing_is_fetched(open_page, whole):
    driver = open_page(whole)
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_light_and_dark_have_the_readers_colours(open_page, whole):
    ground = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    light = open_page(whole).execute_script(ground), open_page(whole).execute_script(ink)
    dark = open_page(whole, dark=True)
    dark_colours = dark.execute_script(ground), dark.execute_script(ink)
    numbers = [
        [sum(map(int, colour[4:-1].split(","))) for colour in pair]
        for pair in (light, dark_colours)
    ]
    assert numbers[0][0] > 600 > numbers[0][1]
    assert numbers[1][0] < 150 < numbers[1][1]


def test_print_leaves_the_browser_out(open_page, whole):
    driver = open_page(whole, media="print", dark=True)
    assert not driver.find_element(By.ID, "browser").is_displayed()
    assert driver.find_element(By.CLASS_NAME, "print-only").is_displayed()
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    open_page(whole)
