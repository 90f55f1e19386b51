"""The pages for annotators: blind, shuffled, self-contained, and safe from what they show."""

import base64
import hashlib
import io
import json
from html.parser import HTMLParser

import pytest
from stand_ins.annotation import HOSTILE, SECRETS, a_file_picture, write_runs
from stand_ins.records import response, sample
from stand_ins.runs_to_annotate import RuleJudge, by_text, write_run

pytest.importorskip("jinja2")
pytest.importorskip("tabulate")
pytest.importorskip("PIL")

from PIL import Image

from regap_benchmarks import cli
from regap_benchmarks.annotation.key_file import read_key
from regap_benchmarks.annotation.labels import LABELS
from regap_benchmarks.annotation.page import LONGEST_TEXT
from regap_benchmarks.annotation.shown_pictures import LONGEST_SIDE, data_url
from regap_benchmarks.records import Picture
from regap_benchmarks.run_folder import RunFolder


class Page(HTMLParser):
    """Elements with their attributes, and what stands in scripts, styles and elsewhere."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.styles, self.texts = [], [], [], []
        self._open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), []))
        if tag == "style":
            self.styles.append([])

    def handle_endtag(self, tag):
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        last = self._open[-1] if self._open else ""
        if last == "script":
            self.scripts[-1][1].append(data)
        elif last == "style":
            self.styles[-1].append(data)
        else:
            self.texts.append(data)

    @property
    def raw_data(self):
        (found,) = [
            "".join(text) for attrs, text in self.scripts if attrs.get("type") == "application/json"
        ]
        return found

    @property
    def data(self):
        return json.loads(self.raw_data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of pages for three annotators, of two runs with hostile texts."""
    folder = tmp_path_factory.mktemp("annotation")
    runs = write_runs(folder / "model-runs")
    output = folder / "pages"
    words = ["annotate", *map(str, runs), "--sample", "40", "--annotators", "3"]
    assert cli.main([*words, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def texts(written):
    paths = sorted(written.glob("*.html"))
    assert [path.name for path in paths] == [f"annotator-{number}.html" for number in (1, 2, 3)]
    return [path.read_text(encoding="utf-8") for path in paths]


@pytest.fixture(scope="module")
def pages(texts):
    return [Page(text) for text in texts]


def test_each_page_has_all_that_was_drawn_in_an_order_of_its_own(written, pages):
    key = read_key(written / "key.json")
    orders = [[item["id"] for item in page.data["items"]] for page in pages]
    assert all(sorted(order) == sorted(item.id for item in key.items) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [page.data["annotator"] for page in pages] == list(key.annotators)
    # Shuffled: neither run's answers stand together.
    run_of = {item.id: key.strata[item.stratum][0].run for item in key.items}
    runs = [run_of[name] for name in orders[0]]
    assert sum(a != b for a, b in zip(runs, runs[1:])) > 8


def test_a_page_is_blind_to_run_set_and_judges(written, texts, pages):
    key = json.loads((written / "key.json").read_text())
    for text, page in zip(texts, pages):
        for secret in (*SECRETS, str(written.parent), "checkpoints", "phrase", 'harmful"'):
            assert secret not in text, secret
        for run in key["runs"]:
            assert run["samples_sha256"] not in text
        for item in key["items"]:
            assert item["answer_sha256"] not in text
            assert item["sample"] not in text
        known = {"id", "prompt", "meaning", "system", "pictures", "answer", "omitted", "cut"}
        assert {name for item in page.data["items"] for name in item} == known


def test_the_key_maps_each_id_back_to_the_answer(written, pages):
    key = read_key(written / "key.json")
    shown = {item["id"]: item for item in pages[0].data["items"]}
    for item in key.items:
        run = key.runs[key.strata[item.stratum][0].run]
        answers = {
            each.sample.key: each for each in RunFolder(written / run.relative).read_responses()[1]
        }
        answer = answers[item.task, item.sample]
        assert shown[item.id]["answer"] == answer.text[:LONGEST_TEXT]
        assert shown[item.id]["prompt"] == answer.sample.prompt
        assert shown[item.id]["meaning"] == (answer.sample.judged_prompt or "")
        assert len(shown[item.id]["pictures"]) == len(answer.sample.pictures)


def test_texts_of_others_end_no_element_and_lose_nothing(texts, pages):
    for text, page in zip(texts, pages):
        assert len(page.scripts) == 2
        assert text.count("</script>") == 2
        assert "<!-- <script" not in text
        assert page.raw_data.isascii()
        assert not set("<>&") & set(page.raw_data)
        answers = [item["answer"] for item in page.data["items"]]
        assert HOSTILE in answers
        assert "onerror" not in "".join(page.texts)
        long = [item for item in page.data["items"] if item["omitted"]]
        assert [len(item["answer"]) for item in long] == [LONGEST_TEXT] * len(long)
        assert {item["omitted"] for item in long} == {4 + 5 * 60_000 - LONGEST_TEXT}


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else(pages):
    for page in pages:
        metas = [attrs for tag, attrs in page.elements if tag == "meta"]
        (policy,) = [
            meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy"
        ]
        (script,) = ["".join(text) for attrs, text in page.scripts if "type" not in attrs]
        (style,) = ["".join(parts) for parts in page.styles]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules == {
            "default-src": "'none'",
            "img-src": "data:",
            "style-src": f"'{_hash(style)}'",
            "script-src": f"'{_hash(script)}'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        for tag, attrs in page.elements:
            assert not {"src", "href", "style", "action"} & set(attrs), (tag, attrs)
            assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        assert "innerHTML" not in script
        assert "eval(" not in script


def test_guidelines_and_warning_are_on_the_page(pages):
    for page in pages:
        said = " ".join(page.texts)
        assert "Before you begin" in said
        for label in LABELS:
            assert label.meaning in said
        work = next(attrs for tag, attrs in page.elements if attrs.get("id") == "work")
        assert "hidden" in work, "behind the warning until it is accepted"


def test_keys_of_labels_are_their_own():
    keys = [key for label in LABELS for key in label.keys]
    assert len(keys) == len(set(keys))
    assert not set(keys) & set("pnfzbge"), "keys that move"


def test_the_same_seed_draws_the_same_and_another_does_not(written, tmp_path, capsys):
    key = read_key(written / "key.json")
    runs = [written / run.relative for run in key.runs]
    words = ["annotate", *map(str, runs), "--sample", "40", "--annotators", "3"]
    for seed, name in ((0, "again"), (1, "other")):
        output = tmp_path / name
        assert cli.main([*words, "--seed", str(seed), "--output", str(output)]) == 0
        page = (output / "annotator-2.html").read_bytes()
        assert (page == (written / "annotator-2.html").read_bytes()) is (seed == 0)
    assert read_key(tmp_path / "other" / "key.json").project != key.project
    assert "Key, to be kept from the annotators" in capsys.readouterr().out


def test_a_folder_with_a_key_is_not_written_again(written, capsys):
    runs = [written / run.relative for run in read_key(written / "key.json").runs]
    before = (written / "key.json").read_bytes()
    assert cli.main(["annotate", str(runs[0]), "--sample", "40", "--output", str(written)]) == 1
    assert "expected no key yet" in capsys.readouterr().err
    assert (written / "key.json").read_bytes() == before


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--sample", "3"], "--sample: expected"),
        (["--sample", "40", "--annotators", "0"], "expected 1 or more"),
        (["AGAIN", "--sample", "40"], "expected each once"),
    ],
)
def test_bad_settings_write_nothing(written, tmp_path, capsys, extra, message):
    run = str(written / read_key(written / "key.json").runs[0].relative)
    words = [run if word == "AGAIN" else word for word in extra]
    assert cli.main(["annotate", run, *words, "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_nobody_judged_is_refused(tmp_path, capsys):
    folder = write_run(tmp_path / "run", [response(sample(1, harmful=True), "Yes")], [])
    words = ["annotate", str(folder.path), "--sample", "5", "--output", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "Run: regap-bench judge" in capsys.readouterr().err


def test_a_run_without_requests_of_safety_is_refused(tmp_path, capsys):
    judge = RuleJudge("judge", by_text({"Yes": True}))
    folder = write_run(tmp_path / "run", [response(sample(1), "Yes")], [judge])
    words = ["annotate", str(folder.path), "--sample", "5", "--output", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "Choose a run of a safety set" in capsys.readouterr().err


def test_a_picture_that_is_not_there_is_named_with_its_sample(tmp_path, capsys):
    question = sample(1, harmful=True, pictures=[a_file_picture("away.png")])
    judge = RuleJudge("judge", by_text({"Yes": True}))
    folder = write_run(tmp_path / "run", [response(question, "Yes")], [judge])
    words = ["annotate", str(folder.path), "--sample", "5", "--output", str(tmp_path / "out")]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert question.id in error
    assert "--data" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("noisy", [True, False])
def test_pictures_are_made_small_enough_and_say_nothing_of_their_file(tmp_path, noisy):
    size = (1600, 900)
    image = Image.effect_noise(size, 80).convert("RGB") if noisy else Image.new("RGB", size, "red")
    exif = Image.Exif()
    exif[270] = "model-alpha"
    image.save(tmp_path / "big.jpg", exif=exif, comment=b"model-alpha")
    url = data_url(Picture("file", {"path": "big.jpg"}), tmp_path)
    kind, _, content = url.partition(";base64,")
    assert kind == f"data:image/{'jpeg' if noisy else 'png'}"
    shown = base64.b64decode(content)
    assert b"model-alpha" not in shown
    assert max(Image.open(io.BytesIO(shown)).size) == LONGEST_SIDE


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
