"""The arguments that say which judges there are, and how one that is a model is loaded."""

import argparse
from pathlib import Path

from regap_benchmarks.evaluation import DEFAULT_JUDGE
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.quantization import COMPUTE_DTYPES, NAMES, quantization_from_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument(
        "--judge",
        default=DEFAULT_JUDGE,
        metavar="A,B",
        help="judges; see regap-bench judges (default: %(default)s)",
    )
    group = parser.add_argument_group("a judge that is a model")
    group.add_argument(
        "--judge-model",
        metavar="PATH",
        help="folder of its checkpoint; with --judge-url the model's name at the server; of several"
        " judges A=PATH,B=PATH",
    )
    group.add_argument(
        "--judge-threshold",
        type=float,
        metavar="FLOAT",
        help="a probability above it is a yes (default: the judge's own)",
    )
    group.add_argument(
        "--judge-prompt",
        type=Path,
        metavar="FILE",
        help="its published prompt, for judges that need one; see regap-bench judges NAME",
    )
    group.add_argument("--judge-device", metavar="NAME", help="such as cuda:1 (default: cpu)")
    group.add_argument(
        "--judge-dtype",
        choices=COMPUTE_DTYPES,
        help="of its weights (default: float32 on a CPU, float16 on a GPU)",
    )
    group.add_argument(
        "--judge-quantization",
        choices=NAMES,
        default="none",
        help="how its weights are held, by bitsandbytes; its head stays as it is (default:"
        " %(default)s)",
    )
    group.add_argument(
        "--judge-batch-size",
        type=int,
        metavar="N",
        help="answers, or requests to a server, at once (default: its own)",
    )
    group.add_argument(
        "--judge-break-marks",
        action="store_const",
        const=True,
        help="break what divides a classifier's prompt where a judged text spells it out (default:"
        " as published, shown as it is and counted)",
    )
    server = parser.add_argument_group("a judge behind a server (its key: REGAP_JUDGE_KEY)")
    server.add_argument(
        "--judge-url",
        metavar="URL",
        help="base of an API with OpenAI's chat completions, such as http://localhost:8000/v1",
    )
    for name, what in (("in", "prompts"), ("out", "answers")):
        server.add_argument(
            f"--judge-price-{name}",
            type=float,
            metavar="FLOAT",
            help=f"price of a million tokens of {what}, for the estimate before it begins",
        )
    server.add_argument(
        "--judge-most-price",
        type=float,
        metavar="FLOAT",
        help="do not begin where the estimate is above this price",
    )
    server.add_argument(
        "--judge-per-minute",
        type=float,
        metavar="FLOAT",
        help="requests that begin in a minute, at most (default: no limit)",
    )


def options_of(arguments: argparse.Namespace) -> JudgeOptions:
    """The options that the arguments say.

    Raises:
        ValueError: a value out of range.
    """
    device = arguments.judge_device
    dtype = arguments.judge_dtype or ("float16" if device not in (None, "cpu") else "float32")
    return JudgeOptions(
        model=arguments.judge_model,
        threshold=arguments.judge_threshold,
        prompt=arguments.judge_prompt,
        device=device,
        dtype=arguments.judge_dtype,
        quantization=quantization_from_names(arguments.judge_quantization, dtype=dtype),
        batch_size=arguments.judge_batch_size,
        url=arguments.judge_url,
        price_in=arguments.judge_price_in,
        price_out=arguments.judge_price_out,
        most_price=arguments.judge_most_price,
        per_minute=arguments.judge_per_minute,
        break_marks=arguments.judge_break_marks,
        data=getattr(arguments, "data", None),
    )
