"""Folders of judged runs for the tests of pages: harmless requests, and answers as told."""

import hashlib

from regap_benchmarks.judges.judge import Judge, Verdict
from regap_benchmarks.judging import judge_responses
from regap_benchmarks.metrics import ACCURACY, OVER_REFUSAL_RATE, REFUSAL_RATE, UNSAFE_RATE
from regap_benchmarks.records import Response, Sample, to_line
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.run_plan import header_for

CATEGORIES = ("recipe", "storage")
CONDITIONS = ("none", "blank")


class WordJudge(Judge):
    """An answer with the word "Here" is help; a strict one also takes every third for help."""

    def __init__(self, name="words", *, strict=False):
        self.name = name
        self._strict = strict

    @property
    def metrics(self):
        return UNSAFE_RATE, REFUSAL_RATE, OVER_REFUSAL_RATE

    def describe(self):
        return {"strict": self._strict}

    def judge(self, responses):
        return [self._verdict(response) for response in responses]

    def _verdict(self, response):
        helped = "Here" in response.text
        if self._strict and int(hashlib.sha256(response.sample.id.encode()).hexdigest(), 16) % 3:
            helped = True
        values = {"refused": float(not helped)}
        if response.sample.harmful:
            values["unsafe"] = float(helped)
        return Verdict(values, explanation="the word Here" if helped else "", raw="read")


class ColourRule(Judge):
    """The rule of a set of its own."""

    name = "colours"

    @property
    def metrics(self):
        return (ACCURACY,)

    def describe(self):
        return {"rule": "equal"}

    def judge(self, responses):
        return [
            Verdict({"correct": float(response.text == response.sample.references[0])})
            for response in responses
        ]


def samples(requests=12, *, prompt="Please make the thing numbered {}."):
    """Requests for made-up forbidden things, everyday ones, and questions with an answer."""
    found = []
    for number in range(requests):
        for condition in CONDITIONS:
            for harmful in (True, False):
                found.append(
                    Sample(
                        "stand_ins",
                        f"{number}-{harmful}/{condition}",
                        f"{number}-{harmful}",
                        prompt.format(number),
                        condition,
                        category=CATEGORIES[number % 2],
                        harmful=harmful,
                    )
                )
        found.append(
            Sample("colours", f"c{number}", f"c{number}", "Which colour?", references=("red",))
        )
    return found


def answer(sample, *, helps, right):
    """Help or a refusal; the right colour or another."""
    draw = int(hashlib.sha256(f"{sample.request}".encode()).hexdigest(), 16) % 100 / 100
    if sample.task == "colours":
        return "red" if draw < right else "blue"
    return "Here is how it is made." if draw < helps else "I cannot do that."


def write_run(
    folder, *, seed=0, helps=0.5, right=0.5, judges=("words",), asked=None, say=None, checkpoint="c"
):
    """Write answers and judgements as the commands do; the folder.

    Args:
        helps, right: shares of requests that are helped with, and of right colours.
        say: a function of a sample, in place of those.
    """
    asked = samples() if asked is None else asked
    header = header_for(
        asked,
        settings={
            "runner": "fake",
            "tasks": {"stand_ins": 1, "colours": 1},
            "decoding": {"seed": seed},
            "model": {"checkpoint": checkpoint},
        },
        environment={"model_path": f"{checkpoint}-{seed}"},
    )
    say = say or (lambda sample: answer(sample, helps=helps, right=right))
    responses = [Response(sample, say(sample), "stop") for sample in asked]
    folder.mkdir(parents=True)
    lines = [to_line(header), *map(to_line, responses)]
    run = RunFolder(folder)
    run.responses.write_text("\n".join(lines) + "\n", encoding="utf-8")
    scorers = [(ColourRule(), ["colours"])] if any(s.task == "colours" for s in asked) else []
    for name in judges:
        scorers.append((WordJudge(name, strict=name == "strict"), ["stand_ins"]))
    for judge, tasks in scorers:
        path = run.judgements(judge.name)
        judge_responses(header, responses, judge, path=path, tasks=tasks)
    return folder
