from typing import ClassVar, Dict


class Registry:
    mapping: ClassVar[Dict[str, dict]] = {"model": {}, "task": {}, "runner": {}, "paths": {}}

    @classmethod
    def register_model(cls, name):
        return cls._into("model", name)

    @classmethod
    def register_task(cls, name):
        return cls._into("task", name)

    @classmethod
    def register_runner(cls, name):
        return cls._into("runner", name)

    @classmethod
    def register_path(cls, name, path):
        cls.mapping["paths"][name] = path

    @classmethod
    def get_model_class(cls, name):
        return cls.mapping["model"].get(name)

    @classmethod
    def get_task_class(cls, name):
        return cls.mapping["task"].get(name)

    @classmethod
    def get_runner_class(cls, name):
        return cls.mapping["runner"].get(name)

    @classmethod
    def get_path(cls, name):
        return cls.mapping["paths"].get(name)

    @classmethod
    def _into(cls, kind, name):
        def keep(registered):
            cls.mapping[kind][name] = registered
            return registered

        return keep


registry = Registry()
