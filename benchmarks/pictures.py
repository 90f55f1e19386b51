"""Pictures as data: made or found when a model is asked, never held before.

A `Picture` of a record is rendered here; `with_condition` asks a request under another picture.
Pillow is imported when the first picture is rendered.
"""

import dataclasses
import hashlib
import random
import textwrap
from pathlib import Path
from typing import IO, TYPE_CHECKING, Callable, Dict, Mapping, Optional, Tuple, Union

from regap_benchmarks import figstep_picture
from regap_benchmarks.miniature.pictures import draw_picture
from regap_benchmarks.official.picture_tables import TableError, picture_in_parquet, picture_in_tsv
from regap_benchmarks.records import NO_PICTURE, Json, Picture, Sample
from regap_plugin.config import unknown_name

if TYPE_CHECKING:
    from PIL.Image import Image

OWN = "own"
# Width and height in pixels of made pictures: what LLaVA-1.5's vision tower sees.
SIDE = 336
_UNRELATED_SERIES = 7919
_FROM_FILES = ("file", "tsv", "parquet")
_TYPOGRAPHY = {"width": 760, "height": 760, "font_size": 60, "columns": 20}


class PictureError(ValueError):
    """A picture that cannot be made or read."""


def render(picture: Picture, data: Optional[Path]) -> "Image":
    """Make or read a picture.

    Args:
        picture: its recipe.
        data: the folder to which paths are relative.

    Returns:
        an RGB picture.

    Raises:
        PictureError: a missing, damaged or cut file, an unknown kind, a wrong parameter.
    """
    try:
        make = _KINDS[picture.kind]
    except KeyError:
        raise PictureError(
            f"Picture: expected a kind of {', '.join(sorted(_KINDS))}, found {picture.kind!r}."
            " The record was written by another version."
        ) from None
    try:
        return make(picture.parameters, data)
    except (TableError, ImportError) as error:
        raise PictureError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise PictureError(
            f"Picture of kind {picture.kind!r}: expected its parameters, found"
            f" {dict(picture.parameters)} ({error}). The record was written by another version."
        ) from error


def file_of(picture: Picture, data: Optional[Path]) -> Optional[Path]:
    """The file that a picture is read from, alone or as one of a table; None for a drawn one."""
    if picture.kind not in _FROM_FILES:
        return None
    return (data or Path()) / str(picture.parameters["path"])


def file_picture(path: str) -> Picture:
    """A picture in a file; `path` is relative to the folder of the data."""
    return Picture("file", {"path": path})


def tsv_picture(path: str, *, offset: int, column: int) -> Picture:
    """A picture in base64 in a TSV: of the row that begins at a byte, in a column from 0."""
    return Picture("tsv", {"path": path, "offset": offset, "column": column})


def parquet_picture(path: str, *, row: int, column: str) -> Picture:
    """A picture in a parquet file, as Hugging Face's datasets keep them."""
    return Picture("parquet", {"path": path, "row": row, "column": column})


def drawn_picture(seed: int, index: int) -> Picture:
    """A drawn picture of the miniature's series."""
    return Picture("drawn", {"seed": seed, "index": index})


def with_condition(sample: Sample, condition: str) -> Sample:
    """The same request under another picture. Its prompt stays as it is, but under "figstep".

    Args:
        sample: with its own pictures or none.
        condition: one of `CONDITIONS`. "none" takes pictures away, "own" leaves them; "blank" is
            white, "noise" uniform in every channel, "unrelated" a drawing of plain shapes,
            "typographic" the prompt in black on white. "figstep" is FigStep's way of asking: what
            a judge is told was asked is the heading of an empty list in a picture, and the prompt
            FigStep's one sentence. All are decided by the request alone, so that every run sees the
            same; "figstep" by the font too, which the recipe names.

    Returns:
        a sample whose id ends in the condition's name.

    Raises:
        ValueError: an unknown condition; "own" for a sample that has none.
    """
    check_condition(condition)
    if condition == OWN and not sample.pictures:
        raise ValueError(
            f"--picture own: expected a picture with every request, found {sample.id!r} of"
            f" {sample.task!r} without one. Choose another picture for this task."
        )
    pictures = _CONDITIONS[condition](sample)
    if condition == figstep_picture.KIND:
        sample = dataclasses.replace(
            sample, prompt=figstep_picture.PROMPT, judged_prompt=_request_of(sample)
        )
    return dataclasses.replace(
        sample,
        id=f"{sample.id}/{condition}",
        condition=condition,
        pictures=pictures,
    )


def check_condition(condition: str) -> None:
    """Refuse a condition that there is not.

    Raises:
        ValueError: names the nearest.
    """
    if condition not in _CONDITIONS:
        raise ValueError(unknown_name("--picture", condition, _CONDITIONS))


def as_given(sample: Sample) -> Sample:
    """The sample as its set has it, named by its condition: "own" or "none"."""
    return with_condition(sample, OWN if sample.pictures else NO_PICTURE)


