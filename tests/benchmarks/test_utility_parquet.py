"""The sets in the form of lmms-lab: the same questions, pictures read from the table."""

import io

import pytest

pytest.importorskip("statsmodels", reason="estimates need the extra eval")
pyarrow = pytest.importorskip("pyarrow", reason="parquet needs the extra tables")
image = pytest.importorskip("PIL.Image")

from pyarrow import parquet
from stand_ins.answer_files import run_whole_way, write_json, write_lines
from stand_ins.chat_server import chat_server
from stand_ins.graded_files import EVALUATOR, write_llava_bench, write_mm_vet

from regap_benchmarks.pictures import PictureError, parquet_picture, render
from regap_benchmarks.plugins import load_plugins

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


def _cell(colour):
    file = io.BytesIO()
    image.new("RGB", (8, 8), colour).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": "x.png"}


def _write(path, rows, group=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)


def _write_pope(folder):
    rows = [
        {
            "id": str(number),
            "question_id": str(number),
            "question": f"Is there a {split} thing?",
            "answer": answer,
            "image_source": "COCO_1",
            "image": _cell((number, 0, 0)),
            "category": split,
        }
        for split in ("adversarial", "popular", "random")
        for number, answer in enumerate(["yes", "no"])
    ]
    _write(folder / "POPE" / "data" / "test-00000-of-00002.parquet", rows[:4])
    _write(folder / "POPE" / "data" / "test-00001-of-00002.parquet", rows[4:])


def _write_mme(folder):
    rows = [
        {
            "question_id": f"OCR/{number}.png",
            "image": _cell((0, number, 0)),
            "question": f"Is {answer} right? Please answer yes or no.",
            "answer": answer,
            "category": "OCR",
        }
        for number in range(2)
        for answer in ("Yes", "No")
    ]
    _write(folder / "MME" / "data" / "test-00000-of-00001.parquet", rows)


def _write_scienceqa(folder):
    rows = [
        {"image": _cell((0, 0, 9)), "question": "Q?", "choices": ["x", "y"], "answer": 1},
        {"image": None, "question": "R?", "choices": ["x", "y", "z"], "answer": 2},
    ]
    rows = [{**row, "hint": "H" * number} for number, row in enumerate(rows)]
    _write(folder / "ScienceQA" / "ScienceQA-FULL" / "test-00000-of-00001.parquet", rows)


def _write_mmbench(folder, name="MMBench/en"):
    rows = []
    for index, (options, answer) in enumerate([("xy", "A"), ("yx", "B")]):
        row = {"index": 5 + index * 1_000_000, "question": "Which?", "answer": answer}
        row.update({"hint": "nan" if index else None, "C": None, "D": "nan"})
        row.update(zip("AB", options), category="c", split="dev", source="s")
        rows.append({**row, "L2-category": "l", "image": _cell((0, index, 0))})
    _write(folder / name / "dev-00000-of-00001.parquet", rows)
    if name != "MMBench/en":
        return
    # Another language beside it, which is not read.
    _write(folder / "MMBench" / "cn" / "dev-00000-of-00001.parquet", [{"index": 1}])


def _write_mm_vet(folder):
    rows = [
        {
            "question_id": f"v1_{number}",
            "image": _cell((number, 0, 0)),
            "question": f"Q{number}?",
            "answer": f"a{number}<AND>b",
            "image_source": "web",
            "capability": capability,
        }
        for number, capability in enumerate(["ocr,math", "rec", "rec,gen,know"])
    ]
    _write(folder / "MMVet" / "data" / "test-00000-of-00001.parquet", rows)
    (folder / "MMVet" / "mm-vet_evaluator.py").write_text(EVALUATOR, encoding="utf-8")


