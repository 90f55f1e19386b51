"""The stand-in's data: upstream's annotation files; a picture is drawn from its sample's number."""

import json
import os
import random
import tarfile

import torch

SIDE = 56
CONNECT = "!@#"


def read(name, config):
    """All samples of a dataset, as upstream's dataset of that name makes them."""
    info = config.build_info
    if name in ("laion", "cc_sbu"):
        captions = []
        for shard in ("00000", "00001"):
            with tarfile.open(info.storage.replace("{00000..00001}", shard)) as archive:
                captions += [
                    json.load(archive.extractfile(entry))["caption"]
                    for entry in archive
                    if entry.name.endswith(".json")
                ]
        return [{"image": _picture(i), "answer": text} for i, text in enumerate(captions)]
    if name == "cc_sbu_align":
        with open(os.path.join(info.storage, "filter_cap.json")) as stream:
            entries = json.load(stream)["annotations"]
        return [{"image": _picture(i), "answer": e["caption"]} for i, e in enumerate(entries)]
    with open(info.ann_path) as stream:
        entries = json.load(stream)
    if name == "unnatural_instruction":
        return [
            {
                "instruction_input": entry["instances"][0]["instruction_with_input"],
                "answer": entry["instances"][0]["output"],
            }
            for entry in entries
        ]
    return [_conversation(index, entry) for index, entry in enumerate(entries)]


def _conversation(index, entry):
    said = [turn["value"] for turn in entry["conversations"]]
    first = said[0].replace("<image>", "").strip()
    questions = [f"<Img><ImageHere></Img> {first} ", *said[2::2]]
    return {
        "image": _picture(index),
        "conv_q": CONNECT.join(questions),
        "conv_a": CONNECT.join(said[1::2]),
        "connect_sym": CONNECT,
    }


def _picture(index):
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(index))


def batches(datasets, sizes, seed):
    """Batches of one dataset each, without an end."""
    draw = random.Random(seed)
    while True:
        name = draw.choice(sorted(datasets))
        samples = draw.choices(datasets[name], k=sizes[name])
        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        if "image" in batch:
            batch["image"] = torch.stack(batch["image"])
        yield batch
