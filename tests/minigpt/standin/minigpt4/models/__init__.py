from minigpt4.models.minigpt4 import MiniGPT4
from minigpt4.models.minigpt_v2 import MiniGPTv2

__all__ = ["MiniGPT4", "MiniGPTv2"]
