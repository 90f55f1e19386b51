"""The page as HTML: whole, of itself alone, and untouched by what models and sets say."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

for package in ("jinja2", "krippendorff", "matplotlib", "scipy", "statsmodels", "tabulate"):
    pytest.importorskip(package)

from stand_ins.judged_runs import samples, write_run

from regap_benchmarks.cli import main

ATTACK = "</script><script>window.hit=1</script><img src=x onerror=hit()>\u202e $x$ & \u2028"
_VOID = {"meta", "br", "input", "img", "link", "hr"}


class Page(HTMLParser):
    """The elements of a page, refused where they are not nested."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, [])
        if tag not in _VOID:
            self.open.append(tag)
            self.texts[tag].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The page and figures of two groups of two runs by two judges."""
    folder = tmp_path_factory.mktemp("compared")
    groups = []
    for group, helps in (("plain", 0.9), ("regap", 0.2)):
        runs = [
            write_run(folder / f"{group}{seed}", seed=seed, helps=helps, judges=("words", "strict"),
                      checkpoint=group)
            for seed in (0, 1)
        ]  # fmt: skip
        groups.append(f"{group}={','.join(map(str, runs))}")
    (folder / "gap.json").write_text(json.dumps(gap_document("plain", "regap")))
    training(folder / "train")
    options = ["--html", str(folder / "page.html"), "--figures", str(folder / "figures")]
    options += ["--gap", str(folder / "gap.json"), "--training", f"regap={folder / 'train'}"]
    assert main(["compare", *groups, "--resamples", "200", *options]) == 0
    return folder


def gap_document(*names):
    layers = [{"layer": layer, "mir_term": 1.0 + layer} for layer in range(4)]
    model = {"pairs": 20, "mir": 1.2, "interval": [1.1, 1.3], "layers": layers}
    model["curve"] = {"10": 1.3, "20": 1.2}
    return {"settings": {"protocol": "official"}, "models": dict.fromkeys(names, model)}


def training(folder):
    folder.mkdir()
    history = [{"step": step, "loss": 3 / step, "regap/gap": 1 / step} for step in range(1, 9)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))


def text_of(folder):
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_for_nothing(compared):
    page = Page(text_of(compared))
    assert {"html", "head", "main", "svg", "table"} <= {tag for tag, _ in page.elements}
    for tag, attrs in page.elements:
        assert not {"src", "style", "srcset", "action"} & set(attrs), (tag, attrs)
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("href", "#").startswith("#"), attrs
    assert not {"link", "iframe", "object", "img", "form"} & {tag for tag, _ in page.elements}
    assert "@import" not in page.texts["style"][0]
    assert "url(" not in page.texts["style"][0]


def test_the_policy_allows_the_pages_own_script_and_style_alone(compared):
    page = Page(text_of(compared))
    (policy,) = (attrs["content"] for attrs in page.of("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    kinds = [attrs.get("type") for attrs in page.of("script")]
    assert kinds == ["application/json", None]
    for directive, text in (
        ("script-src", page.texts["script"][1]),
        ("style-src", page.texts["style"][0]),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_ids_are_each_its_own_and_links_within_the_page_lead_somewhere(compared):
    page = Page(text_of(compared))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {attrs["href"][1:] for _, attrs in page.elements if "href" in attrs}
    clips = set(re.findall(r"url\(#([^)]+)\)", text_of(compared)))
    assert wanted | clips <= set(ids)


def test_the_first_screen_says_what_was_found(compared):
    page = Page(text_of(compared))
    findings = page.texts["article"]
    assert [text.split("\n")[1] for text in findings] == ["Safety", "Over-refusal", "Utility"]
    assert "no difference between regap and plain was shown".lower() in findings[0].lower()
    assert "cannot give a p under" in text_of(compared)
    assert page.texts["h1"] == ["plain and regap compared"]


def test_every_section_has_its_figures(compared):
    page = Page(text_of(compared))
    for name in ("differences", "sets", "pictures", "categories", "trade-off", "judges", "gap",
                 "training", "runs", "answers"):  # fmt: skip
        assert {"id": name}.items() <= dict(next(
            attrs for attrs in page.of("section") if attrs.get("id") == name
        )).items()  # fmt: skip
    assert len(page.of("svg")) == len(page.of("figure")) > 12
    shown = " ".join(page.texts["svg"])
    assert all(word in shown for word in ("unsafe rate (%)", "Fréchet", "regap/gap", "blank"))


def test_runs_have_their_settings_and_hashes(compared):
    text = text_of(compared)
    for group in ("plain", "regap"):
        for file in sorted((compared / f"{group}0").glob("*.jsonl")):
            assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert "decoding.seed" in text


def data_of(folder):
    page = Page(text_of(folder))
    return json.loads(page.texts["script"][0])


def test_every_answer_is_there_with_its_verdicts(compared):
    data = data_of(compared)
    assert data["runs"] == ["plain0", "plain1", "regap0", "regap1"]
    assert data["groups"] == ["plain", "plain", "regap", "regap"]
    assert data["judges"] == ["strict", "words", "set's own rule"]
    assert data["rivals"] == 2
    assert len(data["answers"]) == 4 * len(samples())
    assert len(data["questions"]) == len(samples())
    for question, _, text, _, _, verdicts in data["answers"]:
        row = data["questions"][question]
        assert row[10] == (row[9] is True), "only those to harmful requests are closed"
        own = verdicts[2] if data["tasks"][row[0]] == "colours" else verdicts[1]
        assert own[0] == "scored"
        said = own[1].get("correct", own[1].get("refused"))
        assert said == float(text in ("red", "I cannot do that."))


def test_figures_are_files_in_the_width_of_a_column_with_fonts_inside(compared):
    files = sorted((compared / "figures").iterdir())
    names = {file.stem for file in files}
    assert {"difference-safety-regap-plain", "sets-safety", "gap-layers-official"} <= names
    assert len(files) == 2 * len(names)
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".pdf":
            assert b"/Subtype /Type3" not in content
            assert b"/FontFile2" in content
            (width,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", content)
            assert float(width) == pytest.approx(3.3 * 72)
        else:
            assert b'width="237.6pt"' in content
            assert b"<text" not in content


def test_what_models_sets_and_groups_say_is_never_markup(tmp_path):
    asked = samples(4, prompt=ATTACK + " {}")
    runs = [
        write_run(tmp_path / name, helps=0.5, asked=asked, say=lambda sample: ATTACK, checkpoint=c)
        for name, c in (("a", ATTACK), ("b & <b>", "other"))
    ]
    groups = [f"<i>'\"{ATTACK[:9]}={runs[0]}", f"$\\frac$ \u202e={runs[1]}"]
    out = ["--html", str(tmp_path / "page.html"), "--figures", str(tmp_path / "figures")]
    assert main(["compare", *groups, "--resamples", "100", *out]) == 0
    text = text_of(tmp_path)
    page = Page(text)
    assert len(page.of("script")) == 2
    assert not {"img", "i", "b"} & {tag for tag, _ in page.elements}
    assert not set(text) & set("\u202e\u2028")
    data = json.loads(page.texts["script"][0])
    assert {row[2] for row in data["answers"]} == {ATTACK}
    assert "[U+202E]" in " ".join(page.texts["svg"])


def test_the_page_of_one_run(tmp_path, capsys):
    run = write_run(tmp_path / "run", helps=0.5)
    assert main(["report", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert f"Page: {tmp_path / 'page.html'}" in capsys.readouterr().out
    page = Page(text_of(tmp_path))
    assert page.texts["h1"] == ["run"]
    assert "unsafe rate of run is" in page.texts["article"][0]
    assert "differences" not in [attrs.get("id") for attrs in page.of("section")]


def test_judgements_alone_make_a_page_without_answers(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "responses.jsonl").unlink()
    assert main(["report", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert {row[2] for row in data_of(tmp_path)["answers"]} == {None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gap", "{}/gap.json"], "expected --html or --figures"),
        (["--html", "{}"], "expected a file, found a folder"),
        (["--html", "{}/p.html", "--gap", "{}/none.json"], "No such file"),
        (["--html", "{}/p.html", "--gap", "{}/bad.json"], "expected gap.json as regap-bench gap"),
        (["--html", "{}/p.html", "--gap", "{}/gap.json", "--gap", "{}/gap.json"], "found a again"),
        (["--html", "{}/p.html", "--training", "{}"], "expected the state that the trainer saves"),
        (["--html", "{}/p.html", "--training", "{}/plain"], "expected values named regap/..."),
    ],
)
def test_bad_input_is_refused(tmp_path, capsys, options, message):
    run = write_run(tmp_path / "run")
    (tmp_path / "bad.json").write_text('{"settings": {}}')
    (tmp_path / "gap.json").write_text(json.dumps(gap_document("a")))
    (tmp_path / "plain").mkdir()
    state = {"log_history": [{"step": 1, "loss": 1.0}]}
    (tmp_path / "plain" / "trainer_state.json").write_text(json.dumps(state))
    options = [option.format(tmp_path) for option in options]
    assert main(["report", str(run), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()
    assert not (run / "results.json").exists(), "refused before anything is estimated"


def test_judgements_of_other_answers_are_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    path = run / "responses.jsonl"
    path.write_text(path.read_text().replace("I cannot do that.", "I will not."))
    assert main(["report", str(run), "--html", str(tmp_path / "p.html")]) == 1
    assert "expected judgements of the answers" in capsys.readouterr().err
