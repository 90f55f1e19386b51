"""`regap-bench agreement`: how far judges, and people who labelled, agree."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.commands.interval_arguments import add_intervals
from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.run_folder import RunFolder

_RESAMPLES = 2000


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "agreement",
        help="how far judges, and people who labelled, agree",
        description="Agreement of the judges of one run, or of the people who labelled answers on"
        " the pages of regap-bench annotate with each other and with every judge: share of equal"
        " verdicts, Cohen's kappa, Krippendorff's alpha, with intervals over requests. Of labels"
        " also each run's unsafe rate as they correct it (Rogan-Gladen).",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="RUN|LABELS.json",
        help="folder of one run, or the files that annotators exported",
    )
    parser.add_argument(
        "--judge", metavar="A,B", help="judges to compare (default: all that judged the same tasks)"
    )
    labels = parser.add_argument_group("labels of people")
    labels.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="key.json of regap-bench annotate (default: beside the first file of labels)",
    )
    labels.add_argument(
        "--pool-errors",
        action="store_true",
        help="correct with a judge's sensitivity and specificity over all runs together, supposing"
        " that it errs alike on all of them",
    )
    add_intervals(parser, resamples=_RESAMPLES)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for all numbers")
    parser.set_defaults(run=_agreement)


def _agreement(arguments: argparse.Namespace) -> int:
    wrong = _wrong_usage(arguments)
    if wrong:
        complain(f"regap-bench agreement: {wrong}")
        return WRONG_USAGE
    try:
        of_judges = arguments.paths[0].is_dir()
        document, tables = _of_judges(arguments) if of_judges else _of_people(arguments)
        if arguments.output:
            arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except ImportError as error:
        return complain_of_missing("agreement", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench agreement: {error}")
        return FAILED
    for table in tables:
        say(table)
    return DONE


def _wrong_usage(arguments: argparse.Namespace) -> Optional[str]:
    folders = [path for path in arguments.paths if path.is_dir()]
    if folders and len(arguments.paths) > 1:
        return (
            f"expected the folder of one run, or files of labels, found {len(folders)} folders of"
            f" {len(arguments.paths)} paths. The key names the runs of labels."
        )
    if folders and (arguments.key or arguments.pool_errors):
        return (
            "--key and --pool-errors: expected with files of labels, found with the folder of a"
            " run. Leave them out."
        )
    return None


def _of_judges(arguments: argparse.Namespace) -> Tuple[Any, List[str]]:
    from regap_benchmarks.report.tables import agreement_table, text
    from regap_benchmarks.statistics.agreement import agreement

    found = RunFolder(arguments.paths[0]).read_judgements()
    wanted = names(arguments.judge)
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        raise ValueError(
            f"--judge: expected judges of the run, {', '.join(found)}, found {unknown}. Judge"
            " with them first."
        )
    scorers = {cell.task for header, _, _ in found.values() for cell in header.cells}
    chosen = wanted or [judge for judge in found if judge not in scorers]
    runs = [JudgedRun(judge, found[judge][0], found[judge][1]) for judge in chosen]
    metrics = {metric.name: metric for judge in chosen for metric in found[judge][2]}
    rows = agreement(runs, list(metrics.values()), **_intervals(arguments))
    return [dataclasses.asdict(row) for row in rows], [text(agreement_table(rows))]


def _of_people(arguments: argparse.Namespace) -> Tuple[Any, List[str]]:
    from regap_benchmarks.annotation.corrected_rates import corrected_unsafe_rates
    from regap_benchmarks.annotation.exported_labels import read_labels
    from regap_benchmarks.annotation.key_file import NAME, read_key
    from regap_benchmarks.annotation.labelled_runs import labelled_runs
    from regap_benchmarks.annotation.people_and_judges import agreement_with_people
    from regap_benchmarks.report.annotation_tables import corrected_table, labels_table
    from regap_benchmarks.report.tables import agreement_table, text

    where = arguments.key or arguments.paths[0].parent / NAME
    if not where.is_file():
        raise FileNotFoundError(
            f"{where}: expected the key of the labels, found no file. Name it with --key:"
            " regap-bench annotate wrote it beside the pages."
        )
    key = read_key(where)
    labels = read_labels(arguments.paths, key)
    labelled = labelled_runs(key, where, labels, judges=names(arguments.judge))
    rows = agreement_with_people(labelled, **_intervals(arguments))
    corrected = corrected_unsafe_rates(
        labelled, pooled=arguments.pool_errors, **_intervals(arguments)
    )
    document = {
        "labels": [dataclasses.asdict(each) for each in labels],
        "agreement": [dataclasses.asdict(row) for row in rows],
        "corrected": [dataclasses.asdict(row) for row in corrected],
    }
    tables = [labels_table(labels, len(key.items)), agreement_table(rows)]
    tables.append(corrected_table(corrected, labelled))
    return document, [text(table) for table in tables]


def _intervals(arguments: argparse.Namespace) -> Dict[str, Any]:
    return {
        "level": arguments.level,
        "resamples": arguments.resamples,
        "seed": arguments.seed,
    }