def _write_llava_bench(folder):
    base = folder / "llava-bench-in-the-wild"
    rows = [
        {
            "question_id": str(number),
            "question": f"Q{number}?",
            "image": _cell((number, 0, 0)),
            "category": category,
            "image_id": "001.jpg" if number else "000.jpg",
            "caption": "seen",
            "gpt_answer": f"G{number}",
        }
        for number, category in enumerate(["conv", "detail", "complex"])
    ]
    _write(base / "data" / "train-00000-of-00001.parquet", rows)
    rules = {f"llava_bench_{row['category']}": {"role": "R", "prompt": "P"} for row in rows}
    write_json(base / "rule.json", rules)


def _write_seed_bench(folder):
    rows = [
        {
            "question_id": f"{'v' if kind == 'video' else ''}{number}",
            "question": f"Which is {number}?",
            **{f"choice_{letter}": letter * 2 for letter in "abcd"},
            "answer": "ABCD"[number],
            "data_id": f"d{number // 2}",
            "data_type": kind,
            "question_type_id": 10 if kind == "video" else 3,
            "segment": [],
            "image": [_cell((number, frame, 0)) for frame in range(4 if kind == "video" else 1)],
        }
        for number, kind in enumerate(["image", "image", "video"])
    ]
    _write(folder / "SEED-Bench" / "data" / "test-00000-of-00001.parquet", rows)


WRITERS = {
    "pope_head": _write_pope,
    "mme": _write_mme,
    "scienceqa": _write_scienceqa,
    "mmbench_en": _write_mmbench,
    "mm_vet": _write_mm_vet,
    "llava_bench": _write_llava_bench,
    "seed_bench": _write_seed_bench,
}


def _samples(task, folder):
    WRITERS[task](folder)
    return list(load_plugins().benchmarks.get(task).samples(folder))


def test_pope(tmp_path):
    samples = _samples("pope_head", tmp_path)
    assert samples[0].prompt == "Is there a adversarial thing?" + SHORT
    assert [item.references[0] for item in samples] == ["yes", "no"] * 3
    colours = [render(item.pictures[0], tmp_path).getpixel((0, 0))[0] for item in samples]
    assert colours == [0, 1] * 3


def test_mme(tmp_path):
    samples = _samples("mme", tmp_path)
    assert samples[1].prompt == "Is No right?" + SHORT
    assert [item.references[0] for item in samples] == ["yes", "no"] * 2
    assert len({item.request for item in samples}) == 2
    assert render(samples[3].pictures[0], tmp_path).getpixel((0, 0)) == (0, 1, 0)


def test_scienceqa(tmp_path):
    samples = _samples("scienceqa", tmp_path)
    assert samples[0].prompt == "Q?\nA. x\nB. y" + LETTER
    assert samples[1].prompt == "Context: H\nR?\nA. x\nB. y\nC. z" + LETTER
    assert [item.category for item in samples] == ["image", "text"]
    assert [item.references[0] for item in samples] == ["B", "C"]
    assert samples[1].pictures == ()
    part = parquet.read_table(next(tmp_path.rglob("test-*.parquet"))).to_pylist()[:1]
    _write(tmp_path / "ScienceQA" / "ScienceQA-IMG" / "test-00000-of-00001.parquet", part)
    assert list(load_plugins().benchmarks.get("scienceqa").samples(tmp_path)) == samples


@pytest.mark.parametrize("name", ["MMBench/en", "MMBench_EN/data"])
def test_mmbench(tmp_path, name):
    _write_mmbench(tmp_path, name)
    samples = list(load_plugins().benchmarks.get("mmbench_en").samples(tmp_path))
    assert [item.prompt for item in samples] == [
        f"Which?\nA. {first}\nB. {second}{LETTER}" for first, second in ("xy", "yx")
    ]
    assert [item.id for item in samples] == ["5", "1000005"]
    assert {item.request for item in samples} == {"5"}
    assert render(samples[1].pictures[0], tmp_path).getpixel((0, 0)) == (0, 1, 0)
    # The set of July 2023 has other questions.
    with pytest.raises(FileNotFoundError, match="mmbench_dev_20230712"):
        list(load_plugins().benchmarks.get("mmbench").samples(tmp_path))