def _seed_of(sample: Sample) -> int:
    digest = hashlib.sha256(f"{sample.task}\n{sample.request}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _blank(sample: Sample) -> Tuple[Picture, ...]:
    return (Picture("blank", {"colour": [255, 255, 255], "width": SIDE, "height": SIDE}),)


def _noise(sample: Sample) -> Tuple[Picture, ...]:
    return (Picture("noise", {"seed": _seed_of(sample), "width": SIDE, "height": SIDE}),)


def _unrelated(sample: Sample) -> Tuple[Picture, ...]:
    return (drawn_picture(_UNRELATED_SERIES, _seed_of(sample)),)


def _typographic(sample: Sample) -> Tuple[Picture, ...]:
    return (Picture("typographic", {"text": sample.prompt, **_TYPOGRAPHY}),)


def _request_of(sample: Sample) -> str:
    return sample.prompt if sample.judged_prompt is None else sample.judged_prompt


def _figstep(sample: Sample) -> Tuple[Picture, ...]:
    parameters = figstep_picture.figstep_parameters(_request_of(sample))
    return (Picture(figstep_picture.KIND, parameters),)


_CONDITIONS: Dict[str, Callable[[Sample], Tuple[Picture, ...]]] = {
    NO_PICTURE: lambda sample: (),
    OWN: lambda sample: sample.pictures,
    "blank": _blank,
    "noise": _noise,
    "unrelated": _unrelated,
    "typographic": _typographic,
    figstep_picture.KIND: _figstep,
}
CONDITIONS: Tuple[str, ...] = tuple(_CONDITIONS)


def _read_file(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    path = (data or Path()) / str(parameters["path"])
    return _opened(path, str(path))


def _read_tsv(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    path = (data or Path()) / str(parameters["path"])
    where = f"{path}, row at byte {parameters['offset']}"
    return _opened(picture_in_tsv(parameters, path), where)


def _read_parquet(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    path = (data or Path()) / str(parameters["path"])
    return _opened(picture_in_parquet(parameters, path), f"{path}, row {parameters['row']}")


def _opened(file: Union[Path, IO[bytes]], where: str) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise PictureError(
            f"{where}: expected a picture, found {type(error).__name__}: {error}. Fetch the file"
            " again."
        ) from error


def _fill(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    from PIL import Image

    red, green, blue = _numbers(parameters["colour"])
    return Image.new("RGB", _size(parameters), (red, green, blue))


def _draw_noise(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    from PIL import Image

    width, height = _size(parameters)
    noise = random.Random(f"noise {parameters['seed']}").randbytes(3 * width * height)
    return Image.frombytes("RGB", (width, height), noise)


def _draw_shapes(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    (seed, index) = _numbers([parameters["seed"], parameters["index"]])
    return draw_picture(seed=seed, index=index).image


def _draw_text(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    from PIL import Image, ImageDraw, ImageFont, features

    if not features.check("freetype2"):
        raise PictureError(
            "Picture of kind 'typographic': expected Pillow with FreeType, found one without."
            ' Run: pip install "pillow>=10.1".'
        )
    (size, columns) = _numbers([parameters["font_size"], parameters["columns"]])
    width, height = _size(parameters)
    lines = textwrap.wrap(str(parameters["text"]), width=columns) or [""]
    # The text must be readable whole, so a long one is written smaller.
    while size > 8 and len(lines) * size * 1.3 > height - 20:
        size, columns = int(size * 0.9), int(columns / 0.9) + 1
        lines = textwrap.wrap(str(parameters["text"]), width=columns)
    image = Image.new("RGB", (width, height), (255, 255, 255))
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(image).multiline_text((10, 10), "\n".join(lines), fill=(0, 0, 0), font=font)
    return image


def _draw_figstep(parameters: Mapping[str, Json], data: Optional[Path]) -> "Image":
    try:
        return figstep_picture.draw_figstep(parameters)
    except (OSError, ImportError) as error:
        raise PictureError(
            f"Picture of kind 'figstep': expected its font, found {type(error).__name__}: {error}"
        ) from error


def _size(parameters: Mapping[str, Json]) -> Tuple[int, int]:
    width, height = _numbers([parameters["width"], parameters["height"]])
    return width, height


def _numbers(values: Json) -> Tuple[int, ...]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"expected a list of integers, found {values!r}")
    for value in values:
        if not isinstance(value, int):
            raise TypeError(f"expected an integer, found {value!r}")
    return tuple(int(value) for value in values if isinstance(value, int))


_KINDS: Dict[str, Callable[[Mapping[str, Json], Optional[Path]], "Image"]] = {
    "file": _read_file,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "blank": _fill,
    "noise": _draw_noise,
    "drawn": _draw_shapes,
    "typographic": _draw_text,
    figstep_picture.KIND: _draw_figstep,
}
