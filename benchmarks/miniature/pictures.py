"""Captioned pictures without a download: drawn shapes, and the photographs in scikit-image's wheel.

Pillow is imported when the first picture is drawn; listing the photographs imports nothing.
"""

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List, Tuple

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colour = Tuple[int, int, int]
Box = Tuple[int, int, int, int]

COLOURS: Dict[str, Colour] = {
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (40, 70, 220),
    "yellow": (240, 220, 40),
    "purple": (140, 50, 170),
    "orange": (250, 140, 20),
}
BACKGROUNDS: Dict[str, Colour] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
}
KINDS = ("circle", "square", "triangle", "diamond")
COUNT_WORDS = {2: "two", 3: "three"}
# Width, height in pixels. The CLIP processor crops the centre square, so no side is far longer.
SIZES = ((64, 64), (96, 96), (128, 96), (96, 128), (160, 120), (224, 224))


@dataclass(frozen=True)
class Shape:
    """One drawn shape: its kind, the name of its colour, and its box (left, top, right, bottom)."""

    kind: str
    colour: str
    box: Box


@dataclass(frozen=True)
class DrawnPicture:
    """A drawn RGB picture with its caption and what was drawn, in reading order."""

    image: "Image"
    caption: str
    background: str
    shapes: Tuple[Shape, ...]


@dataclass(frozen=True)
class Photograph:
    """A picture file that comes with scikit-image, and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class _Group:
    """Shapes of one kind and colour, side by side."""

    kind: str
    colour: str
    count: int

    def phrase(self) -> str:
        if self.count == 1:
            article = "an" if self.colour[0] in "aeiou" else "a"
            return f"{article} {self.colour} {self.kind}"
        return f"{COUNT_WORDS[self.count]} {self.colour} {self.kind}s"

    def lay_out(self, area: Box) -> List[Shape]:
        left, top, right, bottom = area
        cell = (right - left) / self.count
        side = int(0.8 * min(cell, bottom - top))
        y = (top + bottom - side) // 2
        shapes = []
        for index in range(self.count):
            x = int(left + cell * (index + 0.5) - side / 2)
            shapes.append(Shape(self.kind, self.colour, (x, y, x + side, y + side)))
        return shapes


@dataclass(frozen=True)
class PicturePlan:
    """What a drawn picture holds, before it is drawn.

    Attributes:
        size: width and height in pixels.
        caption: what it shows, in words.
        background: name of its colour.
        shapes: in reading order.
    """

    size: Tuple[int, int]
    caption: str
    background: str
    shapes: Tuple[Shape, ...]


def plan_picture(*, seed: int, index: int) -> PicturePlan:
    """Decide what picture number `index` of the series `seed` shows; see `draw_picture`.

    Raises:
        ValueError: `index` is negative.
    """
    if index < 0:
        raise ValueError(f"index: expected 0 or more, found {index}. Count pictures from 0.")
    rng = random.Random(f"picture {seed} {index}")
    width, height = rng.choice(SIZES)
    background = rng.choice(sorted(BACKGROUNDS))
    first_colour, second_colour = rng.sample(sorted(COLOURS), 2)
    first = _Group(rng.choice(KINDS), first_colour, rng.randint(1, 3))
    second = _Group(rng.choice(KINDS), second_colour, rng.randint(1, 3))
    layout = rng.choice(("alone", "above", "left"))
    if layout == "alone":
        phrase = first.phrase()
        shapes = first.lay_out((0, 0, width, height))
    elif layout == "above":
        phrase = f"{first.phrase()} above {second.phrase()}"
        shapes = first.lay_out((0, 0, width, height // 2))
        shapes += second.lay_out((0, height // 2, width, height))
    else:
        phrase = f"{first.phrase()} to the left of {second.phrase()}"
        shapes = first.lay_out((0, 0, width // 2, height))
        shapes += second.lay_out((width // 2, 0, width, height))
    caption = f"{phrase} on a {background} background"
    return PicturePlan((width, height), caption, background, tuple(shapes))


def draw_picture(*, seed: int, index: int) -> DrawnPicture:
    """Draw picture number `index` of the series `seed`.

    One or two groups of one to three equal shapes on a plain background; of two groups the first
    stands above or to the left of the second, as the caption says. A picture depends on `seed` and
    `index` alone, so a longer series begins with the shorter one.

    Args:
        seed: the series.
        index: the place in it, from 0.

    Returns:
        the picture, 64 to 224 pixels a side.

    Raises:
        ValueError: `index` is negative.
    """
    from PIL import Image, ImageDraw

    plan = plan_picture(seed=seed, index=index)
    image = Image.new("RGB", plan.size, BACKGROUNDS[plan.background])
    canvas = ImageDraw.Draw(image)
    for shape in plan.shapes:
        _draw_shape(canvas, shape)
    return DrawnPicture(image, plan.caption, plan.background, plan.shapes)


def draw_pictures(*, count: int, seed: int) -> Iterator[DrawnPicture]:
    """Draw the first `count` pictures of the series `seed`, one at a time.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count: expected 0 or more, found {count}. Ask for some pictures.")
    return (draw_picture(seed=seed, index=index) for index in range(count))


