"""GROUP=DIR,DIR on the command line: groups of runs, and their judgements by judge."""

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from regap_benchmarks.commands.model_arguments import names
from regap_benchmarks.comparable import JudgedRun
from regap_benchmarks.metrics import Metric
from regap_benchmarks.run_folder import RunFolder

Groups = Dict[str, List[RunFolder]]


def groups_of(arguments: Sequence[str]) -> Groups:
    """The groups that the arguments name.

    Raises:
        ValueError: less than two, one without a name or folders, a name twice.
    """
    groups: Groups = {}
    for argument in arguments:
        name, equals, folders = argument.partition("=")
        if not equals or not name or not names(folders) or name in groups:
            raise ValueError(
                f"Groups: expected GROUP=DIR,DIR with a name of its own, found {argument!r}."
            )
        groups[name] = [RunFolder(Path(folder)) for folder in names(folders)]
    if len(groups) < 2:
        raise ValueError(f"Groups: expected two or more, found {list(groups)}.")
    return groups


def by_judge(
    groups: Groups,
) -> Dict[str, Tuple[Dict[str, List[JudgedRun]], Tuple[Metric, ...]]]:
    """By judge that judged all runs, the runs of each group and the judge's metrics.

    Raises:
        ValueError: no judge has judged all.
        FileNotFoundError, RecordError: see `RunFolder.read_judgements`.
    """
    runs: Dict[str, Dict[str, List[JudgedRun]]] = {}
    metrics: Dict[str, Tuple[Metric, ...]] = {}
    count = sum(map(len, groups.values()))
    for group, folders in groups.items():
        for folder in folders:
            for judge, (header, judgements, own) in folder.read_judgements().items():
                run = JudgedRun(str(folder.path), header, judgements)
                runs.setdefault(judge, {}).setdefault(group, []).append(run)
                metrics[judge] = own
    whole = {
        judge: (judged, metrics[judge])
        for judge, judged in runs.items()
        if sum(map(len, judged.values())) == count
    }
    if not whole:
        raise ValueError(
            f"Runs: expected a judge of all {count}, found {sorted(runs)}, each of some only. Judge"
            " all runs with one: regap-bench judge."
        )
    return whole
