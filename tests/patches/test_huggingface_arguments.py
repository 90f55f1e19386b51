"""The flags in the parser of the LLaVA family's train.py; transformers 4.37 and 5."""

import dataclasses
from typing import Any, Iterator, List, Optional, Tuple

import pytest

transformers = pytest.importorskip("transformers", reason="the parser is its: pip install it")
pytest.importorskip("torch", reason="the formulas need it: pip install torch")

from regap_patches._huggingface_arguments import listen
from regap_plugin.config import ReGapConfig
from regap_plugin.errors import ReGapError


@dataclasses.dataclass
class ModelArguments:
    tune_mm_mlp_adapter: bool = False
    mm_projector_type: Optional[str] = "linear"


@dataclasses.dataclass
class DataArguments:
    data_path: Optional[str] = None


@pytest.fixture
def heard() -> Iterator[List[ReGapConfig]]:
    configs: List[ReGapConfig] = []
    revert = listen(configs.append)
    yield configs
    revert()


def parse(arguments: List[str]) -> Tuple[Any, ...]:
    parser = transformers.HfArgumentParser((ModelArguments, DataArguments))
    outputs: Tuple[Any, ...] = parser.parse_args_into_dataclasses(arguments)
    return outputs


def refusal(arguments: List[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_settings_are_heard_and_upstream_unpacks_its_own_dataclasses(
    heard: List[ReGapConfig],
) -> None:
    model, data = parse(["--data_path", "x.json", "--regap_weight", "0.5", "--regap_layer=2"])
    assert (type(model), type(data)) == (ModelArguments, DataArguments)
    assert heard == [ReGapConfig(weight=0.5, layer=2)]


def test_without_a_flag_nothing_is_heard(heard: List[ReGapConfig]) -> None:
    assert len(parse(["--data_path", "x.json"])) == 2
    assert heard == []


def test_help_shows_every_setting(
    heard: List[ReGapConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = capsys.readouterr().out
    for field in dataclasses.fields(ReGapConfig):
        assert f"--regap_{field.name}" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--regap_wieght", "0.5"], "found '--regap_wieght'. Did you mean '--regap_weight'?"),
        (["--regap_weight", "-1"], "regap weight: expected a finite number >= 0, found -1.0"),
        (["--regap_weight", "nan"], "regap weight: expected a finite number >= 0, found nan"),
        (["--regap_weight", "much"], "argument --regap_weight"),
        (
            ["--regap_weight", "1", "--regap_loss", "pairwise_12"],
            "gap loss: expected one of centroid_l2, energy_distance, frechet, info_nce, mmd, "
            "pairwise_l2, pairwise_squared_l2, sliced_wasserstein, found "
            "'pairwise_12'. Did you mean 'pairwise_l2'?",
        ),
        (["--regap_weight", "1", "--regap_text_tokens", "al"], "Did you mean 'all'?"),
        (["--regap_layer", "1"], "regap weight: expected a number >= 0 beside the other settings"),
        (
            ["--regap_mir_every", "10"],
            "found mir_every alone. Set the weight (0 measures the gap without adding it)",
        ),
        (
            ["--regap_weight", "0", "--regap_mir_every", "0"],
            "regap mir_every: expected a whole number >= 1, or nothing, found 0",
        ),
        (
            ["--regap_weight", "1", "--regap_alpha", "2", "--regap_warmup_steps", "3"],
            "expected at most one of them, found both",
        ),
    ],
)
def test_bad_flags_are_refused_at_parse_time(
    heard: List[ReGapConfig],
    capsys: pytest.CaptureFixture[str],
    arguments: List[str],
    expected: str,
) -> None:
    assert expected in refusal(arguments, capsys)
    assert heard == []


def test_other_parsers_are_left_alone(heard: List[ReGapConfig]) -> None:
    parser = transformers.HfArgumentParser(DataArguments)
    with pytest.raises(ValueError, match="--regap_weight"):
        parser.parse_args_into_dataclasses(["--regap_weight", "0.5"])
    assert heard == []


def test_a_namespace_of_upstreams_own_is_passed_on(heard: List[ReGapConfig]) -> None:
    parser = transformers.HfArgumentParser((ModelArguments, DataArguments))
    parser.add_argument("--own", type=int, default=1)
    outputs = parser.parse_args_into_dataclasses(["--own", "3", "--regap_weight", "0.5"])
    assert len(outputs) == 3
    assert vars(outputs[2]) == {"own": 3}


def test_two_codebases_in_one_process_are_refused(heard: List[ReGapConfig]) -> None:
    revert = listen(heard.append)
    try:
        with pytest.raises(ReGapError, match="expected one patched codebase in this process"):
            parse(["--regap_weight", "0.5"])
    finally:
        revert()


def test_revert_restores_the_same_objects() -> None:
    owner = transformers.HfArgumentParser
    before = (owner.__init__, owner.parse_args_into_dataclasses)
    revert = listen(lambda config: None)
    assert owner.__init__ is not before[0]
    revert()
    assert (owner.__init__, owner.parse_args_into_dataclasses) == before
