"""The records that pass between the stages, and their JSON lines.

`responses.jsonl` and `judgements.JUDGE.jsonl` begin with a `RunHeader`; every other line is one
record. Each line names its schema and version, so that a reader refuses what it does not know.
Standard library only: a judgement can be read where no model runs.
"""

import dataclasses
import functools
import json
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from regap_benchmarks.answer_cost import Cost, DefenceStep
from regap_benchmarks.conversation import Turn

Json = Union[None, bool, int, float, str, List[Any], Dict[str, Any]]

SCHEMA_VERSION = 1
NO_PICTURE = "none"
# What became of one answer. Only "scored" counts in a rate; the others are counted beside it.
SCORED, UNPARSED, EMPTY, FAILED = "scored", "unparsed", "empty", "failed"
STATUSES = (SCORED, UNPARSED, EMPTY, FAILED)
# Of a field that came later: left out of a line where it says nothing, so that older lines, and the
# digests over them, stay what they are.
_LATER: Mapping[str, Any] = {"left_out_by_default": True}
# Why a generation ended: end token or stop string, `max_new_tokens`, or an error.
STOPPED, CUT, ERROR = "stop", "length", "error"
FINISHES = (STOPPED, CUT, ERROR)


class RecordError(ValueError):
    """A line that is not a record: file, line, what was expected and found."""


@dataclass(frozen=True)
class Picture:
    """How a picture is made or found, as data, so that a record can make it again.

    Attributes:
        kind: a name that `pictures.render` knows, such as "file", "blank" or "drawn".
        parameters: of that kind, such as {"path": "images/1.png"}; paths are relative to `--data`.
    """

    kind: str
    parameters: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One question to a model.

    Attributes:
        task: name of the benchmark.
        id: unique within the task.
        request: the request behind it. The same request under several pictures is one cluster.
        prompt: text of the user's turn, without any image placeholder.
        condition: name of the picture condition, "none" for a question by text alone.
        pictures: what is attached, in order.
        category: of the benchmark's own list; may be empty.
        harmful: whether the request asks for something harmful; None where a set does not say.
        references: right answers, for a scorer.
        judged_prompt: what a judge is shown in place of `prompt`, where a benchmark says so.
        system: text of a system turn; None for the model's own default.
        metadata: more columns of the official file.
        earlier_turns: what the user says before `prompt`, each answered by the model in its turn.
    """

    task: str
    id: str
    request: str
    prompt: str
    condition: str = NO_PICTURE
    pictures: Tuple[Picture, ...] = ()
    category: str = ""
    harmful: Optional[bool] = None
    references: Tuple[str, ...] = ()
    judged_prompt: Optional[str] = None
    system: Optional[str] = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    earlier_turns: Tuple[str, ...] = field(default=(), metadata=_LATER)

    @property
    def key(self) -> Tuple[str, str]:
        """What identifies it within a run: (task, id)."""
        return self.task, self.id


@dataclass(frozen=True)
class Response:
    """The answer of a model to one sample.

    Attributes:
        sample: the question, whole, so that judging needs no other file.
        text: the answer without special tokens; empty when `finish` is "error".
        finish: "stop", "length" (cut at `max_new_tokens`) or "error".
        rendered_prompt: the text that went into the tokenizer, template included.
        prompt_tokens: length of the prompt in tokens, image placeholders counted as one each.
        new_tokens: generated tokens, without the end token.
        batch_size: answers that were generated together.
        error: what went wrong, when `finish` is "error".
        served_by: the model and its fingerprint, as the server says that answered; empty without
            a server.
        conversation: the earlier turns with the model's answers; `text` answers the last one.
        cost: of all calls, where a defence stood before the model.
        steps: what was said on the way there.
    """

    sample: Sample
    text: str
    finish: str
    rendered_prompt: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    batch_size: int = 1
    error: str = ""
    served_by: str = ""
    conversation: Tuple[Turn, ...] = field(default=(), metadata=_LATER)
    cost: Optional[Cost] = field(default=None, metadata=_LATER)
    steps: Tuple[DefenceStep, ...] = field(default=(), metadata=_LATER)


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one answer.

    Attributes:
        task, id, request, condition, category, harmful: of the sample.
        judge: the judge's name.
        status: "scored", or why not: "unparsed" (the judge's answer could not be read), "empty"
            (the model said nothing), "failed" (generation or judge ended in an error).
        values: by metric, such as {"unsafe": 1.0, "refused": 0.0}; each from 0 to 1. A metric
            that does not apply is absent.
        explanation: why, in the judge's or scorer's words.
        raw: what a judging model wrote, unread.
        answer_sha256: the first 16 hexadecimal digits of the judged text's SHA-256.
        scores: by value, the judge's probability that it is 1, from 0 to 1, where the judge has
            one: from them a rate at another threshold is estimated without the judge.
    """

    task: str
    id: str
    request: str
    condition: str
    category: str
    harmful: Optional[bool]
    judge: str
    status: str
    values: Mapping[str, float] = field(default_factory=dict)
    explanation: str = ""
    raw: str = ""
    answer_sha256: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Tuple[str, str]:
        """What identifies it within a run and a judge: (task, id)."""
        return self.task, self.id


