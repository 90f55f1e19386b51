"""Runs to pages: draw answers, render pictures, write one page for each annotator and the key."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from regap_benchmarks.annotation.candidates import Candidate, Stratum, candidates
from regap_benchmarks.annotation.key_file import (
    NAME,
    Key,
    KeyItem,
    key_run,
    project_of,
    write_key,
)
from regap_benchmarks.annotation.page import PageItem, page_order, render_page
from regap_benchmarks.annotation.sampling import draw
from regap_benchmarks.annotation.shown_pictures import data_url
from regap_benchmarks.judging import answer_sha256
from regap_benchmarks.pictures import PictureError
from regap_benchmarks.run_folder import RunFolder

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AnnotationSettings:
    """What is asked for.

    Attributes:
        sample: answers on each page.
        annotators: pages.
        seed: of draw, ids and orders.
        data: folder of the official files, for their pictures.
        output: folder of pages and key; made.
    """

    sample: int
    annotators: int
    seed: int
    data: Optional[Path]
    output: Path


@dataclass(frozen=True)
class AnnotationPages:
    """What was written.

    Attributes:
        pages: one for each annotator.
        key: the key.
        strata: with the answers in each, and how many of them are on the pages.
    """

    pages: Tuple[Path, ...]
    key: Path
    strata: Tuple[Tuple[Stratum, int, int], ...]


def annotate(
    folders: Sequence[RunFolder],
    settings: AnnotationSettings,
    *,
    progress: Progress = lambda done, total: None,
) -> AnnotationPages:
    """Write the pages.

    Raises:
        ValueError: a run that is there twice, an output that holds a key already, numbers below 1,
            no answers that can be labelled, too small a sample; see `candidates`, `draw`.
        FileNotFoundError: no answers, or no judgements.
        PictureError: a picture that cannot be rendered.
        RecordError: a damaged file.
    """
    _check(folders, settings)
    found = [each for run, folder in enumerate(folders) for each in candidates(run, folder)]
    sampled = draw(found, settings.sample, seed=settings.seed)
    strata = list(sampled.populations)
    ids = _ids(sampled.answers, settings.seed)
    items = [
        KeyItem(
            name,
            strata.index(candidate.stratum),
            candidate.response.sample.task,
            candidate.response.sample.id,
            candidate.response.sample.request,
            answer_sha256(candidate.response),
        )
        for name, candidate in zip(ids, sampled.answers)
    ]
    shown, pictures = _shown(ids, sampled.answers, settings.data, progress)
    settings.output.mkdir(parents=True, exist_ok=True)
    annotators = tuple(f"annotator-{number}" for number in range(1, settings.annotators + 1))
    headers = [folder.read_responses()[0] for folder in folders]
    key = Key(
        project=project_of(items),
        seed=settings.seed,
        annotators=annotators,
        runs=tuple(
            key_run(folder.path, settings.output, header.samples_sha256, header.settings)
            for folder, header in zip(folders, headers)
        ),
        strata=tuple(sampled.populations.items()),
        items=tuple(items),
    )
    pages = []
    for annotator in annotators:
        page = render_page(
            project=key.project,
            annotator=annotator,
            items=[shown[name] for name in page_order(ids, annotator, settings.seed)],
            pictures=pictures,
        )
        pages.append(settings.output / f"{annotator}.html")
        pages[-1].write_text(page, encoding="utf-8", newline="\n")
    # Last: a folder with a key is one whose pages are whole.
    write_key(settings.output / NAME, key)
    drawn = [candidate.stratum for candidate in sampled.answers]
    counts = tuple((each, size, drawn.count(each)) for each, size in sampled.populations.items())
    return AnnotationPages(tuple(pages), settings.output / NAME, counts)


def _check(folders: Sequence[RunFolder], settings: AnnotationSettings) -> None:
    if settings.annotators < 1 or settings.sample < 1:
        raise ValueError(
            "--annotators and --sample: expected 1 or more, found"
            f" {settings.annotators} and {settings.sample}."
        )
    paths = [folder.path.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"Runs: expected each once, found {', '.join(map(str, paths))}. Leave one out."
        )
    if settings.output.exists() and not settings.output.is_dir():
        raise ValueError(f"--output: expected a folder, found the file {settings.output}.")
    if (settings.output / NAME).exists():
        raise ValueError(
            f"{settings.output / NAME}: expected no key yet, found one: labels that people give on"
            " its pages need it. Choose another --output."
        )


def _ids(answers: Sequence[Candidate], seed: int) -> List[str]:
    """Random names that depend on what was drawn, so that two drawings share none."""
    content = [f"{item.stratum.run} {item.response.sample.key}" for item in answers]
    generator = random.Random(f"annotation ids {seed}\n" + "\n".join(content))
    numbers = generator.sample(range(16**10), len(answers))
    return [f"{number:010x}" for number in numbers]


def _shown(
    ids: Sequence[str],
    answers: Sequence[Candidate],
    data: Optional[Path],
    progress: Progress,
) -> Tuple[Dict[str, PageItem], List[str]]:
    """What the pages show, by id, and its pictures, each once."""
    numbers: Dict[str, int] = {}
    shown: Dict[str, PageItem] = {}
    for done, (name, candidate) in enumerate(zip(ids, answers), start=1):
        sample = candidate.response.sample
        own = []
        for picture in sample.pictures:
            try:
                url = data_url(picture, data)
            except PictureError as error:
                raise PictureError(
                    f"Sample {sample.id!r} of {sample.task!r}: {error} If the set's files lie"
                    " elsewhere, name their folder with --data."
                ) from error
            own.append(numbers.setdefault(url, len(numbers)))
        shown[name] = PageItem(name, candidate.response, tuple(own))
        progress(done, len(answers))
    return shown, list(numbers)
