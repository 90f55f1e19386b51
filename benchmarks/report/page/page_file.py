"""The page as one HTML file, which opens from the disk and asks nothing of a network."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from regap_benchmarks.comparable import flat_settings
from regap_benchmarks.report.page.answer_data import OWN_SCORER, answer_document
from regap_benchmarks.report.page.compared_runs import PageRun
from regap_benchmarks.report.page.figure_style import Chart, save
from regap_benchmarks.report.page.inline_svg import inline_svg
from regap_benchmarks.report.page.page_charts import file_name
from regap_benchmarks.report.page.page_content import PageContent
from regap_benchmarks.report.page.untrusted_text import HIDDEN, script_json, visible
from regap_benchmarks.report.tables import Table
from regap_plugin import __version__

_TEMPLATES = Path(__file__).parent / "templates"
_ABSENT = "\u2013"


def page_html(page: PageContent) -> str:
    """The page.

    Its policy lets run only the script and the style that it brings, known by their hashes, lets
    no text become markup in the script, and lets nothing be loaded.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        return visible(value) if type(value) is str else value

    templates = Environment(
        autoescape=True,
        finalize=plain,
        loader=FileSystemLoader(_TEMPLATES),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    style, script = _read("report.css"), _read("report.js")
    document = answer_document(page.runs)
    judges = document["judges"]
    assert isinstance(judges, list)
    document["rivals"] = len([judge for judge in judges if judge != OWN_SCORER])
    document["hidden"] = HIDDEN
    # Markup is ours: package data, figures with escaped text, JSON without a character of markup.
    html: str = templates.get_template("report.html").render(
        page=page,
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        data=Markup(script_json(document)),  # noqa: S704
        svg={
            chart: Markup(inline_svg(chart.figure, name=name, title=chart.title))  # noqa: S704
            for name, chart in _named(page.charts).items()
        },
        differing=_differing(page.runs),
        settings=[_settings(run) for run in page.runs],
        made=f"Made by regap-plugin {__version__}.",
    )
    return html


def write_page(page: PageContent, path: Path) -> None:
    """Write it.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The policy's hashes are of lines that end in a newline alone.
    path.write_bytes(page_html(page).encode("utf-8"))


def write_figures(page: PageContent, folder: Path) -> List[Path]:
    """Write each figure as SVG and PDF, one column wide.

    Raises:
        OSError: the folder cannot be written.
    """
    return save(_named(page.charts), folder)


def _named(charts: Sequence[Chart]) -> Dict[str, Chart]:
    """By a name that is a file's and its own."""
    found: Dict[str, Chart] = {}
    for chart in charts:
        name = base = file_name(chart.name)
        number = 2
        while name.lower() in map(str.lower, found):
            name, number = f"{base}-{number}", number + 1
        found[name] = chart
    return found


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _settings(run: PageRun) -> List[Tuple[str, str]]:
    found = [(name, _said(value)) for name, value in flat_settings(run.header.settings).items()]
    found += [(name, _said(value)) for name, value in flat_settings(run.header.environment).items()]
    for judge, (header, _, _) in run.judgements.items():
        settings = (header.judge or {}).get("settings")
        if isinstance(settings, dict):
            found += [
                (f"{judge}: {name}", _said(value))
                for name, value in flat_settings(settings).items()
            ]
    return found


def _differing(runs: Sequence[PageRun]) -> Table:
    flat = [flat_settings(run.header.settings) for run in runs]
    keys = [
        key
        for key in dict.fromkeys(key for settings in flat for key in settings)
        if len({_said(settings.get(key, _ABSENT)) for settings in flat}) > 1
    ]
    return Table(
        ("Setting:", *(f"{run.name}:" for run in runs)),
        tuple((key, *(_said(each.get(key, _ABSENT)) for each in flat)) for key in keys),
    )


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
