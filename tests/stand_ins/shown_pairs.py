"""Pairs for the sources of hidden states, and how states are compared."""

import json
import math

import torch
from PIL import Image

from regap_benchmarks.gap.states import ShownPair

TEXTS = (
    "a cat",
    "red circles above a square: a cat, a cat",
    "Count.",
    "in the picture 7 and x",
)
# Of the largest magnitude at a layer: float32 sums in another order.
RELATIVE = 1e-5


def shown_pairs(texts=TEXTS):
    """Texts of different lengths, pictures of different shapes and contents."""
    pairs = []
    for number, text in enumerate(texts):
        generator = torch.Generator().manual_seed(number)
        size = (20 + 9 * number, 34 - 5 * number)
        pixels = torch.randint(256, (3 * size[0] * size[1],), generator=generator)
        picture = Image.frombytes("RGB", size, bytes(pixels.tolist()))
        pairs.append(ShownPair(f"pair-{number}", picture, text))
    return pairs


def assert_close(found, expected):
    """Equal shapes, and values up to the rounding of float32."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= RELATIVE * expected.abs().max()


def assert_states(found, states, image_rows, text_rows):
    """The states of one pair against the rows of a forward of its own.

    states: by layer, [T, d]; image_rows, text_rows: positions.
    """
    assert set(found.image) == set(found.text) == set(range(len(states)))
    for layer, rows in enumerate(states):
        assert_close(found.image[layer], rows[image_rows])
        assert_close(found.text[layer], rows[text_rows])


def assert_independent_of_batches(source, protocol):
    """Alone, together, in another order and layer by layer: the same."""
    pairs, layers = shown_pairs(), range(source.layers + 1)
    alone = [source.states([pair], protocol, layers)[0] for pair in pairs]
    together = source.states(pairs, protocol, layers)
    turned = source.states(pairs[::-1], protocol, layers)[::-1]
    assert len({len(each.text[0]) for each in alone}) > 2  # so that there is padding
    for single, *others in zip(alone, together, turned):
        for other in others:
            for layer in layers:
                assert_close(other.image[layer], single.image[layer])
                assert_close(other.text[layer], single.text[layer])
    (last,) = source.states(pairs[:1], protocol, [source.layers])
    assert set(last.image) == set(last.text) == {source.layers}
    assert torch.equal(last.text[source.layers], alone[0].text[source.layers])
    assert not torch.equal(alone[0].image[0], alone[1].image[0])


def write_pairs(folder):
    """The pairs as a folder of pictures and a file of texts, for `regap-bench gap`."""
    images = folder / "images"
    images.mkdir()
    for pair in shown_pairs():
        pair.image.save(images / f"{pair.id}.png")
    texts = folder / "texts.txt"
    texts.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return images, texts


def assert_measured(output, *, image_tokens):
    """What `regap-bench gap` wrote into the folder for one checkpoint."""
    (found,) = json.loads((output / "gap.json").read_text(encoding="utf-8"))["models"].values()
    assert found["pairs"] == len(TEXTS)
    terms = [layer["mir_term"] for layer in found["layers"]]
    assert min(terms) > 0
    assert math.isclose(found["mir"], math.log10(sum(terms[1:])), rel_tol=1e-12)
    assert found["interval"][0] < found["mir"] < found["interval"][1]
    assert {layer["image_tokens"] for layer in found["layers"]} == {len(TEXTS) * image_tokens}
    assert (output / "gap.png").stat().st_size > 0
    assert len((output / "gap.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(terms)
