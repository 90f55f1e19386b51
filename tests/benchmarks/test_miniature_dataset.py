"""The data sets have the keys and forms that LLaVA's trainer reads."""

import json

import pytest

from regap_benchmarks.miniature.dataset import (
    CAPTION_PROMPT,
    dataset_texts,
    write_captions,
    write_conversations,
)
from regap_benchmarks.miniature.pictures import draw_picture, photographs

Image = pytest.importorskip("PIL.Image", reason="drawing needs Pillow: pip install pillow")


def _samples(files):
    return json.loads(files.data_path.read_text())


def test_captions_have_the_form_of_stage_1(tmp_path):
    files = write_captions(tmp_path, count=5, seed=1)
    samples = _samples(files)
    assert files.samples == len(samples) == 5
    for index, sample in enumerate(samples):
        assert set(sample) == {"id", "image", "conversations"}
        human, answer = sample["conversations"]
        assert human == {"from": "human", "value": CAPTION_PROMPT}
        assert answer == {"from": "gpt", "value": draw_picture(seed=1, index=index).caption}
        with Image.open(files.image_folder / sample["image"]) as image:
            drawn = draw_picture(seed=1, index=index).image
            assert image.tobytes() == drawn.tobytes()
    assert len({sample["id"] for sample in samples}) == 5


def test_photographs_are_appended_as_they_are(tmp_path):
    pytest.importorskip("skimage", reason="the photographs come with it: pip install scikit-image")
    files = write_captions(tmp_path, count=2, seed=0, with_photographs=True)
    samples = _samples(files)
    assert files.samples == 2 + len(photographs())
    for photograph, sample in zip(photographs(), samples[2:]):
        copied = files.image_folder / sample["image"]
        assert copied.read_bytes() == photograph.path.read_bytes()
        assert sample["conversations"][1]["value"] == photograph.caption


def test_conversations_mix_pictures_and_text_only(tmp_path):
    files = write_conversations(tmp_path, count=9, seed=2)
    samples = _samples(files)
    with_picture = [sample for sample in samples if "image" in sample]
    text_only = [sample for sample in samples if "image" not in sample]
    assert (len(with_picture), len(text_only)) == (6, 3)
    for sample in samples:
        roles = [turn["from"] for turn in sample["conversations"]]
        assert roles == ["human", "gpt"] * (len(roles) // 2)
    for sample in with_picture:
        assert (files.image_folder / sample["image"]).is_file()
        values = [turn["value"] for turn in sample["conversations"]]
        assert values[0].startswith("<image>\n")
        assert sum(value.count("<image>") for value in values) == 1
    for sample in text_only:
        assert "<image>" not in json.dumps(sample)


def test_a_seed_decides_the_files(tmp_path):
    for write in (write_captions, write_conversations):
        first = write(tmp_path / "first", count=6, seed=5)
        second = write(tmp_path / "second", count=6, seed=5)
        other = write(tmp_path / "other", count=6, seed=6)
        assert first.data_path.read_bytes() == second.data_path.read_bytes()
        assert first.data_path.read_bytes() != other.data_path.read_bytes()


def test_the_texts_are_listed_once_and_without_markers(tmp_path):
    texts = dataset_texts(write_captions(tmp_path, count=5, seed=1))
    assert texts[0] == "Provide a one-sentence caption for the provided image."
    assert texts[1] == draw_picture(seed=1, index=0).caption
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("write", [write_captions, write_conversations])
def test_an_empty_data_set_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match="count: expected 1 or more, found 0"):
        write(tmp_path, count=0, seed=0)