def test_mm_vet_is_the_official_files(tmp_path):
    found = _samples("mm_vet", tmp_path / "table")
    write_mm_vet(tmp_path / "files")
    official = list(load_plugins().benchmarks.get("mm_vet").samples(tmp_path / "files"))
    for sample, other in zip(found, official):
        assert (sample.id, sample.prompt, sample.category) == (
            *(other.id, other.prompt, other.category),
        )
        assert sample.metadata["rubric"] == other.metadata["rubric"]
    assert found[0].metadata["row"] == ["Q0?", "a0 <AND> b"]
    assert render(found[2].pictures[0], tmp_path / "table").getpixel((0, 0)) == (2, 0, 0)


def test_llava_bench_is_the_official_files(tmp_path):
    found = _samples("llava_bench", tmp_path / "table")
    write_llava_bench(tmp_path / "files")
    context = tmp_path / "files" / "llava-bench-in-the-wild" / "context.jsonl"
    write_lines(context, [{"image": f"00{n}.jpg", "caption": "seen"} for n in range(3)])
    official = list(load_plugins().benchmarks.get("llava_bench").samples(tmp_path / "files"))
    for sample, other in zip(found, official):
        assert (sample.id, sample.prompt, sample.category, sample.metadata) == (
            *(other.id, other.prompt, other.category, other.metadata),
        )
    # The two questions about one picture are one request.
    assert [item.request for item in found] == ["000.jpg", "001.jpg", "001.jpg"]


def test_seed_bench(tmp_path):
    samples = _samples("seed_bench", tmp_path)
    assert samples[0].prompt == f"Which is 0?\nA. aa\nB. bb\nC. cc\nD. dd{LETTER}"
    assert [item.category for item in samples] == [
        *["image/Instance Attributes"] * 2,
        "video/Action Recognition",
    ]
    assert [item.request for item in samples] == ["d0", "d0", "d1"]
    colours = [render(item.pictures[0], tmp_path).getpixel((0, 0)) for item in samples]
    # Of a video the middle frame.
    assert colours == [(0, 0, 0), (1, 0, 0), (2, 2, 0)]


@pytest.mark.parametrize(
    ("column", "value"), [("data_type", "sound"), ("question_type_id", 13), ("answer", "E")]
)
def test_an_unknown_kind_of_question_is_refused(tmp_path, column, value):
    path = tmp_path / "SEED-Bench" / "data" / "test-00000-of-00001.parquet"
    _write_seed_bench(tmp_path)
    rows = parquet.read_table(path).to_pylist()
    rows[1][column] = value
    _write(path, rows)
    with pytest.raises(ValueError, match="row 1: expected a data_type"):
        list(load_plugins().benchmarks.get("seed_bench").samples(tmp_path))


@pytest.mark.parametrize("task", sorted(WRITERS))
def test_the_whole_way(tmp_path, task, monkeypatch, capsys):
    WRITERS[task](tmp_path / "data")
    monkeypatch.setenv("REGAP_GRADER_MODEL", "judge-1")
    with chat_server(lambda n, body: "0.5" if len(body["messages"]) == 1 else "8 6") as (url, _):
        monkeypatch.setenv("REGAP_GRADER_URL", url)
        results, _ = run_whole_way(task, tmp_path / "data", tmp_path / "run", capsys)
    assert results["sample_len"] > 0


def test_what_is_no_table_or_lacks_a_column_is_refused(tmp_path):
    path = tmp_path / "MME" / "data" / "test-00000-of-00001.parquet"
    _write(path, [{"question_id": "1"}])
    with pytest.raises(ValueError, match="expected the columns"):
        list(load_plugins().benchmarks.get("mme").samples(tmp_path))
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a parquet file"):
        list(load_plugins().benchmarks.get("mme").samples(tmp_path))


def test_a_row_that_is_not_there_is_an_error_of_the_picture(tmp_path):
    _write_mme(tmp_path)
    picture = parquet_picture("MME/data/test-00000-of-00001.parquet", row=99, column="image")
    with pytest.raises(PictureError, match="row 99: expected a picture"):
        render(picture, tmp_path)
