import torch

from minigpt4.common.registry import registry
from minigpt4.models.minigpt_base import FEATURES, MiniGPTBase


@registry.register_model("minigpt4")
class MiniGPT4(MiniGPTBase):
    def __init__(self):
        super().__init__()

    @classmethod
    def from_config(cls, cfg):
        model = cls._configured(cfg)
        if cfg.get("has_qformer", True):
            count = cfg.get("num_query_token", 4)
            queries = torch.randn(1, count, FEATURES)
            model.query_tokens = torch.nn.Parameter(queries, requires_grad=False)
        return model

    def _connect(self, rows):
        if not hasattr(self, "query_tokens"):
            return rows
        weights = (self.query_tokens @ rows.transpose(1, 2)).softmax(-1)
        return self.query_tokens + weights @ rows

    def encode_img(self, image):
        return self._encoded(image)
