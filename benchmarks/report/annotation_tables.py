"""Tables of what people label, and of what their labels say of judges."""

from typing import Sequence, Tuple

from regap_benchmarks.annotation.candidates import Stratum
from regap_benchmarks.report.tables import Table


def strata_table(strata: Sequence[Tuple[Stratum, int, int]], runs: Sequence[str]) -> Table:
    """Lay out what was drawn.

    Args:
        strata: each with its answers, and how many of them are on the pages.
        runs: their names, by number.
    """
    rows = [
        (
            runs[stratum.run],
            stratum.task,
            "harmful" if stratum.harmful else "harmless",
            stratum.verdicts,
            str(answers),
            str(drawn),
            f"{answers / drawn:.1f}",
        )
        for stratum, answers, drawn in strata
    ]
    return Table(
        ("Run:", "Task:", "Requests:", "Judges say:", "Answers", "Drawn", "Weight"),
        tuple(rows),
        (
            "Judges say yes or no where all give the same verdict (unsafe; of harmless requests"
            " refused), differ where they do not. A label stands for as many answers as its"
            " weight.",
        ),
    )
