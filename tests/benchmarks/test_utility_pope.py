"""POPE: the rule against its definition, the pairing of labels, both commits, the whole way."""

import random

import pytest

pytest.importorskip("statsmodels", reason="estimates need the extra eval")

from stand_ins.answer_files import (
    DATA,
    needs_data,
    run_whole_way,
    score_file,
    whole,
    write_lines,
)
from stand_ins.choice_files import write_pope

from regap_benchmarks.plugins import load_plugins
from regap_benchmarks.records import Response, Sample
from regap_benchmarks.utility.pope import SPLITS, SUFFIX, says_no


def _answers(path, questions, texts):
    lines = [
        {"question_id": q["question_id"], "prompt": q["text"], "text": t, "metadata": {}}
        for q, t in zip(questions, texts)
    ]
    write_lines(path, lines)
    return path


def _score(folder, answers):
    return score_file("pope", answers, folder)


def _definition(text):
    """The rule in other words: tokens between single spaces of the first sentence."""
    first, _, _ = text.partition(".")
    letters = "".join(letter for letter in first if letter != ",")
    return {"No", "not", "no"}.isdisjoint(letters.split(" "))


@pytest.mark.parametrize(
    ("text", "no"),
    [
        ("Yes", False),
        ("No", True),
        ("no", True),
        ("NO", False),
        ("nO", False),
        ("", False),
        ("no\n", False),
        ("no\nyes", False),
        ("Well no", True),
        ("No, there is none", True),
        ("Yes. No", False),
        (".no", False),
        ("There is not a dog", True),
        ("cannot", False),
        ("Not", False),
        ("nothing", False),
        ("no  dog", True),
        ("\tno", False),
        ("n,o", True),
        ("N\u00f3", False),
        ("no!", False),
    ],
)
def test_the_official_rule(text, no):
    assert says_no(text) is no


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_on_made_up_answers(seed):
    rng = random.Random(seed)
    parts = ["No", "no", "not", "NO", "yes", "Yes", " ", " ", ",", ".", "\n", "dog", "\u00e9"]
    for _ in range(2000):
        text = "".join(rng.choices(parts, k=rng.randint(0, 8)))
        assert says_no(text) is not _definition(text), repr(text)


def test_the_numbers_of_upstreams_script(tmp_path):
    questions = write_pope(tmp_path)
    texts = ["Yes", "No", "Yes", "No"] * 2 + ["Yes", "no", "NO", "Maybe"]
    score = _score(tmp_path, _answers(tmp_path / "a.jsonl", questions, texts))
    own = score.official["as given"]
    assert own["adversarial"] == {
        "accuracy": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "yes_ratio": 0.5,
        "tp": 1,
        "fp": 1,
        "tn": 1,
        "fn": 1,
    }
    # "NO" and "Maybe" are a yes by the rule: right by accident for the last.
    assert own["random"]["tp"] == 2
    assert own["random"]["fp"] == 1
    assert own["mean_f1"] == pytest.approx((0.5 + 0.5 + 0.8) / 3)
    by_name = whole(score)
    assert by_name["mean_f1"].value == pytest.approx(own["mean_f1"])
    assert by_name["accuracy"].value == pytest.approx(7 / 12)
    assert by_name["accuracy"].unparsed == 1
    # Read in any case, "NO" is a no and right; "Maybe" is neither and does not count.
    assert by_name["parsed_accuracy"].value == pytest.approx(7 / 11)
    assert by_name["parsed_accuracy"].n == 11
    assert by_name["parsed_accuracy"].strict == pytest.approx(7 / 12)


