"""What stands on a page, section by section, before it has a form."""

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.comparable import flat_settings
from regap_benchmarks.comparison import Comparison
from regap_benchmarks.estimation import ALL
from regap_benchmarks.records import Estimate
from regap_benchmarks.report.page.compared_runs import PageRun
from regap_benchmarks.report.page.conclusion import (
    OPEN,
    Conclusion,
    conclude,
    estimate_sentence,
)
from regap_benchmarks.report.page.figure_style import Chart
from regap_benchmarks.report.page.gap_charts import gap_charts, training_charts
from regap_benchmarks.report.page.gap_file import MeasuredGap
from regap_benchmarks.report.page.page_charts import (
    HOW_TO_READ,
    HOW_TO_READ_DIFFERENCES,
    KINDS,
    difference_charts,
    part_charts,
    set_charts,
    trade_off_charts,
)
from regap_benchmarks.report.page.run_estimates import (
    MainMetrics,
    RunEstimate,
    estimate_runs,
    main_of,
    whole,
)
from regap_benchmarks.report.page.side_by_side import agreement_of_runs, judge_table
from regap_benchmarks.report.page.training_log import TrainingLog
from regap_benchmarks.report.tables import Table, comparison_table, estimate_table

_MODELS = 3  # of a group, named on the first screen
_TITLES = dict(zip(KINDS, ("Safety", "Over-refusal", "Utility")))


