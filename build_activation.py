"""Puts the activation `.pth` at the root of the wheel.

`data_files` cannot do it (it lands in the environment's prefix), so `setup.cfg` names this
`build_py` in its `cmdclass`. Editable installs do not run it: `regap activate` mends those.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import List

from setuptools.command.build_py import build_py

_ACTIVATION = Path(__file__).parent / "regap_plugin" / "activation.py"


def _load_activation() -> ModuleType:
    # By path: the package is not importable while it is being built.
    spec = importlib.util.spec_from_file_location("_regap_activation", _ACTIVATION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithActivation(build_py):
    """`build_py` that also writes the `.pth` file into the build root."""

    def run(self) -> None:
        """Build as usual, then add the `.pth` unless the install is editable."""
        super().run()
        if not self.editable_mode:
            self._pth_path().write_text(_load_activation().PTH_LINE, encoding="utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> List[str]:
        """List the built files, the `.pth` included, so that installers own it."""
        outputs: List[str] = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(self._pth_path())]

    def _pth_path(self) -> Path:
        path = Path(self.build_lib, str(_load_activation().PTH_NAME))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
