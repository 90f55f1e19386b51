"""How pictures enter the sequence."""

import torch
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionModel

from share4v.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX


class _VisionTower(nn.Module):
    def __init__(self, path, select_layer):
        super().__init__()
        self.select_layer = select_layer
        self.image_processor = CLIPImageProcessor.from_pretrained(path)
        self.vision_tower = CLIPVisionModel.from_pretrained(path)
        self.vision_tower.requires_grad_(False)

    def forward(self, images):
        pixels = images.to(self.vision_tower.dtype)
        states = self.vision_tower(pixels, output_hidden_states=True).hidden_states
        return states[self.select_layer][:, 1:].to(images.dtype)


class Share4VMetaModel:
    def __init__(self, config):
        super().__init__(config)

    def get_vision_tower(self):
        return getattr(self, "vision_tower", None)

    def initialize_vision_modules(self, model_args, fsdp=None):
        tower = _VisionTower(model_args.vision_tower, model_args.mm_vision_select_layer)
        inner, outer = tower.vision_tower.config.hidden_size, self.config.hidden_size
        self.vision_tower = tower
        if model_args.mm_projector_type == "linear":
            self.mm_projector = nn.Linear(inner, outer)
        else:
            self.mm_projector = nn.Sequential(
                nn.Linear(inner, outer), nn.GELU(), nn.Linear(outer, outer)
            )
        if model_args.pretrain_mm_mlp_adapter is not None:
            weights = torch.load(model_args.pretrain_mm_mlp_adapter, map_location="cpu")
            prefix = "model.mm_projector."
            self.mm_projector.load_state_dict({k[len(prefix) :]: w for k, w in weights.items()})


class Share4VMetaForCausalLM:
    def get_vision_tower(self):
        return self.get_model().get_vision_tower()

    def encode_images(self, images):
        return self.get_model().mm_projector(self.get_vision_tower()(images))

    def prepare_inputs_labels_for_multimodal(
        self, input_ids, attention_mask, past_key_values, labels, images
    ):
        if self.get_vision_tower() is None or images is None or input_ids.shape[1] == 1:
            return input_ids, attention_mask, past_key_values, None, labels
        if isinstance(images, list) or images.ndim == 5:
            pictures = list(self.encode_images(torch.cat(list(images))))
            pictures = [torch.cat([pictures.pop(0) for _ in range(len(group))]) for group in images]
        else:
            pictures = list(self.encode_images(images))

        rows, row_labels = [], []
        for index, ids in enumerate(input_ids):
            places = (ids == IMAGE_TOKEN_INDEX).nonzero().flatten().tolist()
            ends = [*places, len(ids)]
            starts = [0, *(place + 1 for place in places)]
            row, marks = [], []
            for start, end in zip(starts, ends):
                row.append(self.get_model().embed_tokens(ids[start:end]))
                if labels is not None:
                    marks.append(labels[index, start:end])
                if end < len(ids):
                    row.append(pictures.pop(0))
                    marks.append(torch.full((len(row[-1]),), IGNORE_INDEX, device=ids.device))
            if not places:  # its picture is a dummy: none of its rows, but the graph stays whole
                row.append(pictures.pop(0)[:0])
            rows.append(torch.cat(row))
            if labels is not None:
                row_labels.append(torch.cat(marks))

        longest = max(map(len, rows))
        if attention_mask is not None:
            merged = torch.zeros(len(rows), longest, dtype=attention_mask.dtype)
            merged = merged.to(attention_mask.device)
            for index, row in enumerate(rows):
                more = len(row) - input_ids.shape[1]
                merged[index, :more] = True
                merged[index, more : len(row)] = attention_mask[index]
            attention_mask = merged
        embeds = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if labels is not None:
            labels = nn.utils.rnn.pad_sequence(
                row_labels, batch_first=True, padding_value=IGNORE_INDEX
            )
        return None, attention_mask, past_key_values, embeds, labels
