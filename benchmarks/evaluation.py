"""The stages over the folder of a run: generate, judge, report. Each reads the file before it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from regap_benchmarks.attacks.attacked_samples import AttackedPictures
from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.defences.defence import DefenceKind, Defended, check_defences
from regap_benchmarks.environment import environment
from regap_benchmarks.generation import GenerationSummary, generate
from regap_benchmarks.judges.grader import NO_OPTIONS, GraderOptions, set_graders
from regap_benchmarks.judges.judge import Judge, JudgeKind, check_options, options_for
from regap_benchmarks.judges.judge_options import JudgeOptions
from regap_benchmarks.judges.judge_question import check_questions
from regap_benchmarks.judges.request_cost import RequestCost
from regap_benchmarks.judging import JudgingSummary, judge_responses, shown_to
from regap_benchmarks.pictures import check_condition, file_of
from regap_benchmarks.plugins import BenchmarkPlugins
from regap_benchmarks.records import ERROR, Json, Judgement, Response, RunHeader, read_run
from regap_benchmarks.run_folder import RunFolder
from regap_benchmarks.run_plan import header_for, plan_samples, shard_of
from regap_benchmarks.runners.runner import ModelOptions, RunnerKind
from regap_benchmarks.turn_by_turn import check_turns
from regap_benchmarks.turn_forms import check_form

DEFAULT_JUDGE = "refusal_phrases"
_NO_OPTIONS = JudgeOptions()
# Makes what is told of progress, by the name of the stage.
MakeProgress = Callable[[str], Callable[[int, int], None]]
BeforeJudging = Callable[[Judge, Sequence[Response]], None]


@dataclass(frozen=True)
class RunSettings:
    """What `regap-bench run` asks.

    Attributes:
        runner: the way to load the model.
        options: the checkpoint and how it is loaded.
        benchmarks: the tasks, in order.
        conditions: picture conditions; none: as each set gives it.
        decoding: settings of the answers.
        limit: the first so many requests of each task.
        data: folder of the official files.
        batch_size: requests that are asked together, at most.
        shard: number of this process and how many there are.
        retry_failed: ask again what ended in an error earlier.
        defences: before the model; the first sees the request first.
        turns: conversation forms; none: as each set gives it.
        attacked: folder of an attack, with whose pictures each request is asked, too.
    """

    runner: RunnerKind
    options: ModelOptions
    benchmarks: Sequence[Benchmark]
    conditions: Sequence[str] = ()
    decoding: Decoding = field(default_factory=Decoding)
    limit: Optional[int] = None
    data: Optional[Path] = None
    batch_size: int = 1
    shard: Tuple[int, int] = (0, 1)
    retry_failed: bool = False
    defences: Sequence[DefenceKind] = ()
    turns: Sequence[str] = ()
    attacked: Optional[Path] = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch-size: expected 1 or more, found {self.batch_size}.")
        for condition in self.conditions:
            check_condition(condition)
        for form in self.turns:
            check_form(form)

    def describe(self) -> Dict[str, Json]:
        """What decides the answers, for the header; what the model says of itself comes on top."""
        # Left out where it says nothing, so that a run of before can go on.
        turns: Dict[str, Json] = {"turns": list(self.turns)} if self.turns else {}
        return {
            "runner": self.runner.name,
            "quantization": dict(self.options.quantization.describe()),
            "dtype": self.options.dtype if self.runner.loads_weights else None,
            "conversation": self.options.conversation,
            "image_aspect": self.options.image_aspect,
            "tasks": {benchmark.name: benchmark.version for benchmark in self.benchmarks},
            "pictures": list(self.conditions) or None,
            **turns,
            "limit": self.limit,
            "decoding": dict(self.decoding.describe()),
        }


@dataclass(frozen=True)
class GenerationOutcome:
    """What `generate_run` did.

    Attributes:
        header: of the run.
        summary: of this process; None where all processes had finished before.
        complete: whether `responses.jsonl` is there now.
        goes_on: whether this process, of several, is the one to judge.
    """

    header: RunHeader
    summary: Optional[GenerationSummary]
    complete: bool
    goes_on: bool


def generate_run(
    folder: RunFolder, settings: RunSettings, *, progress: MakeProgress
) -> GenerationOutcome:
    """Plan the samples, load the model, ask it, and merge what several processes have written.

    Bad input is refused before the model is loaded.

    Raises:
        ValueError: a sample, condition, option or checkpoint that cannot be used.
        FileNotFoundError: a file of a benchmark is missing.
        MissingRequirementError: this environment cannot run the model.
        RecordFileError: the folder holds another run, or cannot be written.
    """
    settings.runner.check(settings.options)
    check_defences(settings.defences)
    attacked = None if settings.attacked is None else AttackedPictures(settings.attacked)
    samples = plan_samples(
        settings.benchmarks,
        conditions=settings.conditions,
        turns=settings.turns,
        attacked=attacked,
        limit=settings.limit,
        data=settings.data,
    )
    runner = settings.runner.load(settings.options)
    try:
        check_turns(samples, runner)
        described: Dict[str, Json] = {**settings.describe(), "model": dict(runner.describe())}
        if attacked is not None:
            described["attacked"] = dict(attacked.describe())
        if settings.defences:
            runner = defended = Defended(runner, settings.defences)
            described["defences"] = dict(defended.settings())
        header = header_for(
            samples,
            settings=described,
            environment={
                **environment(),
                "model_path": settings.options.path,
                "model_base": settings.options.base,
                "batch_size": settings.batch_size,
                "processes": settings.shard[1],
                **runner.environment(),
            },
            shard=settings.shard,
        )
        if not folder.check_shard(header):
            return GenerationOutcome(header, None, complete=True, goes_on=settings.shard[0] == 0)
        summary = generate(
            shard_of(samples, settings.shard),
            runner,
            settings.decoding,
            path=folder.responses_of(settings.shard),
            header=header,
            batch_size=settings.batch_size,
            data=settings.data,
            retry_failed=settings.retry_failed,
            progress=progress("generate"),
        )
    finally:
        runner.close()
    goes_on = folder.merge(samples, settings.shard[1])
    return GenerationOutcome(header, summary, folder.responses.is_file(), goes_on)


def judge_run(
    folder: RunFolder,
    names: Sequence[str],
    plugins: BenchmarkPlugins,
    *,
    progress: MakeProgress,
    batch_size: int = 64,
    overwrite: bool = False,
    options: JudgeOptions = _NO_OPTIONS,
    grader: GraderOptions = NO_OPTIONS,
    before: BeforeJudging = lambda judge, shown: None,
    after: Callable[[Judge], None] = lambda judge: None,
) -> Dict[str, JudgingSummary]:
    """Judge the answers of a run: sets with rules of their own by those, others by the judges.

    Args:
        folder: with `responses.jsonl`.
        names: judges of the tasks that have no scorer.
        plugins: know judges and tasks.
        progress: of each judge.
        batch_size: answers that are judged together, at most.
        overwrite: judge all again.
        options: of the judges.
        grader: which server grades the tasks that a model grades.
        before: see `judge_responses`.
        after: told of each judge when it has ended, well or not.

    Returns:
        by judge or scorer, what was done.

    Raises:
        ValueError: an unknown judge or task; no judge where one is needed; options that do not
            fit; a sample without a question that a judge could be shown.
        MissingRequirementError: a judge that cannot run here.
        FileNotFoundError: no answers.
        JudgeError, RecordFileError: see `judge_responses`.
    """
    kinds = [plugins.judges.get(name) for name in names]
    header, responses = folder.read_responses()
    tasks = list(dict.fromkeys(cell.task for cell in header.cells))
    scorers = {task: plugins.benchmarks.get(task).scorer() for task in tasks}
    set_graders(list(scorers.values()), grader)
    unscored = [task for task, scorer in scorers.items() if scorer is None]
    if unscored and not kinds:
        raise ValueError(
            f"--judge: expected a judge for {', '.join(unscored)}, found none. Name one of"
            f" {', '.join(plugins.judges.names)}."
        )
    if unscored:
        check_options(kinds, options)
        if any(kind.reads_question for kind in kinds):
            check_questions([each for each in responses if each.sample.task in unscored])
        if any(kind.sees_pictures for kind in kinds):
            _check_pictures([r for r in responses if r.sample.task in unscored], options.data)
    done = {}
    for judge, judged in _judges(scorers, kinds if unscored else [], unscored, options):
        path = folder.judgements(judge.name)
        try:
            if overwrite and path.is_file():
                # What refuses to begin must not have cost the verdicts that are there.
                asked = [each for each in responses if each.sample.task in judged]
                before(judge, shown_to(judge, asked))
                path.unlink()
            done[judge.name] = judge_responses(
                header,
                responses,
                judge,
                path=path,
                tasks=judged,
                batch_size=batch_size,
                progress=progress(f"judge {judge.name}"),
                before=before,
            )
        finally:
            after(judge)
            judge.close()
    return done


def _check_pictures(responses: Sequence[Response], data: Optional[Path]) -> None:
    for response in responses:
        for picture in response.sample.pictures if response.finish != ERROR else ():
            file = file_of(picture, data)
            if file is not None and not file.is_file():
                raise ValueError(
                    f"Sample {response.sample.id!r} of {response.sample.task!r}: expected its"
                    f" picture for a judge that sees it, found no {file}. Pass --data DIR, the"
                    " folder that the answers were generated with."
                )


def cost_of_judging(
    folder: RunFolder, names: Sequence[str], plugins: BenchmarkPlugins, options: JudgeOptions
) -> Dict[str, Optional[RequestCost]]:
    """What judging what is left of a run would cost, by judge; None where no server is asked.

    No model is loaded and nothing is sent.

    Raises:
        ValueError, FileNotFoundError, RecordFileError: see `judge_run`.
    """
    kinds = [plugins.judges.get(name) for name in names]
    check_options(kinds, options)
    _, responses = folder.read_responses()
    costs: Dict[str, Optional[RequestCost]] = {}
    for kind in kinds:
        costs[kind.name] = None
        if "url" not in kind.options:
            continue
        path = folder.judgements(kind.name)
        done = {each.key for each in read_run(path, Judgement)[1]} if path.is_file() else set()
        left = [
            response
            for response in responses
            if response.sample.key not in done
            and plugins.benchmarks.get(response.sample.task).scorer() is None
        ]
        judge = kind.make(options_for(kind, kinds, options))
        costs[kind.name] = judge.cost(shown_to(judge, left))
        judge.close()
    return costs


def _judges(
    scorers: Mapping[str, Optional[Judge]],
    kinds: Sequence[JudgeKind],
    unscored: Sequence[str],
    options: JudgeOptions,
) -> Iterator[Tuple[Judge, Sequence[str]]]:
    """Each judge with its tasks; one that is a model is loaded when the one before is done."""
    for task, scorer in scorers.items():
        if scorer is not None:
            yield scorer, [task]
    for kind in kinds:
        yield kind.make(options_for(kind, kinds, options)), unscored