@dataclass(frozen=True)
class Estimate:
    """A metric over a part of a run, with its uncertainty and its gaps.

    Attributes:
        task, judge, metric: of what.
        condition, category: the part; "" for all of them together.
        value: over the scored answers, a fraction from 0 to 1 where the metric is one; None when
            none was scored.
        lower, upper: ends of the confidence interval at `level`; None with `value`.
        level: such as 0.95.
        method: how the interval was made, such as "wilson" or "cluster bootstrap (2000, seed 0)".
        strict: the value if every gap had counted against the model; None for a metric without a
            better direction.
        higher_is_better: direction; None when it has none.
        n: scored answers.
        clusters: requests among them.
        unparsed, empty, failed, missing: gaps. `missing` answers were asked for and are not there.
        factor: what `value` and its like are multiplied by to be the metric's points; None for a
            share.
    """

    task: str
    judge: str
    metric: str
    condition: str
    category: str
    value: Optional[float]
    lower: Optional[float]
    upper: Optional[float]
    level: float
    method: str
    strict: Optional[float]
    higher_is_better: Optional[bool]
    n: int
    clusters: int
    unparsed: int
    empty: int
    failed: int
    missing: int
    factor: Optional[float] = None

    @property
    def gaps(self) -> int:
        """Answers that were asked for and are not scored."""
        return self.unparsed + self.empty + self.failed + self.missing


@dataclass(frozen=True)
class Cell:
    """How many samples a run asks of one task, condition and category."""

    task: str
    condition: str
    category: str
    samples: int
    harmful: Optional[bool] = None


@dataclass(frozen=True)
class RunHeader:
    """The first line of a file: what is needed to repeat the run, and what must be there.

    Attributes:
        settings: what decides the answers: model, quantization, decoding, tasks, seeds. A file is
            continued only by a run of equal settings.
        cells: the samples that were asked for.
        samples_sha256: of all samples, in order.
        environment: versions, device and date, which may differ when a run goes on.
        shard: (number, of how many), from 0; (0, 1) is the whole.
        judge: the judge's settings, in a file of judgements.
    """

    settings: Mapping[str, Json]
    cells: Tuple[Cell, ...]
    samples_sha256: str
    environment: Mapping[str, Json] = field(default_factory=dict)
    shard: Tuple[int, int] = (0, 1)
    judge: Optional[Mapping[str, Json]] = None

    @property
    def samples(self) -> int:
        """All that were asked for, over all shards."""
        return sum(cell.samples for cell in self.cells)


