"""Size `paper`: what is to be run on the official models and data, as commands, and a rehearsal.

Nothing is trained here: the commands are upstream's own with the plugin's flags. Hours are their
authors' where a source is named, and are estimates elsewhere.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from regap_benchmarks.experiments.plan import Plan, PlanError
from regap_benchmarks.experiments.recipe import Recipe
from regap_benchmarks.miniature.checkpoints import TinySizes, write_miniature
from regap_benchmarks.miniature.dataset import dataset_texts, write_captions
from regap_benchmarks.miniature.study import PlannedRun
from regap_benchmarks.miniature.units import Processes, Say
from regap_benchmarks.miniature.upstream_training import (
    MINIMUM_STEPS,
    StageOne,
    UpstreamRun,
    training_script,
)

_REHEARSED = 16
_SEED = "SEED"
_OUTPUT = "OUTPUT"


@dataclass(frozen=True)
class PaperTraining:
    """One upstream's pretraining.

    Attributes:
        name: of the upstream.
        source: where the settings are from, with the commit.
        words: the command, run in a checkout of the upstream; SEED and OUTPUT are replaced.
        changed: what differs from that source, and why.
        yaml: whether the plugin's settings go into `--options`.
        paths: files and folders of the command, relative to the checkout.
        settings: hyperparameters, for a table.
        disk: space, in gigabytes, of data, base models and one checkpoint; an estimate.
        gpu_hours: of one training, on its GPUs.
        hours_source: where that is from, or "estimate".
        then: what follows before the checkpoint is measured.
    """

    name: str
    source: str
    words: Tuple[str, ...]
    changed: str
    yaml: bool
    paths: Tuple[str, ...]
    settings: Tuple[Tuple[str, str], ...]
    disk: int
    gpu_hours: float
    hours_source: str
    then: str = "nothing: what is measured is this checkpoint"


_LLAVA_ARGUMENTS = (
    "--version plain --vision_tower openai/clip-vit-large-patch14-336 --mm_projector_type"
    " mlp2x_gelu --mm_vision_select_layer -2 --mm_use_im_start_end False"
    " --mm_use_im_patch_token False --bf16 True --num_train_epochs 1"
    " --per_device_eval_batch_size 4 --gradient_accumulation_steps 1 --evaluation_strategy no"
    " --save_strategy steps --save_total_limit 1 --weight_decay 0. --warmup_ratio 0.03"
    " --lr_scheduler_type cosine --logging_steps 1 --tf32 True --model_max_length 2048"
    " --gradient_checkpointing True --dataloader_num_workers 4 --lazy_preprocess True"
    f" --seed {_SEED} --output_dir {_OUTPUT}"
)
_LLAVA_DATA = (
    "playground/data/LLaVA-Pretrain/blip_laion_cc_sbu_558k.json",
    "playground/data/LLaVA-Pretrain/images",
)
_SHARE_DATA = ("data/sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json", "data")
_SHARE_PROJECTOR = (
    "pretrained/projector/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5/mm_projector.bin"
)
_MINIGPT_CONFIG = "train_configs/minigpt4_stage1_pretrain.yaml"

TRAININGS = (
    PaperTraining(
        name="llava",
        source="github.com/haotian-liu/LLaVA at c121f04, scripts/v1_5/pretrain.sh",
        words=(
            *shlex.split("deepspeed llava/train/train_mem.py --deepspeed ./scripts/zero2.json"),
            *shlex.split("--model_name_or_path lmsys/vicuna-7b-v1.5 --tune_mm_mlp_adapter True"),
            *("--data_path", _LLAVA_DATA[0], "--image_folder", _LLAVA_DATA[1]),
            *shlex.split("--per_device_train_batch_size 32 --learning_rate 1e-3"),
            *shlex.split("--save_steps 24000 --report_to none"),
            *shlex.split(_LLAVA_ARGUMENTS),
        ),
        changed="7B for 13B, as the paper; a seed; no wandb",
        yaml=False,
        paths=("llava/train/train_mem.py", "scripts/zero2.json", *_LLAVA_DATA),
        settings=(
            ("trained", "projector"),
            ("pairs", "558 thousand, one epoch"),
            ("batch", "256: 8 GPUs of 32"),
            ("learning rate", "1e-3, cosine, 3 % warm-up"),
        ),
        disk=60,
        gpu_hours=28,
        hours_source="LLaVA's README: around 3.5 hours on 8 A100 (80 GB)",
        then="scripts/v1_5/finetune.sh with --pretrain_mm_mlp_adapter OUTPUT/mm_projector.bin, 80"
        " GPU hours more (README: around 10 hours on 8 A100, 40 GB), 130 GB of data (estimate)",
    ),
    PaperTraining(
        name="share4v",
        source="github.com/InternLM/InternLM-XComposer at 40f5f03,"
        " projects/ShareGPT4V/scripts/sharegpt4v/slurm_pretrain_7b.sh",
        words=(
            *shlex.split("torchrun --nproc_per_node 8 share4v/train/train_mem.py"),
            *shlex.split("--deepspeed ./scripts/zero3.json"),
            *shlex.split("--model_name_or_path lmsys/vicuna-7b-v1.5 --tune_entire_model True"),
            *("--tune_vit_from_layer", "12", "--pretrain_mm_mlp_adapter", _SHARE_PROJECTOR),
            *("--data_path", _SHARE_DATA[0], "--image_folder", _SHARE_DATA[1]),
            *shlex.split("--per_device_train_batch_size 16 --learning_rate 2e-5"),
            *shlex.split("--save_steps 50000 --report_to none"),
            *shlex.split(_LLAVA_ARGUMENTS.replace("accumulation_steps 1", "accumulation_steps 2")),
        ),
        changed="one node of 8 GPUs and 2 accumulated steps for two nodes under slurm; a seed; no"
        " wandb",
        yaml=False,
        paths=(
            "share4v/train/train_mem.py",
            "scripts/zero3.json",
            *_SHARE_DATA,
            _SHARE_PROJECTOR,
        ),
        settings=(
            ("trained", "projector, LLM, upper half of the tower"),
            ("pairs", "1246 thousand, one epoch"),
            ("batch", "256: 8 GPUs of 16, twice"),
            ("learning rate", "2e-5, cosine, 3 % warm-up"),
        ),
        disk=700,
        gpu_hours=200,
        hours_source="estimate",
        then="the checkout's finetune script, without the flag",
    ),
    PaperTraining(
        name="minigpt4",
        source=f"github.com/Vision-CAIR/MiniGPT-4 at 7831c8f, {_MINIGPT_CONFIG}",
        words=(
            *shlex.split(f"torchrun --nproc-per-node 4 train.py --cfg-path {_MINIGPT_CONFIG}"),
            *("--options", f"run.seed={_SEED}", f"run.output_dir={_OUTPUT}", "run.wandb_log=False"),
        ),
        changed="a seed; no wandb; paths of data and base models are set in minigpt4/configs",
        yaml=True,
        paths=("train.py", _MINIGPT_CONFIG),
        settings=(
            ("trained", "one linear layer"),
            ("pairs", "LAION and CC/SBU, 4 epochs of 5000 steps"),
            ("batch", "256: 4 GPUs of 64"),
            ("learning rate", "1e-4 to 8e-5, cosine, 5000 steps warm-up"),
        ),
        disk=600,
        gpu_hours=40,
        hours_source="MiniGPT-4's README: 10 hours on 4 A100",
        then="train_configs/minigpt4_stage2_finetune.yaml, without the key; minutes on one GPU",
    ),
)


def commands(
    training: PaperTraining, plan: Plan, more: Sequence[PlannedRun] = ()
) -> List[Tuple[str, str]]:
    """The name and the command of every training of a plan.

    Args:
        training: which upstream's.
        plan: losses, weights and seeds.
        more: of the recipe, beside those.
    """
    runs = []
    for seed in plan.seeds:
        runs.append(PlannedRun(seed, plan.losses[0], 0.0))
        runs += [PlannedRun(seed, loss, w) for loss in plan.losses for w in plan.weights]
        runs += [each for each in more if each.seed == seed]
    return [(run.name, shlex.join(_command(training, run))) for run in runs]


def describe(training: PaperTraining, plan: Plan, more: Sequence[PlannedRun] = ()) -> List[str]:
    """Source, settings, costs and all commands, a line each."""
    made = commands(training, plan, more)
    total = training.gpu_hours * len(made)
    return [
        f"# {training.name}",
        f"# source: {training.source}; changed: {training.changed}",
        *(f"# {name}: {value}" for name, value in training.settings),
        f"# disk: about {training.disk} GB (estimate)",
        f"# GPU hours: {training.gpu_hours:g} a training ({training.hours_source}),"
        f" {total:g} for these {len(made)}; ReGap's own cost is not in it",
        f"# then: {training.then}",
        *(command for _, command in made),
    ]


def rehearse(folder: Path, plan: Plan, more: Sequence[PlannedRun], say: Say) -> List[str]:
    """A few steps of LLaVA's own train.py on random weights of tiny size, with the plan's flags.

    Each formula and layer once; a layer beyond the tiny model's last is tried there.

    Args:
        folder: for the weights and the runs.
        plan: of the experiment.
        more: the recipe's trainings beside the plan's losses and weights.
        say: gets a line at a time.

    Returns:
        names of the runs that finished.

    Raises:
        UnitError: one that failed, with the end of its log.
    """
    sizes = TinySizes()
    weight = plan.weights[0]
    wanted = {(loss, 0) for loss in plan.losses}
    wanted |= {(each.loss, min(each.layer, sizes.layers)) for each in more}
    runs = [PlannedRun(0, loss, weight, layer) for loss, layer in sorted(wanted)]
    folder.mkdir(parents=True, exist_ok=True)
    data = write_captions(folder / "data", count=_REHEARSED, seed=0)
    files = write_miniature(folder, dataset_texts(data), seed=0, sizes=sizes)
    script = training_script()
    for run in runs:
        stage = StageOne(
            name=run.name,
            base=str(files.language_model.relative_to(folder)),
            tower=str(files.vision_tower.resolve()),
            projector=str(files.projector.relative_to(folder)),
            data="data",
            seed=0,
            steps=MINIMUM_STEPS + 1,
            batch=4,
            flags=run.flags,
        )
        UpstreamRun(folder.resolve(), stage, script).train(Processes(), say)
        say(f"rehearsed {run.name}")
    return [run.name for run in runs]


def show_paper(
    recipe: Recipe, plan: Plan, *, checkout: Optional[Path], rehearsal: Optional[Path], say: Say
) -> bool:
    """Print the plan's commands; with a checkout look for its files, with a folder rehearse.

    Returns:
        whether nothing was missing.

    Raises:
        PlanError: options that cannot be used.
        UnitError: a rehearsal that failed.
    """
    recipe.check(plan)
    more = recipe.trainings(plan)
    complete = True
    trainings = training_named(plan.options.get("upstream"))
    for training in trainings:
        for line in describe(training, plan, more):
            say(line)
        if checkout is not None and len(trainings) == 1:
            missing = missing_paths(training, checkout)
            complete = complete and not missing
            for path in missing:
                say(f"# missing in {checkout}: {path}")
        say("")
    if checkout is not None and len(trainings) > 1:
        raise PlanError(
            'options: upstream: expected one of them with --checkout, found none. Set "upstream".'
        )
    if rehearsal is not None:
        if any(each.name == "llava" for each in trainings):
            done = rehearse(rehearsal, plan, more, say)
            say(f"# rehearsed by LLaVA's train.py on random weights: {', '.join(done)}")
        if any(each.name != "llava" for each in trainings):
            say("# ShareGPT4V and MiniGPT-4 are rehearsed by the project's tests alone")
    return complete


def missing_paths(training: PaperTraining, checkout: Path) -> List[str]:
    """What of the command's files and folders is not in a checkout of the upstream."""
    return [path for path in training.paths if not (checkout / path).exists()]


def training_named(name: Optional[object]) -> List[PaperTraining]:
    """The upstream of a plan's option, or all.

    Raises:
        PlanError: there is none of that name.
    """
    found = [each for each in TRAININGS if name is None or each.name == name]
    if not found:
        names = ", ".join(each.name for each in TRAININGS)
        raise PlanError(f"options: upstream: expected one of {names}, found {name!r}.")
    return found


def _command(training: PaperTraining, run: PlannedRun) -> List[str]:
    places = {_SEED: str(run.seed), _OUTPUT: f"checkpoints/{training.name}-{run.name}"}
    words = list(training.words)
    for name, value in places.items():
        words = [word.replace(name, value) for word in words]
    if not training.yaml:
        return [*words, *run.flags]
    settings = {
        name[len("--regap_") :]: value for name, value in zip(run.flags[::2], run.flags[1::2])
    }
    # In this form upstream itself stops where the plugin is not active.
    settings["weight"] = f"${{regap:{settings['weight']}}}"
    return [*words, *(f"run.regap.{name}={value}" for name, value in settings.items())]
