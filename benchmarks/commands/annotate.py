"""`regap-bench annotate`: pages on which people label answers, blind to the model."""

import argparse
from pathlib import Path

from regap_benchmarks.commands.command import (
    DONE,
    FAILED,
    Commands,
    complain,
    complain_of_missing,
    say,
)
from regap_benchmarks.run_folder import RunFolder

# Two that differ have no majority.
_ANNOTATORS, _SEED = 3, 0


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "annotate",
        help="pages on which people label answers",
        description="Draw answers of judged runs and write one HTML page for each annotator, with"
        " request, picture and answer, blind to the model and shuffled. What they export is read by"
        " regap-bench agreement. key.json in the folder says which answer is which: keep it.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument(
        "--sample",
        type=int,
        required=True,
        metavar="N",
        help="answers on each page, over all runs; strata are run, set and what the judges say",
    )
    parser.add_argument(
        "--annotators",
        type=int,
        default=_ANNOTATORS,
        metavar="K",
        help="pages with the same answers, each in an order of its own (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the official files")
    parser.add_argument(
        "--seed", type=int, default=_SEED, metavar="N", help="of the draw (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for pages and key"
    )
    parser.set_defaults(run=_annotate)


def _annotate(arguments: argparse.Namespace) -> int:
    try:
        from regap_benchmarks.annotation.annotate import AnnotationSettings, annotate
        from regap_benchmarks.report.annotation_tables import strata_table
        from regap_benchmarks.report.tables import text

        written = annotate(
            [RunFolder(folder) for folder in arguments.folders],
            AnnotationSettings(
                sample=arguments.sample,
                annotators=arguments.annotators,
                seed=arguments.seed,
                data=arguments.data,
                output=arguments.output,
            ),
            progress=_progress,
        )
    except ImportError as error:
        return complain_of_missing("annotate", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench annotate: {error}")
        return FAILED
    say(text(strata_table(written.strata, [str(folder) for folder in arguments.folders])))
    for page in written.pages:
        say(f"Page: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    say(f"Key, to be kept from the annotators: {written.key}")
    return DONE


def _progress(done: int, total: int) -> None:
    if done % 100 == 0 and done < total:
        complain(f"Pictures of {done} of {total} answers")
