"""One self-contained page for one annotator: no network, no model's name, others' text as text."""

import base64
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from regap_benchmarks.annotation.labels import LABELS
from regap_benchmarks.records import CUT, Response

EXPORT_SCHEMA = "regap-annotations/1"
# Characters of one text on a page: more would only make a browser slow.
LONGEST_TEXT = 200_000
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PageItem:
    """One answer to label.

    Attributes:
        id: opaque.
        response: the answer with its question.
        pictures: indices into the page's pictures.
    """

    id: str
    response: Response
    pictures: Tuple[int, ...]


def render_page(
    *, project: str, annotator: str, items: Sequence[PageItem], pictures: Sequence[str]
) -> str:
    """The HTML.

    Args:
        project: of the key.
        annotator: name of who labels.
        items: in the order in which they are shown.
        pictures: data URLs.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style = _asset("annotation.css")
    script = _asset("shown_text.js") + _asset("annotation.js")
    document = {
        "project": project,
        "annotator": annotator,
        "export_schema": EXPORT_SCHEMA,
        "labels": [{"name": label.name, "keys": label.keys} for label in LABELS],
        "pictures": list(pictures),
        "items": [_item(item) for item in items],
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    page: str = environment.get_template("annotation.html").render(
        annotator=annotator,
        number=len(items),
        labels=LABELS,
        style=Markup(style),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (our own files)
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(_json(document)),  # noqa: S704  (escaped for HTML by _json)
    )
    return page


def _item(item: PageItem) -> Dict[str, Any]:
    sample = item.response.sample
    meaning = sample.judged_prompt if sample.judged_prompt != sample.prompt else None
    return {
        "id": item.id,
        "prompt": sample.prompt[:LONGEST_TEXT],
        "meaning": (meaning or "")[:LONGEST_TEXT],
        "system": (sample.system or "")[:LONGEST_TEXT],
        "pictures": list(item.pictures),
        "answer": item.response.text[:LONGEST_TEXT],
        "omitted": max(0, len(item.response.text) - LONGEST_TEXT),
        "cut": item.response.finish == CUT,
    }


def _json(document: Dict[str, Any]) -> str:
    """JSON that ends no script element: no angle bracket, ampersand or sign beyond ASCII in it."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def page_order(ids: Sequence[str], annotator: str, seed: int) -> List[str]:
    """The annotator's own order of the ids."""
    order = sorted(ids)
    random.Random(f"annotation order {seed} {annotator}").shuffle(order)
    return order
