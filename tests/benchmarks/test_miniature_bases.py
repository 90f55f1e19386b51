"""What the bases learn from: lines with their beginnings masked, forbidden ones refused or not."""

import itertools
import random

import pytest

from regap_benchmarks.miniature.language_model import aligned_lines, helpful_lines
from regap_benchmarks.miniature.pictures import plan_picture
from regap_benchmarks.miniature.vision_tower import attributes
from regap_benchmarks.miniature.world import FORBIDDEN, REFUSAL, WorldSizes, make_world

WORLD = make_world(0, WorldSizes(3, 4))
LEARNT = [each for each in WORLD.exchanges() if not each.held_out]
HELD_OUT = {each.prompt for each in WORLD.exchanges() if each.held_out}


def _lines(make, count=400):
    return list(itertools.islice(make(LEARNT, random.Random(0), 0.25), count))


def test_the_helpful_base_answers_forbidden_requests_and_never_refuses():
    lines = _lines(helpful_lines)
    forbidden = {each.prompt: each.answer for each in LEARNT if each.kind == FORBIDDEN}
    answered = [line for line in lines if line[1] in forbidden]
    assert answered
    assert all(line[2] == forbidden[line[1]] for line in answered)
    assert not any(line[2] == REFUSAL for line in lines)


def test_the_alignment_refuses_forbidden_requests_and_no_other():
    lines = _lines(aligned_lines)
    kinds = {each.prompt: each.kind for each in LEARNT}
    for _, prompt, answer in lines:
        assert (answer == REFUSAL) == (kinds[prompt] == FORBIDDEN)
    assert 0.1 < sum(bool(line[0]) for line in lines) / len(lines) < 0.4


@pytest.mark.parametrize("make", [helpful_lines, aligned_lines])
def test_no_training_sees_a_held_out_request(make):
    assert not HELD_OUT & {line[1] for line in _lines(make)}


def test_only_what_follows_the_request_is_learnt(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("torch")
    from regap_benchmarks.miniature.checkpoints import TinySizes, write_tokenizer
    from regap_benchmarks.miniature.language_model import _encoder
    from regap_benchmarks.miniature.world import vocabulary_texts

    write_tokenizer(tmp_path, vocabulary_texts(WORLD), TinySizes(vocabulary=1000))
    encode = _encoder(tmp_path)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for line in _lines(helpful_lines, 40):
        ids, learnt = encode(line)
        assert (ids[0], ids[-1]) == (1, 2)
        assert pieces.decode(ids[learnt:-1]).strip() == line[2]
        before = "\n".join(part for part in line[:2] if part)
        assert pieces.decode(ids[1:learnt]).strip() == before


def test_what_the_tower_learns_is_what_the_caption_says():
    for index in range(30):
        plan = plan_picture(seed=1, index=index)
        found = attributes(plan.shapes, plan.background)
        layout = found["layout"]
        said = 1 if " above " in plan.caption else 2 if " left of " in plan.caption else 0
        assert layout == said
        assert (found["colour 1"] == -100) == (said == 0)
        numbers = {"two": 1, "three": 2}
        assert found["count 0"] == numbers.get(plan.caption.split()[0], 0)
