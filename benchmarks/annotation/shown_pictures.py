"""Pictures for a page: rendered, made small enough, and as data URLs."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from regap_benchmarks.pictures import render
from regap_benchmarks.records import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

# Longest side in pixels: more than the models see, and what a screen shows beside a text.
LONGEST_SIDE = 1024
# Drawn pictures and typography are smaller and sharper as PNG, photographs are not.
_MOST_OF_PNG = 120_000
_QUALITY = 85


def data_url(picture: Picture, data: Optional[Path]) -> str:
    """The picture as a PNG where that is small, else as a JPEG.

    Args:
        picture: its recipe.
        data: folder of the official files.

    Raises:
        PictureError: see `pictures.render`.
    """
    image = render(picture, data)
    if max(image.size) > LONGEST_SIDE:
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    encoded, kind = _encode(image, "PNG"), "png"
    if len(encoded) > _MOST_OF_PNG:
        encoded, kind = _encode(image, "JPEG"), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


def _encode(image: "Image", form: str) -> bytes:
    file = io.BytesIO()
    # A new picture: what a file says of its making could name its set.
    plain = image.copy()
    plain.info = {}
    if form == "JPEG":
        plain.save(file, form, quality=_QUALITY)
    else:
        plain.save(file, form, optimize=True)
    return file.getvalue()