@dataclass(frozen=True)
class Extras:
    """What a page shows beside the answers.

    Attributes:
        gaps: measured checkpoints.
        logs: trainings.
    """

    gaps: Tuple[MeasuredGap, ...] = ()
    logs: Tuple[TrainingLog, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: for links.
        title: in the page's list of parts.
        text: what it is, in a sentence.
        charts: its figures.
        tables: (title, table); shown when asked for.
    """

    id: str
    title: str
    text: str = ""
    charts: Tuple[Chart, ...] = ()
    tables: Tuple[Tuple[str, Table], ...] = ()


@dataclass(frozen=True)
class PageContent:
    """A page.

    Attributes:
        title: of the page.
        runs: that it is of.
        facts: what was compared, (name, value).
        conclusions: of the first screen.
        sections: in their order.
    """

    title: str
    runs: Tuple[PageRun, ...]
    facts: Tuple[Tuple[str, str], ...]
    conclusions: Tuple[Conclusion, ...]
    sections: Tuple[Section, ...]

    @property
    def notes(self) -> Tuple[str, ...]:
        """What has to be said with every conclusion; each has its own beside these."""
        if len(self.conclusions) < 2:
            return ()
        first, *others = (item.notes for item in self.conclusions)
        return tuple(note for note in first if all(note in other for other in others))

    @property
    def charts(self) -> List[Chart]:
        """All figures."""
        return [chart for section in self.sections for chart in section.charts]


def comparison_content(
    runs: Sequence[PageRun],
    rows: Sequence[Comparison],
    extras: Extras = Extras(),
    *,
    level: float,
    resamples: int,
    seed: int,
) -> PageContent:
    """The page of a comparison.

    Args:
        runs: of all groups.
        rows: of `comparison.compare`, adjusted over all of them.
        extras: gaps and trainings.
        level: of the intervals of single runs.
        resamples: draws of each bootstrap of these.
        seed: of the draws.

    Raises:
        ValueError: see `estimation.estimate`.
    """
    main = main_of(runs)
    estimates = estimate_runs(runs, main, level=level, resamples=resamples, seed=seed)
    kinds = kinds_of(main)
    over_all = [row for row in rows if row.condition == ALL]
    groups = list(dict.fromkeys(run.group for run in runs))
    agreed = agreement_of_runs(runs, main, level=level, resamples=resamples, seed=seed)
    first = Section(
        "differences",
        "Differences",
        HOW_TO_READ_DIFFERENCES,
        tuple(difference_charts(over_all, kinds)),
        (("All comparisons, by picture condition too", comparison_table(rows)),),
    )
    return PageContent(
        f"{', '.join(groups[:-1])} and {groups[-1]} compared",
        tuple(runs),
        _facts(runs),
        tuple(_conclusions(over_all, kinds, len(groups))),
        (first, *_sections(runs, estimates, extras, groups, agreed)),
    )


def side_by_side_content(
    title: str,
    runs: Sequence[PageRun],
    conclusions: Sequence[Conclusion],
    extras: Extras = Extras(),
    *,
    level: float,
    resamples: int,
    seed: int,
) -> PageContent:
    """The page of groups that were asked different questions, and are shown but not compared.

    Args:
        title: of the page.
        runs: of all groups.
        conclusions: what whoever compared them has found.
        extras: gaps and trainings.
        level: of the intervals of single runs.
        resamples: draws of each bootstrap of these.
        seed: of the draws.

    Raises:
        ValueError: see `estimation.estimate`.
    """
    main = main_of(runs)
    estimates = estimate_runs(runs, main, level=level, resamples=resamples, seed=seed)
    groups = list(dict.fromkeys(run.group for run in runs))
    agreed = agreement_of_runs(runs, main, level=level, resamples=resamples, seed=seed)
    sections = _sections(runs, estimates, extras, groups, agreed)
    return PageContent(title, tuple(runs), _facts(runs), tuple(conclusions), tuple(sections))


def run_content(
    run: PageRun, extras: Extras = Extras(), *, level: float, resamples: int, seed: int
) -> PageContent:
    """The page of one run.

    Args:
        run: its group is "".
        extras: gaps and trainings.
        level: of the intervals.
        resamples: draws of each bootstrap.
        seed: of the draws.

    Raises:
        ValueError: see `estimation.estimate`.
    """
    main = main_of([run])
    estimates = estimate_runs([run], main, level=level, resamples=resamples, seed=seed)
    agreed = agreement_of_runs([run], main, level=level, resamples=resamples, seed=seed)
    return PageContent(
        run.name,
        (run,),
        _facts([run]),
        tuple(_of_one_run(estimates, run.name)),
        tuple(_sections([run], estimates, extras, [], agreed)),
    )


def kinds_of(main: MainMetrics) -> Dict[Tuple[str, str, str], str]:
    """The kind of each (task, judge, metric) that the figures show."""
    return {
        (task, judge, metric.name): kind
        for (task, judge), metrics in main.items()
        for kind, metric in metrics.items()
    }


def _conclusions(
    rows: Sequence[Comparison], kinds: Mapping[Tuple[str, str, str], str], groups: int
) -> List[Conclusion]:
    found: List[Optional[Conclusion]] = []
    for pair in dict.fromkeys((row.first.name, row.second.name) for row in rows):
        for kind in KINDS:
            chosen = [
                row
                for row in rows
                if (row.first.name, row.second.name) == pair
                and kinds.get((row.task, row.judge, row.metric)) == kind
            ]
            found.append(conclude(kind, chosen, groups=groups))
    return [item for item in found if item is not None]


def _of_one_run(estimates: Sequence[RunEstimate], name: str) -> List[Conclusion]:
    conclusions = []
    for kind in KINDS:
        rows = [item.row for item in whole(estimates, kind)]
        if not rows:
            continue
        judges = {row.judge for row in rows if row.judge != row.task}
        said = [
            estimate_sentence(row, run=name, with_judge=len(judges) > 1 and row.judge != row.task)
            for row in rows
        ]
        notes = tuple(dict.fromkeys(note for item in said for note in item.notes))
        rest = tuple(said[1:])
        conclusions.append(Conclusion(_TITLES[kind], OPEN, said[0].sentence, rest, notes))
    return conclusions


def _sections(
    runs: Sequence[PageRun],
    estimates: Sequence[RunEstimate],
    extras: Extras,
    groups: Sequence[str],
    agreed: Optional[Table],
) -> List[Section]:
    rates = [
        (f"Estimates of {run.name}", estimate_table(_rows(estimates, run), categories=True))
        for run in runs
    ]
    judges = judge_table(estimates)
    found = [
        Section("sets", "Sets", HOW_TO_READ, tuple(set_charts(estimates)), tuple(rates)),
        Section(
            "pictures",
            "Picture conditions",
            HOW_TO_READ,
            tuple(part_charts(estimates, "condition")),
        ),
        Section("categories", "Categories", HOW_TO_READ, tuple(part_charts(estimates, "category"))),
        Section("trade-off", "Safety against utility", "", tuple(trade_off_charts(estimates))),
        Section(
            "judges",
            "Judges side by side",
            "",
            (),
            tuple(
                (title, table)
                for title, table in (("Rates", judges), ("Agreement", agreed))
                if table is not None
            ),
        ),
        Section("gap", "Modality gap", "", tuple(gap_charts(extras.gaps, groups))),
        Section("training", "Training", "", tuple(training_charts(extras.logs, groups))),
    ]
    return [section for section in found if section.charts or section.tables]


def _rows(estimates: Sequence[RunEstimate], run: PageRun) -> List[Estimate]:
    return [item.row for item in estimates if item.run is run]


def _facts(runs: Sequence[PageRun]) -> Tuple[Tuple[str, str], ...]:
    facts = []
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        models = dict.fromkeys(_model(run) for run in members)
        count = f"{len(members)} run{'s' * (len(members) > 1)}: " if group else ""
        named = list(models)[:_MODELS]
        more = len(models) - len(named)
        named += [f"and {more} more"] * (more > 0)
        facts.append((group or "Model", count + ", ".join(named)))
    cells = [cell for run in runs for cell in run.header.cells]
    facts.append(("Sets", ", ".join(dict.fromkeys(cell.task for cell in cells))))
    facts.append(("Pictures", ", ".join(dict.fromkeys(cell.condition for cell in cells))))
    judges = dict.fromkeys(judge for run in runs for judge in run.judgements)
    tasks = {cell.task for cell in cells}
    facts.append(("Judges", ", ".join(judge for judge in judges if judge not in tasks)))
    asked = sum(run.header.samples for run in runs)
    there = sum(len(run.responses) for run in runs)
    known = f"{there:,} of {asked:,} asked" if there else f"{asked:,} asked, not in the folder"
    facts.append(("Answers", known))
    return tuple((name, value) for name, value in facts if value)


def _model(run: PageRun) -> str:
    settings: Dict[str, Any] = flat_settings(run.header.settings)
    path = run.header.environment.get("model_path")
    known = path or settings.get("model.checkpoint") or settings.get("model.path") or run.name
    kind = settings.get("quantization.kind")
    shown = f", {kind}" if isinstance(kind, str) and kind not in ("none", "Quantization") else ""
    return f"{settings.get('runner', '')}:{known}{shown}".lstrip(":")
