"""The drawn pictures show what their captions say, and the photographs load."""

import re
from typing import Set, Tuple

import pytest

from regap_benchmarks.miniature.pictures import (
    BACKGROUNDS,
    COLOURS,
    COUNT_WORDS,
    KINDS,
    SIZES,
    DrawnPicture,
    draw_picture,
    draw_pictures,
    photographs,
)

Image = pytest.importorskip("PIL.Image", reason="drawing needs Pillow: pip install pillow")

COUNT = 60


def _colours_of(image) -> Set[Tuple[int, ...]]:
    raw = image.tobytes()
    return {tuple(raw[start : start + 3]) for start in range(0, len(raw), 3)}


def _middle_of(box: Tuple[int, int, int, int]) -> Tuple[int, int]:
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2


@pytest.fixture(scope="module")
def pictures():
    return list(draw_pictures(count=COUNT, seed=3))


def test_a_seed_decides_the_pictures(pictures):
    again = list(draw_pictures(count=COUNT, seed=3))
    assert [p.caption for p in again] == [p.caption for p in pictures]
    assert [p.image.tobytes() for p in again] == [p.image.tobytes() for p in pictures]


def test_a_longer_series_begins_with_the_shorter_one(pictures):
    assert draw_picture(seed=3, index=5).image.tobytes() == pictures[5].image.tobytes()


def test_another_seed_draws_other_pictures(pictures):
    other = [p.caption for p in draw_pictures(count=COUNT, seed=4)]
    assert other != [p.caption for p in pictures]


def test_sizes_and_arrangements_vary(pictures):
    assert {p.image.size for p in pictures} == set(SIZES)
    assert any(" above " in p.caption for p in pictures)
    assert any(" to the left of " in p.caption for p in pictures)
    assert {shape.kind for p in pictures for shape in p.shapes} == set(KINDS)


def test_the_picture_holds_exactly_the_colours_that_the_caption_names(pictures):
    for picture in pictures:
        words = set(re.findall(r"[a-z]+", picture.caption))
        named = {COLOURS[word] for word in words & set(COLOURS)}
        background = {BACKGROUNDS[word] for word in words & set(BACKGROUNDS)}
        assert len(background) == 1
        assert _colours_of(picture.image) == named | background, picture.caption


def test_every_shape_stands_where_it_is_recorded(pictures):
    for picture in pictures:
        for shape in picture.shapes:
            left, top, right, bottom = shape.box
            assert 0 <= left < right <= picture.image.width
            assert 0 <= top < bottom <= picture.image.height
            assert picture.image.getpixel(_middle_of(shape.box)) == COLOURS[shape.colour]


def _described(picture: DrawnPicture) -> str:
    """Build the caption anew from the recorded shapes alone."""
    groups = []
    for shape in picture.shapes:
        if groups and (groups[-1][0].kind, groups[-1][0].colour) == (shape.kind, shape.colour):
            groups[-1].append(shape)
        else:
            groups.append([shape])
    phrases = []
    for group in groups:
        name = f"{group[0].colour} {group[0].kind}"
        if len(group) == 1:
            phrases.append(f"{'an' if name.startswith('orange') else 'a'} {name}")
        else:
            phrases.append(f"{COUNT_WORDS[len(group)]} {name}s")
    if len(groups) == 1:
        relation = ""
    elif groups[0][0].box[3] <= groups[1][0].box[1]:
        relation = " above "
    else:
        assert groups[0][-1].box[2] <= groups[1][0].box[0]
        relation = " to the left of "
    return f"{relation.join(phrases)} on a {picture.background} background"


def test_the_caption_follows_from_the_shapes(pictures):
    for picture in pictures:
        assert picture.caption == _described(picture)


def test_shapes_do_not_overlap(pictures):
    for picture in pictures:
        boxes = [shape.box for shape in picture.shapes]
        for number, one in enumerate(boxes):
            for other in boxes[number + 1 :]:
                apart_x = one[2] <= other[0] or other[2] <= one[0]
                apart_y = one[3] <= other[1] or other[3] <= one[1]
                assert apart_x or apart_y, picture.caption


def test_a_negative_index_or_count_is_refused():
    with pytest.raises(ValueError, match="index: expected 0 or more, found -1"):
        draw_picture(seed=0, index=-1)
    with pytest.raises(ValueError, match="count: expected 0 or more, found -2"):
        draw_pictures(count=-2, seed=0)


def test_the_photographs_load_in_several_modes_and_sizes():
    pytest.importorskip("skimage", reason="the photographs come with it: pip install scikit-image")
    modes, sizes = set(), set()
    for photograph in photographs():
        with Image.open(photograph.path) as image:
            image.load()
            modes.add(image.mode)
            sizes.add(image.size)
            assert image.convert("RGB").size == image.size
        assert photograph.caption
        assert photograph.caption == photograph.caption.strip().lower()
    assert {"RGB", "RGBA", "L"} <= modes
    assert len(sizes) > 5


def test_missing_photographs_are_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install"):
        photographs()
