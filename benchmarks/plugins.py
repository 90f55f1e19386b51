"""The benchmarks' plugin manager: sets, judges, runners and defences by name."""

import functools
from typing import Callable, Dict, Generic, List, Optional, TypeVar

import pluggy

from regap_benchmarks import hookspecs
from regap_benchmarks.benchmark import Benchmark
from regap_benchmarks.defences.defence import DefenceKind
from regap_benchmarks.hookspecs import hookimpl
from regap_benchmarks.judges.judge import JudgeKind
from regap_benchmarks.runners.runner import RunnerKind
from regap_plugin.config import unknown_name

GROUP = "regap.benchmarks"
T = TypeVar("T", Benchmark, JudgeKind, RunnerKind, DefenceKind)


class PluginError(RuntimeError):
    """A plugin that cannot be loaded, misspells a hook or takes a name that is taken."""


class Registry(Generic[T]):
    """Named things of one kind.

    Args:
        kind: what one of them is called in messages.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._things: Dict[str, T] = {}

    @property
    def names(self) -> List[str]:
        """All names, sorted."""
        return sorted(self._things)

    def register(self, thing: T) -> None:
        """Add one.

        Raises:
            PluginError: its name is taken.
        """
        if thing.name in self._things:
            raise PluginError(
                f"{self._kind.capitalize()} {thing.name!r}: expected a name of its own, found one"
                " that is registered already. Rename the plugin's or uninstall one package."
            )
        self._things[thing.name] = thing

    def get(self, name: str) -> T:
        """The one of that name.

        Raises:
            ValueError: there is none; names the nearest.
        """
        if name not in self._things:
            raise ValueError(unknown_name(self._kind, name, self._things))
        return self._things[name]


class BenchmarkPlugins:
    """The built-in sets, judges, runners and defences, and those of plugins.

    Args:
        manager: holds the plugins; a fresh one with the built-in plugin if absent.

    Raises:
        PluginError: a hook that does not exist, a name taken twice.
    """

    def __init__(self, manager: Optional[pluggy.PluginManager] = None) -> None:
        self.manager = new_manager() if manager is None else manager
        self.benchmarks: Registry[Benchmark] = Registry("task")
        self.judges: Registry[JudgeKind] = Registry("judge")
        self.runners: Registry[RunnerKind] = Registry("runner")
        self.defences: Registry[DefenceKind] = Registry("defence")
        self._check_hooks()
        hook = self.manager.hook
        hook.regap_register_benchmarks(register=self.benchmarks.register)
        hook.regap_register_judges(register=self.judges.register)
        hook.regap_register_runners(register=self.runners.register)
        hook.regap_register_defences(register=self.defences.register)

    def _check_hooks(self) -> None:
        # pluggy accepts a misspelt hook in silence; only this call reports it.
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            hooks = [name for name in vars(hookspecs) if name.startswith("regap_")]
            raise PluginError(
                f"Plugin {error.plugin!r}: expected hooks of {', '.join(sorted(hooks))}, found"
                f" {error}. Correct its spelling."
            ) from error


class BuiltIn:
    """The plugin of what comes with the package."""

    @hookimpl
    def regap_register_benchmarks(self, register: Callable[[Benchmark], None]) -> None:
        """The sets of safety and utility; two small ones need no download."""
        from regap_benchmarks.safety import (
            advbench,
            figstep,
            hades,
            harmbench,
            jailbreakv,
            mm_safetybench,
            strongreject,
            vlguard,
            vlsafe,
            xstest,
        )
        from regap_benchmarks.safety.miniature_requests import (
            MiniatureRequests,
            MiniatureRequestsMany,
            MiniatureRequestsManyTold,
            MiniatureRequestsTold,
        )
        from regap_benchmarks.safety.stand_in_requests import StandInRequests
        from regap_benchmarks.utility.captions import Captions
        from regap_benchmarks.utility.drawn_questions import DrawnQuestions
        from regap_benchmarks.utility.gqa import Gqa
        from regap_benchmarks.utility.llava_bench import LlavaBench
        from regap_benchmarks.utility.mm_vet import MMVet, MMVetBard
        from regap_benchmarks.utility.mmbench import MMBench, MMBenchEn
        from regap_benchmarks.utility.mme import MME
        from regap_benchmarks.utility.pope import Pope, PopeHead
        from regap_benchmarks.utility.scienceqa import ScienceQA
        from regap_benchmarks.utility.seed_bench import SeedBench
        from regap_benchmarks.utility.textvqa import TextVqa, TextVqaWithoutOcr
        from regap_benchmarks.utility.vizwiz import VizWiz, VizWizVal
        from regap_benchmarks.utility.vqav2 import VqaV2, VqaV2Val

        register(Captions())
        register(DrawnQuestions())
        register(Gqa())
        register(LlavaBench())
        register(MMBench())
        register(MMBenchEn())
        register(MMVet())
        register(MMVetBard())
        register(MME())
        register(MiniatureRequests())
        register(MiniatureRequestsTold())
        register(MiniatureRequestsMany())
        register(MiniatureRequestsManyTold())
        register(Pope())
        register(PopeHead())
        register(ScienceQA())
        register(SeedBench())
        register(StandInRequests())
        register(TextVqa())
        register(TextVqaWithoutOcr())
        register(VizWiz())
        register(VizWizVal())
        register(VqaV2())
        register(VqaV2Val())
        advbench.register(register)
        figstep.register(register)
        hades.register(register)
        harmbench.register(register)
        jailbreakv.register(register)
        mm_safetybench.register(register)
        strongreject.register(register)
        vlguard.register(register)
        vlsafe.register(register)
        xstest.register(register)

    @hookimpl
    def regap_register_judges(self, register: Callable[[JudgeKind], None]) -> None:
        """Phrases, models, and a fake."""
        from regap_benchmarks.judges import (
            beaver_dam,
            fake,
            figstep_phrases,
            gcg_phrases,
            harmbench,
            llama_guard,
            mm_safetybench_questions,
            real_recipe,
            refusal_phrases,
            strongreject_rubric,
            vlguard_phrases,
            wildguard,
            xstest_phrases,
        )

        for kind in (
            beaver_dam.BEAVER_DAM,
            fake.FAKE,
            figstep_phrases.FIGSTEP,
            gcg_phrases.GCG,
            gcg_phrases.GCG_TOLERANT,
            harmbench.HARMBENCH,
            *llama_guard.LLAMA_GUARDS,
            mm_safetybench_questions.MM_SAFETYBENCH_QUESTIONS,
            real_recipe.REAL_RECIPE,
            refusal_phrases.REFUSAL_PHRASES,
            strongreject_rubric.STRONGREJECT_RUBRIC,
            vlguard_phrases.VLGUARD,
            vlguard_phrases.VLGUARD_TOLERANT,
            wildguard.WILDGUARD,
            xstest_phrases.XSTEST,
            xstest_phrases.XSTEST_TOLERANT,
        ):
            register(kind)

    @hookimpl
    def regap_register_runners(self, register: Callable[[RunnerKind], None]) -> None:
        """LLaVA, ShareGPT4V, MiniGPT-4, Hugging Face, a server, and a fake."""
        from regap_benchmarks.runners import (
            fake,
            huggingface,
            llava,
            minigpt4,
            openai,
            sharegpt4v,
        )

        register(fake.FAKE)
        register(huggingface.HUGGINGFACE)
        register(llava.LLAVA)
        register(minigpt4.MINIGPT4)
        register(openai.OPENAI)
        register(sharegpt4v.SHAREGPT4V)

    @hookimpl
    def regap_register_defences(self, register: Callable[[DefenceKind], None]) -> None:
        """AdaShield-S, ECSO, and ETA for whoever brings its scorers."""
        from regap_benchmarks.defences import adashield_s, ecso, eta

        register(adashield_s.ADASHIELD_S)
        register(ecso.ECSO)
        register(eta.ETA)


def new_manager() -> pluggy.PluginManager:
    """A manager that knows the hooks and holds the built-in plugin."""
    manager = pluggy.PluginManager("regap_benchmarks")
    manager.add_hookspecs(hookspecs)
    manager.register(BuiltIn(), name="built-in")
    return manager


@functools.cache
def load_plugins() -> BenchmarkPlugins:
    """What is installed in this environment, loaded once.

    Raises:
        PluginError: a plugin that cannot be imported, misspells a hook or takes a taken name.
    """
    manager = new_manager()
    try:
        manager.load_setuptools_entrypoints(GROUP)
    except Exception as error:
        raise PluginError(
            f"Entry points of group {GROUP!r}: expected plugins that can be imported, found"
            f" {type(error).__name__}: {error}. Mend or uninstall the plugin."
        ) from error
    return BenchmarkPlugins(manager)
