"""`regap-bench score`: score a file of answers, upstream's or a run's, without a model."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

from regap_benchmarks.commands import grader_arguments
from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    GAPS,
    WRONG_USAGE,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.judging import JudgeError
from regap_benchmarks.plugins import PluginError, load_plugins
from regap_benchmarks.progress import ProgressLine
from regap_benchmarks.record_file import RecordFileError

if TYPE_CHECKING:
    from regap_benchmarks.records import Estimate
    from regap_benchmarks.scoring import Score

_FORMATS = ("regap", "llava")
_LEVEL, _RESAMPLES, _SEED = 0.95, 2000, 0


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "score",
        help="score a file of answers, upstream's or a run's",
        description="Score the answers to TASK in FILE by the set's own rules, without a model."
        " Official numbers are what upstream's scorer prints; the table beside them has intervals,"
        " and what could not be read.",
    )
    parser.add_argument("task", metavar="TASK", help="a set with rules; see regap-bench tasks")
    parser.add_argument(
        "--responses",
        type=Path,
        required=True,
        metavar="FILE",
        help="the answers; some sets take a folder too",
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default=_FORMATS[0],
        help="regap: responses.jsonl or judgements.TASK.jsonl of a run; llava: what upstream's own"
        " scripts wrote (default: %(default)s)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the official files, for --format llava"
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.add_argument(
        "--submission", type=Path, metavar="FILE", help="write what the set's server takes"
    )
    parser.add_argument(
        "--judgements",
        type=Path,
        metavar="FILE",
        help="write each judgement as it comes, such as a paid grade, and go on from those that are"
        " there; --responses FILE scores them again",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=_RESAMPLES,
        metavar="N",
        help="draws of a bootstrap (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=_SEED, metavar="N", help="of those (default: %(default)s)"
    )
    grader_arguments.add_grader(parser)
    parser.set_defaults(run=_score)


def _score(arguments: argparse.Namespace) -> int:
    from regap_benchmarks.scoring import ScoringOptions, score_records, score_stored_answers

    try:
        benchmark = load_plugins().benchmarks.get(arguments.task)
        options = ScoringOptions(
            grader=grader_arguments.grader_of(arguments),
            judgements=arguments.judgements,
            progress=lambda: ProgressLine(f"score {arguments.task}"),
        )
    except (ValueError, PluginError) as error:
        complain(f"regap-bench score: {error}")
        return WRONG_USAGE
    try:
        from regap_benchmarks.estimation import estimate

        if arguments.format == "regap":
            score = score_records(benchmark, arguments.responses, options)
        else:
            score = score_stored_answers(benchmark, arguments.responses, arguments.data, options)
        if arguments.submission:
            benchmark.write_submission(score.responses, arguments.submission, arguments.data)
        rows = estimate(
            score.header,
            score.judgements,
            score.metrics,
            level=_LEVEL,
            resamples=arguments.resamples,
            seed=arguments.seed,
        )
    except ImportError as error:
        return complain_of_missing("score", error)
    except (ValueError, OSError, JudgeError, RecordFileError) as error:
        complain(f"regap-bench score: {error}")
        return FAILED
    if arguments.json:
        document = {"version": benchmark.version, **score_document(score, rows)}
        say(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _say_score(score, rows)
    return GAPS if score.counts["missing"] else DONE


def score_document(score: "Score", rows: "Sequence[Estimate]") -> Dict[str, Any]:
    """All numbers of a score, for JSON."""
    return {
        "task": score.task,
        "official": {condition: dict(found) for condition, found in score.official.items()},
        "counts": dict(score.counts),
        "notes": list(score.notes),
        "estimates": [dataclasses.asdict(row) for row in rows],
    }


def _say_score(score: "Score", rows: "Sequence[Estimate]") -> None:
    from regap_benchmarks.report.tables import estimate_table, text

    say(text(estimate_table(rows, categories=True)))
    say("Counts: " + ", ".join(f"{count} {name}" for name, count in score.counts.items()) + ".")
    for condition, found in score.official.items():
        if found:
            say(f"Official ({condition}):")
        for line in _lines(found, "  "):
            say(line)
    for note in score.notes:
        say(note)


def _lines(found: Mapping[str, Any], indent: str) -> List[str]:
    lines = []
    for name, value in found.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name}:")
            lines += _lines(value, indent + "  ")
        else:
            lines.append(f"{indent}{name}: {'undefined' if value is None else value}")
    return lines
