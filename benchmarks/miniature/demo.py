"""The demo: the whole story in miniature, by upstream's own trainer, with its report.

A study of one weight of the default loss over three seeds, and one checkpoint of it in int8 where
the environment can.
"""

import os

from regap_benchmarks.miniature.int8 import Int8Unit
from regap_benchmarks.miniature.page import write_study_page
from regap_benchmarks.miniature.report import StudyReport, make_report, write_report
from regap_benchmarks.miniature.study import Study, StudySettings
from regap_benchmarks.miniature.units import Say, UnitError, run_units

_MOST_WORKERS = 8


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def run_demo(
    settings: StudySettings, *, say: Say, workers: int = 0, overwrite: bool = False
) -> StudyReport:
    """Build, train, measure and write `report.md`, `report.html`, `report.json` and the figure.

    Interrupted, it goes on with the next call: the bases in the cache, the trainings and the
    measured checkpoints that finished with the same settings and versions are kept.

    Args:
        settings: what to train and measure, and where.
        say: gets one line of progress at a time.
        workers: subprocesses at once; 0 for one on each core, up to 8.
        overwrite: delete what an earlier demo left in the folder first.

    Returns:
        the report that was written.

    Raises:
        DemoError: a package is missing, the folder belongs to something else, or a unit failed.
        KeyboardInterrupt: passed on, after the subprocesses have ended.
    """
    try:
        study = Study(settings)
        study.check_losses()
        study.claim(overwrite=overwrite)
        int8 = Int8Unit(study)
        run_units(
            [*study.units(), int8.unit()],
            workers=workers or min(_MOST_WORKERS, os.cpu_count() or 1),
            say=say,
        )
        report = make_report(study, quantized=int8.lines())
        write_report(study, report)
        write_study_page(study, report.sentences)
    except (UnitError, ValueError) as error:
        raise DemoError(f"{error} The logs lie in {settings.output}.") from error
    return report
