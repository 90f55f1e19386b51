"""The arguments that say which server grades the sets that a model grades."""

import argparse
from pathlib import Path

from regap_benchmarks.judges.chat_server import KEY, MODEL, URL
from regap_benchmarks.judges.grader import GraderOptions


def add_grader(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    group = parser.add_argument_group("sets that a model grades, such as mm_vet")
    group.add_argument(
        "--grader-url",
        metavar="URL",
        help=f"a server with OpenAI's chat completions, such as http://localhost:8000/v1 (default:"
        f" the environment's {URL})",
    )
    group.add_argument(
        "--grader-model",
        metavar="NAME",
        help=f"the grading model, as the server names it (default: the environment's {MODEL})",
    )
    group.add_argument(
        "--grader-key-file",
        type=Path,
        metavar="FILE",
        help=f"file with the server's key (default: the environment's {KEY} is the key)",
    )
    group.add_argument(
        "--grader-timeout", type=float, metavar="SECONDS", help="for one request (default: 120)"
    )
    group.add_argument(
        "--grader-tries",
        type=int,
        metavar="N",
        help="of one request, with waits that double between them (default: 6)",
    )


def grader_of(arguments: argparse.Namespace) -> GraderOptions:
    """The options that the arguments say.

    Raises:
        ValueError: a value out of range.
    """
    return GraderOptions(
        url=arguments.grader_url,
        model=arguments.grader_model,
        key_file=arguments.grader_key_file,
        timeout=arguments.grader_timeout,
        tries=arguments.grader_tries,
    )
