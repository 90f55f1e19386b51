"""Prints, as JSON, the parameters of every function and method of a package minigpt4.

python [-S] contract.py ROOT real|stand-in MODULE [MODULE ...]
"""

import importlib
import importlib.machinery
import inspect
import json
import os
import sys


def main():
    root, kind, *modules = sys.argv[1:]
    import shims

    sys.path[0] = root
    sys.modules["wandb"] = type(sys)("wandb")
    sys.modules["wandb"].__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    if kind == "real":
        shims.before_import()
    found = {}
    for name in modules:
        module = importlib.import_module(name)
        assert module.__file__.startswith(os.path.abspath(root)), module.__file__
        for key, value in vars(module).items():
            if getattr(value, "__module__", None) != name and kind != "real":
                continue
            if inspect.isclass(value):
                found[f"{name}.{key}"] = "class"
                for method in dir(value):
                    function = inspect.getattr_static(value, method)
                    function = getattr(function, "__func__", function)
                    home = str(getattr(function, "__module__", name))
                    if kind != "real" and not home.startswith("minigpt4"):
                        continue  # torch's own
                    if isinstance(function, property):
                        found[f"{name}.{key}.{method}"] = "attribute"
                    elif inspect.isfunction(function):
                        found[f"{name}.{key}.{method}"] = list(
                            inspect.signature(function).parameters
                        )
            elif inspect.isfunction(value):
                found[f"{name}.{key}"] = list(inspect.signature(value).parameters)
    print("CONTRACT", json.dumps(found))


if __name__ == "__main__":
    main()