def _upstream(questions, rows, labels):
    """What eval_pope.py of LLaVA at 4241f08 computes, written again from its steps.

    Args:
        questions: split by question id.
        rows: (question id, text) in the order of the answer file.
        labels: of each split, in the order of its label file.

    Returns:
        of each split, what it prints; None where it divides by zero.
    """
    found = {}
    for split in SPLITS:
        said = []
        for name, text in rows:
            if questions[name] == split:
                tokens = text[: text.index(".")] if "." in text else text
                tokens = "".join(tokens.split(",")).split(" ")
                said.append(not any(tokens.count(no) for no in ("No", "not", "no")))
        # zip stops at the shorter: answers and labels meet by their place, whatever is missing.
        table = list(zip(said, [label != "no" for label in labels[split]]))
        tp, fp = table.count((True, True)), table.count((True, False))
        tn, fn = table.count((False, False)), table.count((False, True))
        try:
            precision, recall = tp / (tp + fp), tp / (tp + fn)
            f1 = 2 * precision * recall / (precision + recall)
        except ZeroDivisionError:
            f1 = None
        found[split] = {
            "f1": f1,
            "accuracy": (tp + tn) / len(table),
            "yes_ratio": sum(said) / len(said),
            **{"tp": tp, "fp": fp, "tn": tn, "fn": fn},
        }
    return found


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_drawn_answers_have_the_numbers_of_upstreams_script(tmp_path, seed, shuffled):
    rng = random.Random(seed)
    labels = tuple(rng.choice(["yes", "no"]) for _ in range(20))
    questions = write_pope(tmp_path, labels=labels, pictures=False)
    parts = ["No", "no", "not", "NO", "Yes", "yes", " ", " ", " ", ",", ".", "\n", "a", "\u00f1o"]
    rows = [(question, "".join(rng.choices(parts, k=rng.randint(0, 6)))) for question in questions]
    if shuffled:
        rng.shuffle(rows)
    answers = _answers(tmp_path / "a.jsonl", [q for q, _ in rows], [t for _, t in rows])
    score = _score(tmp_path, answers)
    expected = _upstream(
        {question["question_id"]: question["category"] for question in questions},
        [(question["question_id"], text) for question, text in rows],
        dict.fromkeys(SPLITS, labels),
    )
    official = score.official["as given"]
    for split, numbers in expected.items():
        assert {name: official[split][name] for name in numbers} == numbers
    f1s = [numbers["f1"] for numbers in expected.values()]
    assert official["mean_f1"] == (None if None in f1s else sum(f1s) / 3)
    # The estimates go by id: in the file's own order they are upstream's numbers.
    if not shuffled:
        found = whole(score)
        assert found["mean_f1"].value == pytest.approx(official["mean_f1"], abs=1e-12)
        assert found["yes_ratio"].value == pytest.approx(
            sum(numbers["yes_ratio"] for numbers in expected.values()) / 3
        )


@needs_data
@pytest.mark.parametrize("seed", range(2))
def test_drawn_answers_to_the_official_questions_have_upstreams_numbers(tmp_path, seed):
    """The 2910 random questions among them: the splits are not of equal length."""
    rng = random.Random(seed)
    samples = list(load_plugins().benchmarks.get("pope").samples(DATA))
    texts = ["Yes", "No", "no, it is not", "Yes. No", "NO", "", "It does not. Yes", "yes,no"]
    rows = [(sample.id, rng.choice(texts)) for sample in samples]
    lines = [{"question_id": name, "text": text} for name, text in rows]
    score = _score(DATA, write_lines(tmp_path / "a.jsonl", lines))
    labels = {
        split: [sample.references[0] for sample in samples if sample.category == split]
        for split in SPLITS
    }
    expected = _upstream({sample.id: sample.category for sample in samples}, rows, labels)
    official = score.official["as given"]
    for split, numbers in expected.items():
        assert {name: official[split][name] for name in numbers} == numbers
    assert score.counts["empty"] == sum(text == "" for _, text in rows)
    neither = sum(text in ("", "yes,no") for _, text in rows)
    assert score.counts["unparsed"] + score.counts["empty"] == neither


def test_empty_answers_are_a_yes_by_the_rule_and_shown(tmp_path):
    questions = write_pope(tmp_path)
    score = _score(tmp_path, _answers(tmp_path / "a.jsonl", questions, [""] * 12))
    assert score.official["as given"]["random"]["yes_ratio"] == 1
    assert score.counts["empty"] == 12
    assert {item.status for item in score.judgements} == {"empty"}


def test_both_is_unparsed_and_has_a_value():
    scorer = load_plugins().benchmarks.get("pope").scorer()
    sample = Sample("pope", "1", "1", "?", references=("yes",))
    (verdict,) = scorer.judge([Response(sample, "yes and no", "stop")])
    assert verdict.status == "unparsed"
    assert verdict.values == {"said_yes": 0.0, "is_yes": 1.0, "correct": 0.0}


def test_what_upstream_divides_by_zero_for_is_undefined(tmp_path):
    questions = write_pope(tmp_path)
    score = _score(tmp_path, _answers(tmp_path / "a.jsonl", questions, ["no"] * 12))
    own = score.official["as given"]
    assert own["random"]["precision"] is None
    assert own["random"]["recall"] == 0
    assert own["random"]["f1"] is None
    assert own["mean_f1"] is None


