from minigpt4.common.registry import registry
from minigpt4.models.minigpt_base import MiniGPTBase


@registry.register_model("minigpt_v2")
class MiniGPTv2(MiniGPTBase):
    def __init__(self, lora_r=64):
        super().__init__(lora_r=lora_r)
        self.prompt_template = "[INST] {} [/INST]"

    @classmethod
    def from_config(cls, cfg):
        return cls._configured(cfg)

    def encode_img(self, image):
        return self._encoded(image)
