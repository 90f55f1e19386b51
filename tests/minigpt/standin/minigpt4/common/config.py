from omegaconf import OmegaConf


class Config:
    """The sections that upstream knows, of the YAML, under `--options`."""

    def __init__(self, args):
        self.args = args
        given = OmegaConf.load(args.cfg_path)
        known = {name: given[name] for name in ("run", "model", "datasets")}
        options = OmegaConf.from_dotlist(self._convert_to_dot_list(args.options))
        self.config = OmegaConf.merge(known, options)

    def _convert_to_dot_list(self, opts):
        if not opts or "=" in opts[0]:
            return list(opts or [])
        return [f"{name}={value}" for name, value in zip(opts[::2], opts[1::2])]

    @property
    def run_cfg(self):
        return self.config.run

    @property
    def datasets_cfg(self):
        return self.config.datasets

    @property
    def model_cfg(self):
        return self.config.model

    def pretty_print(self):
        print(OmegaConf.to_container(self.config, resolve=True))

    def to_dict(self):
        return OmegaConf.to_container(self.config)
