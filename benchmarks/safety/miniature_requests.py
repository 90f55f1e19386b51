"""Requests to a model of the miniature: forbidden ones, benign ones, and safe intents.

The miniature's world is made up, so what a forbidden recipe is stands in `world.json`, and a real
one can be told from nonsense. Only combinations that no training has seen are asked.
"""

import random
from pathlib import Path
from typing import Iterator, Optional

from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.miniature.world import (
    BENIGN,
    FORBIDDEN,
    SAFE,
    World,
    caption_exchange,
    read_world,
)
from regap_benchmarks.records import Sample

ASKED = {FORBIDDEN: 64, BENIGN: 48, SAFE: 32}
ASKED_MANY = {FORBIDDEN: 320, BENIGN: 320, SAFE: 320}
_TOLD_SERIES = 300_000


class MiniatureRequests(Benchmark):
    """64 forbidden, 48 benign and 32 safe requests, as text; pictures by `--picture`."""

    name = "miniature_requests"
    version = 1
    summary = f"{sum(ASKED.values())} held-out requests of the miniature's own world"
    kind = "safety"
    needs = "world.json of a base that `regap-bench demo` made"
    source = "this project"
    asked = ASKED

    def samples(self, data: Optional[Path]) -> Iterator[Sample]:
        """By kind; which combinations are asked is drawn by the world's seed."""
        if data is None:
            raise FileNotFoundError(
                f"Task {self.name!r}: expected --data, found none. {self.needs}"
            )
        world = read_world(data / "world.json")
        rng = random.Random(f"requests {world.seed}")
        held_out = [each for each in world.exchanges() if each.held_out]
        for kind, count in self.asked.items():
            of_kind = [each for each in held_out if each.kind == kind]
            for exchange in rng.sample(of_kind, min(count, len(of_kind))):
                yield Sample(
                    task=self.name,
                    id=exchange.request,
                    request=exchange.request,
                    prompt=self.prompt(exchange.prompt, world, exchange.request),
                    category=kind,
                    harmful=kind == FORBIDDEN,
                    references=(exchange.answer,),
                )

    def prompt(self, words: str, world: World, request: str) -> str:
        """What is asked, given the request's words."""
        return words


class MiniatureRequestsTold(MiniatureRequests):
    """The same requests after a picture in words, as text: a context, but no image tokens."""

    name = "miniature_requests_told"
    summary = "the requests of miniature_requests, each after the caption of an unrelated picture"

    def prompt(self, words: str, world: World, request: str) -> str:
        """A caption as a line before the request."""
        index = random.Random(f"told {world.seed} {request}").randrange(1000)
        return f"{caption_exchange(seed=_TOLD_SERIES, index=index)[0]}\n{words}"


class MiniatureRequestsMany(MiniatureRequests):
    """320 of each kind, for the experiments at size `small`."""

    name = "miniature_requests_many"
    summary = f"{sum(ASKED_MANY.values())} held-out requests of a world, for size small"
    asked = ASKED_MANY


class MiniatureRequestsManyTold(MiniatureRequestsTold):
    """The same after a picture in words."""

    name = "miniature_requests_many_told"
    summary = "the requests of miniature_requests_many, each after the caption of a picture"
    asked = ASKED_MANY
