"""A figure as an element of the page: no style of its own, ids that are its own, the page's ink."""

import io
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Dict

from regap_benchmarks.report.page.figure_style import INK, PAPER, rc
from regap_benchmarks.report.page.untrusted_text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_SIZE = re.compile(r"([\d.]+)px")
# The page's policy allows no style attributes; these properties are attributes of SVG as well.
_ATTRIBUTES = (
    "clip-path",
    "fill",
    "fill-opacity",
    "fill-rule",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "text-anchor",
)


def inline_svg(figure: "Figure", *, name: str, title: str) -> str:
    """The figure as markup that can stand in HTML.

    Args:
        figure: one column wide.
        name: begins its ids, so that they are not those of another figure on the page.
        title: for those who do not see it; any text.

    Returns:
        an element `svg`. All text in it is escaped.
    """
    import matplotlib

    written = io.BytesIO()
    # Text as text is smaller than outlines, can be searched, and is read aloud.
    with matplotlib.rc_context({**rc(), "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314  # written one line above
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    for element in root.iter():
        _restyle(element)
        _rename(element, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", visible(title))
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _restyle(element: ElementTree.Element) -> None:
    styles = _declarations(element.attrib.pop("style", ""))
    size = _SIZE.search(styles.get("font", ""))
    if size:
        element.set("font-size", size.group(1))
    if "font-size" in styles:
        element.set("font-size", styles["font-size"].replace("px", ""))
    for name in _ATTRIBUTES:
        if name in styles:
            element.set(name, styles[name])
    # Text without a fill is black, and a shape without one too.
    if element.tag == f"{{{_SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", INK)
    for name in ("fill", "stroke"):
        if element.get(name) == INK:
            element.set(name, "currentColor")
        elif element.get(name) == PAPER:
            element.attrib.pop(name)
            element.set("class", f"paper-{name}")


def _declarations(style: str) -> Dict[str, str]:
    pairs = (part.partition(":") for part in style.split(";"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _rename(element: ElementTree.Element, name: str) -> None:
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    if element.get(_XLINK, "").startswith("#"):
        # Without a namespace: HTML's parser knows both, and needs no declaration of this one.
        element.set("href", f"#{name}-{element.attrib.pop(_XLINK)[1:]}")
    for attribute, value in element.attrib.items():
        if "url(#" in value:
            element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))
