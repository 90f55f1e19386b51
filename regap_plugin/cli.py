"""`regap`: train with the gap loss, look at an environment, look at a checkpoint.

    regap train llava/train/train.py --regap_weight 0.5 ...
    torchrun --nproc_per_node 8 -m regap_plugin train llava/train/train_mem.py --regap_weight 0.5
    regap doctor
    regap doctor --config train_configs/minigpt4_stage1_pretrain.yaml
    regap inspect checkpoints/llava-v1.5-7b-pretrain
    regap inspect output/minigpt4_stage1_pretrain/20260101120/checkpoint_3.pth

Exit codes: 0 done, 1 something is missing or wrong (a message says what), 2 bad usage.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from regap_plugin import __version__, activation
from regap_plugin.errors import ReGapError


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"] and arguments[1:2] not in (["-h"], ["--help"]):
        return _reported(_train, arguments[1:])
    options = _parser().parse_args(arguments)
    return _reported(options.run, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="regap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"regap-plugin {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="run upstream's training script with the patch armed")
    train.add_argument("script", metavar="SCRIPT", help="upstream's script, or -m MODULE")
    train.add_argument("args", nargs="*", metavar="ARGS", help="the script's own arguments")

    doctor = commands.add_parser("doctor", help="what is installed, whether activation works here")
    doctor.add_argument(
        "--config",
        metavar="YAML",
        help="a configuration file that asks for ReGap: whether its training would be regularised",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)

    activate = commands.add_parser(
        "activate", help="write the .pth file that an editable install lacks"
    )
    activate.set_defaults(run=_activate)
    deactivate = commands.add_parser("deactivate", help="remove the .pth file")
    deactivate.set_defaults(run=_deactivate)

    inspect = commands.add_parser("inspect", help="whether and how a checkpoint was regularised")
    inspect.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="the directory or the file saved to"
    )
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=_inspect)

    plugins = commands.add_parser("plugins", help="hooks, plugins, upstreams, gap losses")
    plugins.add_argument("--json", action="store_true", help="print JSON")
    plugins.set_defaults(run=_plugins)
    return parser


def _reported(run: Any, argument: Any) -> int:
    try:
        return int(run(argument) or 0)
    except (ReGapError, ValueError) as error:
        if isinstance(argument, list) and not isinstance(error, ReGapError) and _is_foreign(error):
            raise  # the training script's own error keeps its traceback
        print(f"regap: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(argument, list):
            raise
        print(f"regap: {error}", file=sys.stderr)
        return 1


def _is_foreign(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return not str(name).startswith("regap_plugin")


def _train(command: List[str]) -> int:
    from regap_plugin.launcher import train

    train(command)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from regap_plugin.doctor import examine, render

    found = examine(options.config)
    print(json.dumps(found, indent=2) if options.json else render(found))
    works = found["activation"]["works"] and found.get("config", {"works": True})["works"]
    return 0 if works else 1


def _activate(_: argparse.Namespace) -> int:
    path = _pth_path()
    if path.is_file() and path.read_text(encoding="utf-8") == activation.PTH_LINE:
        print(f"{path}: is there already.")
        return 0
    path.write_text(activation.PTH_LINE, encoding="utf-8")
    print(f"{path}: written. `regap deactivate` removes it.")
    return 0


def _deactivate(_: argparse.Namespace) -> int:
    from regap_plugin.doctor import site_directories

    paths = activation.activation_files(site_directories())
    for path in paths:
        os.unlink(path)
        print(f"{path}: removed. `regap activate` writes it again.")
    if not paths:
        print("There is no activation file in this environment.")
    return 0


def _pth_path() -> Path:
    import sysconfig

    return Path(sysconfig.get_path("purelib")) / activation.PTH_NAME


def _inspect(options: argparse.Namespace) -> int:
    from regap_plugin.checkpoint import find_record

    record = find_record(options.checkpoint)
    verdict, added = _verdict(record) if record is not None else ("", False)
    if options.json:
        print(json.dumps({"regularised": added, "record": record}, indent=2))
    elif record is None:
        print(
            f"{options.checkpoint}: carries no record of ReGap. It was trained without, or was "
            "made from a regularised checkpoint by something that dropped the record."
        )
    else:
        print(f"{options.checkpoint}: {verdict} (from {record['source']})")
        print(json.dumps(record, indent=2, sort_keys=True))
    return 0 if record is not None else 1


def _verdict(record: Dict[str, Any]) -> Tuple[str, bool]:
    """What a record says in words, and whether the gap was ever added to the loss."""
    config = record.get("config", record)
    weight = config.get("weight") if isinstance(config, dict) else None
    alpha = record.get("alpha")
    if not isinstance(weight, (int, float)) or not isinstance(alpha, (int, float, type(None))):
        raise ValueError(
            f"{record['source']}: expected numbers for weight and alpha, found {weight!r} and "
            f"{alpha!r}. The record is damaged: nothing can be said of this checkpoint."
        )
    if weight == 0:
        return "the gap was measured, not added", False
    if alpha is None:
        return f"weight {weight}, still calibrating alpha: the gap was not added yet", False
    if record.get("micro_batches_added_to") == 0:
        return f"weight {weight}, alpha frozen at {alpha:g}: the gap was not added yet", False
    how = f"weight {weight} and alpha {alpha:g}, loss {config.get('loss')}"
    how += f", at layer {config.get('layer', 0)}"
    return f"regularised with {how}", True


def _plugins(options: argparse.Namespace) -> int:
    from regap_plugin.plugins import describe

    found = describe()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for title, entries in found.items():
        print(title)
        for name, text in entries.items():
            print(f"  {name:28}{text}")
    return 0