@dataclass(frozen=True)
class LayerGap:
    """The gap at one layer.

    Attributes:
        layer: 0 is the LLM's input, which is no part of MIR.
        frechet: MIR's term of the layer by number of pairs, such as {"50": 3.1, "100": 2.9}.
        resampled: the term over all pairs, drawn with replacement; the n-th draw takes the same
            pairs at every layer.
        values: distances and the like over all pairs, by name; None where one is not defined.
        image_tokens, text_tokens: over all pairs.
        image_replaced, text_replaced: tokens among them that MIR replaces as outliers.
    """

    layer: int
    frechet: Mapping[str, float]
    resampled: Tuple[float, ...]
    values: Mapping[str, Optional[float]]
    image_tokens: int
    text_tokens: int
    image_replaced: int
    text_replaced: int

    @property
    def key(self) -> Tuple[str, str]:
        """What identifies it within a measurement."""
        return "layer", str(self.layer)


@dataclass(frozen=True)
class AttackedPicture:
    """A picture that was made against a model's refusal.

    Attributes:
        task, id: of the sample.
        picture: file, relative to the folder of the attack.
        picture_sha256: of its bytes.
        target_tokens: tokens of the beginning that was aimed at.
        loss_before, loss_found, loss_saved: mean negative log likelihood of those tokens in nats,
            with the sample's own picture, with the best one found, and with the file's, whose
            levels are rounded.
        restart, step: where it was found.
        largest_change: of any value, in levels of 255.
        seconds: that it took.
    """

    task: str
    id: str
    picture: str
    picture_sha256: str
    target_tokens: int
    loss_before: float
    loss_found: float
    loss_saved: float
    restart: int
    step: int
    largest_change: int
    seconds: float

    @property
    def key(self) -> Tuple[str, str]:
        """What identifies it within an attack: (task, id) of the sample."""
        return self.task, self.id


Record = Union[Sample, Response, Judgement, Estimate, LayerGap, AttackedPicture, RunHeader]
R = TypeVar("R", bound=Record)
_NAMES: Dict[type, str] = {
    Sample: "sample",
    Response: "response",
    Judgement: "judgement",
    Estimate: "estimate",
    LayerGap: "layer-gap",
    AttackedPicture: "attacked-picture",
    RunHeader: "run",
}


def to_line(record: Record) -> str:
    """One line of JSON, without a newline.

    Raises:
        ValueError: a number that is not finite, which JSON does not have.
    """
    schema = f"regap-{_NAMES[type(record)]}/{SCHEMA_VERSION}"
    document = {"schema": schema, **_plain(record)}
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def from_line(kind: Type[R], line: str, *, where: str = "line") -> R:
    """Read one line.

    Args:
        kind: the record that is expected.
        line: the JSON.
        where: file and line number, for messages.

    Raises:
        RecordError: not JSON, another schema or version, a field that is missing, unknown or of
            another type.
    """
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{where}: expected a line of JSON, found {line[:60]!r} ({error.msg} at character"
            f" {error.pos}). The file is damaged: restore it, or delete it and run again."
        ) from error
    expected = f"regap-{_NAMES[kind]}/{SCHEMA_VERSION}"
    found = document.pop("schema", None) if isinstance(document, dict) else None
    if found != expected:
        raise RecordError(
            f"{where}: expected the schema {expected!r}, found {found!r}. Pass a file of that kind,"
            " written by this version of regap-bench."
        )
    record: R = _build(kind, document, where)
    return record


