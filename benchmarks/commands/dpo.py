"""`regap-bench dpo`: preference training of a checkpoint, by TRL."""

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
from regap_benchmarks.training.dpo import DpoSettings, train_dpo

_DEFAULTS = DpoSettings()


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "dpo",
        help="preference training of a checkpoint, by TRL",
        description="Train a checkpoint of transformers' form on pairs of a preferred and a"
        " rejected answer (SPA-VL's columns), by TRL's DPOTrainer. The same command goes on where"
        " it was stopped.",
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="see regap-bench convert"
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        required=True,
        nargs="+",
        metavar="FILE",
        help=".parquet, or .jsonl with question, chosen, rejected and the path of an image",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="of the paths in .jsonl files")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    _add_settings(parser.add_argument_group("training"))
    parser.set_defaults(run=_dpo)


def _add_settings(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--beta",
        type=float,
        default=_DEFAULTS.beta,
        help="larger stays closer to the model it begins from (default: %(default)s)",
    )
    group.add_argument(
        "--learning-rate", type=float, default=_DEFAULTS.learning_rate, help="(%(default)s)"
    )
    group.add_argument("--epochs", type=float, default=_DEFAULTS.epochs, help="(%(default)s)")
    group.add_argument(
        "--batch-size", type=int, default=_DEFAULTS.batch_size, metavar="N", help="(%(default)s)"
    )
    group.add_argument(
        "--accumulation",
        type=int,
        default=_DEFAULTS.accumulation,
        metavar="N",
        help="batches before a step (%(default)s)",
    )
    group.add_argument(
        "--lora-rank",
        type=int,
        default=_DEFAULTS.lora_rank,
        metavar="R",
        help="of adapters on the language model, merged at the end; 0 trains all of it"
        " (%(default)s)",
    )
    group.add_argument("--max-steps", type=int, metavar="N")
    group.add_argument("--seed", type=int, default=_DEFAULTS.seed, metavar="N")
    group.add_argument("--bf16", action="store_true", help="train in bfloat16 autocast")


def _dpo(arguments: argparse.Namespace) -> int:
    settings = DpoSettings(
        beta=arguments.beta,
        learning_rate=arguments.learning_rate,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        accumulation=arguments.accumulation,
        lora_rank=arguments.lora_rank,
        seed=arguments.seed,
        max_steps=arguments.max_steps,
        bf16=arguments.bf16,
    )
    try:
        train_dpo(
            arguments.model, arguments.pairs, arguments.output, settings, images=arguments.images
        )
    except ImportError as error:
        return complain_of_missing("dpo", error)
    except (ValueError, OSError) as error:
        complain(f"regap-bench dpo: {error}")
        return FAILED
    say(f"{arguments.output}: trained on preferences")
    return DONE
