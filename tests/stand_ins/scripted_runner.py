"""A runner that answers by a function of the request, and remembers what it was asked."""

from regap_benchmarks.records import STOPPED
from regap_benchmarks.runners.runner import Answer, Runner


class ScriptedRunner(Runner):
    takes_history = True
    takes_answer_start = True

    def __init__(self, answer):
        self._answer = answer
        self.asked = []
        self.decodings = []

    def describe(self):
        return {"checkpoint": "scripted"}

    def environment(self):
        return {"device": "none"}

    def length(self, prompt, images, system):
        return len(prompt.split()) + images

    def generate(self, requests, decoding):
        self.asked += requests
        self.decodings += [decoding] * len(requests)
        return [self._answered(request) for request in requests]

    def _answered(self, request):
        said = self._answer(request)
        text, finish = said if isinstance(said, tuple) else (said, STOPPED)
        return Answer(
            text=text,
            finish=finish,
            rendered_prompt=request.prompt,
            prompt_tokens=self.length(request.prompt, len(request.images), None),
            token_ids=tuple(range(len(text.split()))),
        )