def read_records(path: Path, kind: Type[R]) -> Iterator[R]:
    """Read a file of one kind of record, without a header, line by line.

    Raises:
        RecordError: see `from_line`; the message names file and line.
        FileNotFoundError: no such file.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield from_line(kind, line, where=f"{path}, line {number}")


def read_header(path: Path) -> RunHeader:
    """Read the first line of a file of responses or judgements.

    Raises:
        RecordError: it is no header.
        FileNotFoundError: no such file.
    """
    with path.open(encoding="utf-8") as lines:
        return from_line(RunHeader, lines.readline(), where=f"{path}, line 1")


def read_run(path: Path, kind: Type[R]) -> Tuple[RunHeader, List[R]]:
    """Read a file that begins with a header: the header and all records.

    Raises:
        RecordError: see `from_line`; also a sample that is there twice.
        FileNotFoundError: no such file.
    """
    records: List[R] = []
    seen: Dict[Tuple[str, str], int] = {}
    with path.open(encoding="utf-8") as lines:
        header = from_line(RunHeader, lines.readline(), where=f"{path}, line 1")
        for number, line in enumerate(lines, start=2):
            record = from_line(kind, line, where=f"{path}, line {number}")
            key = record_key(record)
            if key in seen:
                raise RecordError(
                    f"{path}, line {number}: expected each record once, found {key[1]!r} of"
                    f" {key[0]!r}, which is on line {seen[key]} already. Two runs have written"
                    " the file at once: delete it and run again."
                )
            seen[key] = number
            records.append(record)
    return header, records


def record_key(record: Record) -> Tuple[str, str]:
    """(task, id) of the sample, or the layer, that a record speaks of."""
    if isinstance(record, Response):
        return record.sample.key
    if isinstance(record, (Sample, Judgement, LayerGap, AttackedPicture)):
        return record.key
    raise TypeError(f"{type(record).__name__}: expected a record of one sample or layer.")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            item.name: _plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if not (item.metadata == _LATER and getattr(value, item.name) == item.default)
        }
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _shape(kind: Any) -> Tuple[Tuple["dataclasses.Field[Any]", ...], Dict[str, Any]]:
    return dataclasses.fields(kind), typing.get_type_hints(kind)


def _build(kind: Any, document: Mapping[str, Any], where: str) -> Any:
    fields, hints = _shape(kind)
    unknown = set(document).difference(hints)
    if unknown:
        raise RecordError(
            f"{where}: expected the fields of {kind.__name__}, found {sorted(unknown)} as well."
            " The file was written by another version: use that one."
        )
    values = {}
    for item in fields:
        if item.name in document:
            at = f"{where}, field {item.name!r}"
            values[item.name] = _convert(document[item.name], hints[item.name], at)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise RecordError(
                f"{where}: expected a {kind.__name__} with the field {item.name!r}, found none."
                " The file is damaged or was written by another version."
            )
    record = kind(**values)
    _check_choice(record, "status", STATUSES, where)
    _check_choice(record, "finish", FINISHES, where)
    return record


def _check_choice(record: Any, name: str, choices: Tuple[str, ...], where: str) -> None:
    found = getattr(record, name, choices[0])
    if found not in choices:
        raise RecordError(
            f"{where}, field {name!r}: expected one of {', '.join(choices)}, found {found!r}."
            " The file was written by something else: write it again."
        )


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint == Json:
        return value
    if origin is Union:
        if value is None and type(None) in arguments:
            return None
        (hint,) = [item for item in arguments if item is not type(None)]
        return _convert(value, hint, where)
    if origin is tuple:
        _expect(value, list, where)
        if arguments[-1] is Ellipsis:
            return tuple(_convert(item, arguments[0], where) for item in value)
        if len(value) != len(arguments):
            raise _wrong_type(f"a list of {len(arguments)}", value, where)
        return tuple(_convert(item, argument, where) for item, argument in zip(value, arguments))
    if dataclasses.is_dataclass(hint):
        _expect(value, dict, where)
        return _build(hint, value, where)
    if origin is not None:  # Mapping[str, X]
        _expect(value, dict, where)
        return {key: _convert(item, arguments[1], where) for key, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _wrong_type("a finite number", value, where)
        return float(value)
    if hint is int and isinstance(value, bool):
        raise _wrong_type("int", value, where)
    _expect(value, hint, where)
    return value


def _expect(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise _wrong_type(kind.__name__, value, where)


def _wrong_type(expected: str, value: Any, where: str) -> RecordError:
    return RecordError(
        f"{where}: expected {expected}, found {value!r}. The file is damaged or was written by"
        " something else: write it again."
    )