def test_answers_in_another_order_are_paired_by_id_and_upstreams_number_is_shown(tmp_path):
    questions = write_pope(tmp_path)
    right = ["yes", "no", "no", "yes"] * 3
    pairs = list(zip(questions, right))[::-1]
    shuffled = _answers(tmp_path / "a.jsonl", [q for q, _ in pairs], [t for _, t in pairs])
    score = _score(tmp_path, shuffled)
    assert all(item.values["correct"] == 1 for item in score.judgements)
    # The labels yes, no, no, yes are the same backwards; with others the rows differ.
    assert score.official["as given"]["random"]["accuracy"] == 1
    assert "12 answers stand in another row" in score.notes[0]
    write_pope(tmp_path, labels=("yes", "no", "no", "no"))
    right = ["yes", "no", "no", "no"] * 3
    pairs = list(zip(questions, right))[::-1]
    shuffled = _answers(tmp_path / "a.jsonl", [q for q, _ in pairs], [t for _, t in pairs])
    score = _score(tmp_path, shuffled)
    assert all(item.values["correct"] == 1 for item in score.judgements)
    assert score.official["as given"]["random"]["accuracy"] == 0.5


def test_a_missing_answer_moves_upstreams_rows_and_is_missing_here(tmp_path):
    questions = write_pope(tmp_path, labels=("yes", "no", "no", "no"))
    right = ["yes", "no", "no", "no"] * 3
    path = _answers(tmp_path / "a.jsonl", questions[1:], right[1:])
    score = _score(tmp_path, path)
    assert score.counts["missing"] == 1
    assert all(item.values["correct"] == 1 for item in score.judgements)
    assert score.official["as given"]["adversarial"]["fn"] == 1
    assert score.notes


@pytest.mark.parametrize("extra", [1, 99])
def test_an_answer_twice_or_to_an_unknown_question_is_refused(tmp_path, extra):
    questions = write_pope(tmp_path)
    more = {**questions[0], "question_id": extra}
    path = _answers(tmp_path / "a.jsonl", [*questions, more], ["yes"] * 13)
    with pytest.raises(ValueError, match=r"expected (one|an) answer"):
        _score(tmp_path, path)


def test_labels_of_another_commit_are_refused(tmp_path):
    write_pope(tmp_path)
    path = tmp_path / "pope" / "coco" / "coco_pope_random.json"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]), encoding="utf-8")
    with pytest.raises(ValueError, match="question of the same row"):
        list(load_plugins().benchmarks.get("pope").samples(tmp_path))
    path.write_text("\n".join([*lines, lines[0]]), encoding="utf-8")
    with pytest.raises(ValueError, match="a label for each of the 4"):
        list(load_plugins().benchmarks.get("pope").samples(tmp_path))


def test_head_asks_the_label_files_own_questions(tmp_path):
    write_pope(tmp_path, typo=False)
    samples = list(load_plugins().benchmarks.get("pope_head").samples(tmp_path))
    assert len(samples) == 12
    assert samples[0].prompt.endswith(SUFFIX)
    write_pope(tmp_path)
    with pytest.raises(ValueError, match="imange"):
        list(load_plugins().benchmarks.get("pope_head").samples(tmp_path))


def test_without_data_the_message_says_what_is_needed():
    with pytest.raises(ValueError, match=r"expected --data.*llava_pope_test\.jsonl"):
        list(load_plugins().benchmarks.get("pope").samples(None))


@pytest.mark.parametrize("task", ["pope", "pope_head"])
def test_the_whole_way_on_stand_in_data(tmp_path, task, capsys):
    write_pope(tmp_path / "data", typo=task == "pope")
    results, scored = run_whole_way(task, tmp_path / "data", tmp_path / "run", capsys)
    assert 0 <= results["accuracy,none"] <= 1
    assert set(scored["official"]["as given"]) == {*SPLITS, "mean_f1"}


@needs_data
def test_the_official_files_of_both_commits():
    benchmarks = load_plugins().benchmarks
    pinned = list(benchmarks.get("pope").samples(DATA))
    assert len(pinned) == 8910
    counts = {split: sum(item.category == split for item in pinned) for split in SPLITS}
    assert counts == {"adversarial": 3000, "popular": 3000, "random": 2910}
    assert sum("imange" in item.prompt for item in pinned) == 246
    head = list(benchmarks.get("pope_head").samples(DATA))
    assert len(head) == 9000
    assert all(item.prompt.endswith(SUFFIX) for item in head)


@needs_data
def test_on_the_official_labels_right_answers_are_all_right(tmp_path):
    samples = list(load_plugins().benchmarks.get("pope").samples(DATA))
    lines = [{"question_id": s.id, "text": s.references[0].capitalize()} for s in samples]
    write_lines(tmp_path / "a.jsonl", lines)
    score = _score(DATA, tmp_path / "a.jsonl")
    assert score.official["as given"]["mean_f1"] == 1
    assert score.counts["missing"] == 0
    assert not score.notes