def _draw_shape(canvas: "ImageDraw", shape: Shape) -> None:
    left, top, right, bottom = shape.box
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    fill = COLOURS[shape.colour]
    if shape.kind == "circle":
        canvas.ellipse(shape.box, fill=fill)
    elif shape.kind == "square":
        canvas.rectangle(shape.box, fill=fill)
    elif shape.kind == "triangle":
        canvas.polygon([(middle_x, top), (right, bottom), (left, bottom)], fill=fill)
    else:
        corners = [(middle_x, top), (right, middle_y), (middle_x, bottom), (left, middle_y)]
        canvas.polygon(corners, fill=fill)


# The wheel ships RGB, RGBA, 8-bit grey and palette files and no 16-bit or 1-bit ones; the other
# pictures of `skimage.data` are fetched on use and are left out, as are its charts and test cards.
_PHOTOGRAPHS = {
    "astronaut.png": "an astronaut in an orange suit in front of a flag and a model of a shuttle",
    "brick.png": "a wall of bricks",
    "camera.png": "a man in a dark coat looks through a camera on a tripod",
    "cell.png": "a bright round cell under a microscope",
    "chelsea.png": "the face of a tabby cat",
    "clock_motion.png": "a blurred photograph of a clock",
    "coffee.png": "a cup of coffee on a red saucer with a spoon",
    "coins.png": "four rows of old coins on a dark background",
    "grass.png": "a patch of grass",
    "gravel.png": "a bed of gravel",
    "horse.png": "the black silhouette of a horse",
    "hubble_deep_field.jpg": "many distant galaxies on a black sky",
    "ihc.png": "a stained tissue sample under a microscope",
    "logo.png": "a round logo with an orange and green snake",
    "microaneurysms.png": "a small grey close-up of blood vessels",
    "moon.png": "craters on the surface of the moon",
    "motorcycle_left.png": "a red motorcycle in a garage",
    "motorcycle_right.png": "a red motorcycle in a garage seen from slightly to the right",
    "no_time_for_that_tiny.gif": "a tiny picture of a person",
    "page.png": "a photographed page of printed text",
    "retina.jpg": "the retina of an eye with its blood vessels",
    "rocket.jpg": "a rocket on its launch pad at dusk",
    "text.png": "handwritten formulas on paper",
}


def photographs() -> List[Photograph]:
    """List the photographs that the installed scikit-image carries, by file name.

    They come in the modes RGB, RGBA, 8-bit grey and palette, 14 to 1411 pixels a side; two of them
    are graphics with transparency, a silhouette and a logo. Nothing is downloaded and scikit-image
    is not imported.

    Raises:
        FileNotFoundError: scikit-image is missing or carries none of them.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "scikit-image: expected the installed package, for the photographs in its wheel, found"
            ' none. Run: pip install "scikit-image<0.26".'
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    found = [
        Photograph(folder / name, caption)
        for name, caption in sorted(_PHOTOGRAPHS.items())
        if (folder / name).is_file()
    ]
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected photographs in scikit-image's installed files, found none."
            ' Run: pip install "scikit-image<0.26".'
        )
    return found
