import random

import torch

from minigpt4.models.modeling_llama import LlamaForCausalLM

FEATURES, SIDE = 12, 14


class _Tokenizer:
    """A token is a character."""

    pad_token_id, bos_token_id = 0, 1

    def __call__(self, text):
        return [2 + ord(character) % 62 for character in text]


class MiniGPTBase(torch.nn.Module):
    def __init__(self, lora_r=0):
        super().__init__()
        self.llama_tokenizer = _Tokenizer()
        self.llama_model = LlamaForCausalLM().requires_grad_(False)
        self.visual_encoder = torch.nn.Conv2d(3, FEATURES, SIDE, SIDE).requires_grad_(False)
        self.llama_proj = torch.nn.Linear(FEATURES, self.llama_model.config.hidden_size)
        if lora_r:  # as much as matters here: something of the LLM is trained
            self.llama_model.layers.requires_grad_(True)
        self.prompt_list, self.prompt_template, self.chat_template = [], "{}", False
        self.max_txt_len, self.max_context_len, self.end_sym = 32, 3800, "\n"

    @property
    def device(self):
        return self.llama_proj.weight.device

    @classmethod
    def _configured(cls, cfg):
        model = cls()
        model.end_sym = cfg.get("end_sym", "\n")
        model.max_txt_len = cfg.get("max_txt_len", 32)
        model.max_context_len = cfg.get("max_context_len", 3800)
        model.prompt_template = cfg.get("prompt_template", model.prompt_template)
        model.chat_template = cfg.get("chat_template", False)
        if cfg.get("prompt_path"):
            with open(cfg.prompt_path) as stream:
                prompts = stream.read().splitlines()
            model.prompt_list = [model.prompt_template.format(prompt) for prompt in prompts]
        return model

    def _encoded(self, image):
        rows = self.visual_encoder(image.flatten(0, -4)).flatten(2).transpose(1, 2)
        states = self.llama_proj(self._connect(rows))
        return states, torch.ones(states.shape[:2], dtype=torch.long)

    def _connect(self, rows):
        return rows

    def prompt_wrap(self, img_embeds, atts_img, prompts, lengths=None):
        if not prompts:
            return img_embeds, atts_img
        if img_embeds is None:
            return self._padded([self._text(prompt) for prompt in prompts])
        if isinstance(prompts, str):
            prompts = [prompts] * len(img_embeds)
        rows = []
        for index, (picture, prompt) in enumerate(zip(img_embeds, prompts)):
            size = picture.shape[-2]
            frames = picture.reshape(-1, picture.shape[-1])
            if lengths is not None:
                frames = frames[: lengths[index] * size]
            *before, last = prompt.split("<ImageHere>")
            parts = []
            for place, text in enumerate(before):
                parts += [self._text(text), frames[place * size : (place + 1) * size]]
            rows.append(torch.cat([*parts, self._text(last)])[: self.max_context_len])
        return self._padded(rows)

    def preparing_embedding(self, samples):
        img_embeds = img_atts = None
        if "image" in samples:
            img_embeds, img_atts = self.encode_img(samples["image"])
        if "conv_q" in samples:
            sign = samples["connect_sym"][0]
            turns = [
                (
                    [self.prompt_template.format(question) for question in questions.split(sign)],
                    answers.split(sign),
                )
                for questions, answers in zip(samples["conv_q"], samples["conv_a"])
            ]
            prompts = [questions[0] for questions, _ in turns]
            cond_embeds, cond_atts = self.prompt_wrap(img_embeds, img_atts, prompts)
            answers = [self._turns(*turn) for turn in turns]
        else:
            prompts = samples.get("instruction_input")
            if prompts is None and self.prompt_list:
                prompts = random.choice(self.prompt_list)
            elif prompts is not None and self.chat_template:
                prompts = [self.prompt_template.format(prompt) for prompt in prompts]
            if "length" in samples:
                img_embeds = img_embeds.unflatten(0, (len(samples["image"]), -1))
                wrapped = self.prompt_wrap(img_embeds, img_atts, prompts, samples["length"])
            else:
                wrapped = self.prompt_wrap(img_embeds, img_atts, prompts)
            cond_embeds, cond_atts = wrapped
            tokenizer = self.llama_tokenizer
            answers = [
                (ids, ids) for ids in (tokenizer(t + self.end_sym) for t in samples["answer"])
            ]
        answers = [(ids[: self.max_txt_len], t[: self.max_txt_len]) for ids, t in answers]
        regress_embeds, regress_atts = self._padded([self._ids(ids) for ids, _ in answers])
        part_targets = torch.full(regress_embeds.shape[:2], -100)
        for row, (_, targets) in enumerate(answers):
            part_targets[row, : len(targets)] = torch.tensor(targets)
        return cond_embeds, cond_atts, regress_embeds, regress_atts, part_targets

    def forward(self, samples, reduction="mean"):
        cond_embeds, cond_atts, regress_embeds, regress_atts, part_targets = (
            self.preparing_embedding(samples)
        )
        begin = self._ids([self.llama_tokenizer.bos_token_id])
        embeds, masks, targets = [], [], []
        for row, length in enumerate(cond_atts.sum(1).tolist()):
            ignored = part_targets.new_full((cond_atts.shape[1] + 1,), -100)
            cond, regress = cond_embeds[row], regress_embeds[row]
            embeds.append(torch.cat([begin, cond[:length], regress, cond[length:]]))
            mask = (cond_atts[row, :1], cond_atts[row, :length], regress_atts[row])
            masks.append(torch.cat([*mask, cond_atts[row, length:]]))
            before, behind = ignored[: length + 1], ignored[length + 1 :]
            targets.append(torch.cat([before, part_targets[row], behind]))
        outputs = self.llama_model(
            inputs_embeds=torch.stack(embeds),
            attention_mask=torch.stack(masks),
            return_dict=True,
            labels=torch.stack(targets),
            reduction=reduction,
        )
        return {"loss": outputs.loss}

    def embed_tokens(self, token_ids):
        return self.llama_model.embed_tokens(token_ids)

    def _ids(self, ids):
        return self.embed_tokens(torch.tensor(ids, dtype=torch.long))

    def _text(self, text):
        return self._ids(self.llama_tokenizer(text))

    def _turns(self, questions, answers):
        ids, targets = [], []
        for turn, answer in enumerate(answers):
            if turn:
                asked = self.llama_tokenizer(questions[turn])
                ids, targets = ids + asked, targets + [-100] * len(asked)
            said = self.llama_tokenizer(answer + self.end_sym)
            ids, targets = ids + said, targets + said
        return ids, targets

    def _padded(self, rows):
        longest = max(map(len, rows))
        filler = self._ids([self.llama_tokenizer.pad_token_id])
        embeds = [torch.cat([row, filler.expand(longest - len(row), -1)]) for row in rows]
        lengths = torch.tensor([len(row) for row in rows])
        return torch.stack(embeds), (torch.arange(longest) < lengths[:, None]).to(torch.int)
