"""Samples and a runner make `responses.jsonl`: batched, resumable, one line an answer."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

from regap_benchmarks.conversation import Turn
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.pictures import PictureError, render
from regap_benchmarks.record_file import RecordFile, replace_records
from regap_benchmarks.records import ERROR, Response, RunHeader, Sample
from regap_benchmarks.runners.runner import Answer, Request, Runner
from regap_benchmarks.turn_by_turn import ask_in_turns

if TYPE_CHECKING:
    from PIL.Image import Image

# Called with the number of samples that are done and the number of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GenerationSummary:
    """What a call of `generate` did.

    Attributes:
        asked: samples of this shard.
        found: answers that an earlier call had written.
        failed: answers of this shard that ended in an error, whenever written.
        halved: batches that did not fit the memory and were asked in halves.
    """

    asked: int
    found: int
    failed: int
    halved: int


@dataclass(frozen=True)
class _Ready:
    """A sample with its pictures, or with why they could not be made."""

    sample: Sample
    images: Tuple["Image", ...] = ()
    error: str = ""


def generate(
    samples: Sequence[Sample],
    runner: Runner,
    decoding: Decoding,
    *,
    path: Path,
    header: RunHeader,
    batch_size: int = 1,
    data: Optional[Path] = None,
    retry_failed: bool = False,
    progress: Progress = lambda done, total: None,
) -> GenerationSummary:
    """Ask every sample that the file does not answer yet.

    Batches hold prompts of near length and an equal number of pictures, the longest first, so that
    memory runs out at the start or not at all. A batch that does not fit is asked in halves. A
    sample whose picture or prompt cannot be used becomes a response with an error: a counted gap.

    Args:
        samples: of this shard.
        runner: answers.
        decoding: settings of the answers.
        path: the file to write or continue.
        header: of this run, with this shard.
        batch_size: requests that are asked together, at most.
        data: folder of the pictures.
        retry_failed: ask again what ended in an error earlier.
        progress: told after every batch.

    Raises:
        RecordFileError: the file is another run's, is being written, or cannot be written.
        RecordError: the file is damaged.
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected 1 or more, found {batch_size}.")
    if retry_failed:
        _drop_failed(path, header)
    with RecordFile(path, Response, header) as file:
        done = {response.sample.key for response in file.records}
        failed = sum(response.finish == ERROR for response in file.records)
        file.records.clear()
        left = [sample for sample in samples if sample.key not in done]
        found = len(samples) - len(left)
        asker = _Asker(runner, decoding)
        finished = found
        progress(finished, len(samples))
        for batch in _with_pictures(_batches(left, runner, batch_size), data):
            responses = asker.ask(batch)
            file.append(responses)
            failed += sum(response.finish == ERROR for response in responses)
            finished += len(responses)
            progress(finished, len(samples))
    return GenerationSummary(len(samples), found, failed, asker.halved)


def _drop_failed(path: Path, header: RunHeader) -> None:
    with RecordFile(path, Response, header) as file:
        kept = [response for response in file.records if response.finish != ERROR]
        if len(kept) < len(file.records):
            replace_records(path, file.header, kept)


def _batches(samples: Sequence[Sample], runner: Runner, batch_size: int) -> Iterator[List[Sample]]:
    lengths = {
        sample.key: runner.length(
            "\n".join((*sample.earlier_turns, sample.prompt)), len(sample.pictures), sample.system
        )
        for sample in samples
    }
    ordered = sorted(samples, key=lambda item: (*_alike(item), -lengths[item.key]))
    batch: List[Sample] = []
    for sample in ordered:
        if batch and (len(batch) == batch_size or _alike(batch[0]) != _alike(sample)):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _alike(sample: Sample) -> Tuple[int, int]:
    """Equal for what one batch can hold; smaller for what takes more memory."""
    return -len(sample.pictures), -len(sample.earlier_turns)


def _with_pictures(batches: Iterable[List[Sample]], data: Optional[Path]) -> Iterator[List[_Ready]]:
    """Make the pictures of the next batch while the present one is asked."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending: Optional[Future[List[_Ready]]] = None
        for batch in batches:
            following = pool.submit(_prepare_all, batch, data)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def _prepare_all(batch: List[Sample], data: Optional[Path]) -> List[_Ready]:
    return [_prepare(sample, data) for sample in batch]


def _prepare(sample: Sample, data: Optional[Path]) -> _Ready:
    try:
        return _Ready(sample, tuple(render(picture, data) for picture in sample.pictures))
    except PictureError as error:
        return _Ready(sample, error=str(error))


class _Asker:
    """Asks batches, in halves where memory runs out, one by one where a request is refused."""

    def __init__(self, runner: Runner, decoding: Decoding) -> None:
        self._runner = runner
        self._decoding = decoding
        self.halved = 0

    def ask(self, batch: Sequence[_Ready]) -> List[Response]:
        usable = [ready for ready in batch if not ready.error]
        responses = {ready.sample.key: _failed(ready.sample, ready.error) for ready in batch}
        responses.update((response.sample.key, response) for response in self._ask(usable))
        return [responses[ready.sample.key] for ready in batch]

    def _ask(self, batch: Sequence[_Ready]) -> List[Response]:
        if not batch:
            return []
        try:
            answers = ask_in_turns(
                self._runner,
                [_request(ready) for ready in batch],
                [ready.sample.earlier_turns for ready in batch],
                self._decoding,
            )
        except ValueError as error:
            if len(batch) == 1:
                return [_failed(batch[0].sample, str(error))]
            return [response for ready in batch for response in self._ask([ready])]
        except RuntimeError as error:
            # torch.cuda.OutOfMemoryError by its name: this module runs without torch.
            if type(error).__name__ != "OutOfMemoryError" or len(batch) == 1:
                raise
            answers = None
        if answers is None:
            # Outside of the handler, whose traceback would keep the batch's tensors alive.
            self.halved += 1
            self._runner.release_memory()
            middle = len(batch) // 2
            return self._ask(batch[:middle]) + self._ask(batch[middle:])
        if len(answers) != len(batch):
            raise RuntimeError(
                f"Runner {type(self._runner).__name__}: expected {len(batch)} answers to a batch,"
                f" found {len(answers)}. Mend the runner."
            )
        return [
            _answered(ready.sample, turns, answer, len(batch))
            for ready, (turns, answer) in zip(batch, answers)
        ]


def _request(ready: _Ready) -> Request:
    sample = ready.sample
    return Request(f"{sample.task}/{sample.id}", sample.prompt, ready.images, sample.system)


def _answered(sample: Sample, turns: Tuple[Turn, ...], answer: Answer, batch_size: int) -> Response:
    return Response(
        sample=sample,
        text=answer.text,
        finish=answer.finish,
        rendered_prompt=answer.rendered_prompt,
        prompt_tokens=answer.prompt_tokens,
        new_tokens=len(answer.token_ids) if answer.new_tokens is None else answer.new_tokens,
        batch_size=batch_size,
        served_by=answer.served_by,
        conversation=turns,
        cost=answer.cost,
        steps=answer.steps,
    )


def _failed(sample: Sample, error: str) -> Response:
    return Response(sample, "", ERROR, error=error)
