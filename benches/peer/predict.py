#!/usr/bin/env python3
"""What `dmmi-cli predict` does, in PyTorch: from process start to masks, overlay and JSON on disk.

    predict.py --checkpoint DIR --image photo.jpg --text "the red cup" --out found [--threads 2] [--lean]

Reads a checkpoint directory of this project (config.json, model.safetensors). The network is that of dmmi_peer.py. Without
--lean the rest is what such programs are made of: torchvision's transforms, transformers' BertTokenizer, a model that draws
its first values before it loads others. With --lean: Pillow, tokenizers, and a model that draws none.
Prints one JSON line: seconds from process start to the logits and to the last file.
"""

import argparse
import json
import os
import sys
import tempfile

import dmmi_peer as peer
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tokens_usual(text, vocab, most):
    from transformers import BertTokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(vocab)
        tokenizer = BertTokenizer(path)
        return tokenizer.encode(text, add_special_tokens=True)[:most]


def tokens_lean(text, vocab, most):
    from tokenizers import BertWordPieceTokenizer

    vocabulary = {piece: i for i, piece in enumerate(vocab.rstrip("\n").split("\n"))}
    return BertWordPieceTokenizer(vocabulary).encode(text).ids[:most]


def pixels_usual(picture, size):
    from torchvision import transforms

    steps = [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose(steps)(picture)[None]


def pixels_lean(picture, size):
    small = np.asarray(picture.resize((size[1], size[0]), Image.BILINEAR), dtype=np.float32) / 255
    small = (small - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(small.transpose(2, 0, 1).copy())[None]


def build(config, weights, lean):
    if lean:
        # First values that nobody reads.
        for name in ("kaiming_uniform_", "xavier_uniform_", "trunc_normal_", "uniform_", "normal_"):
            setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    model = peer.Dmmi(config)
    peer.load(model, weights)
    return model.eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--image", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--lean", action="store_true")
    args = p.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.mha.set_fastpath_enabled(False)
    peer.CLOCK = peer.Clock(torch.device("cpu"))
    with open(os.path.join(args.checkpoint, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    size, most = config["image_size"], config["max_words"]
    picture = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    ids = (tokens_lean if args.lean else tokens_usual)(args.text, config["vocab"], most)
    images = (pixels_lean if args.lean else pixels_usual)(picture, size)
    words = torch.zeros(1, most, dtype=torch.long)
    words[0, : len(ids)] = torch.tensor(ids)
    attention = (torch.arange(most)[None] < len(ids)).long()
    model = build(config["model"], os.path.join(args.checkpoint, "model.safetensors"), args.lean)
    with torch.inference_mode():
        logits = model.segment(images=images, ids=words, attention=attention)
    logits_s = peer.since_start()
    at_size = F.interpolate(logits.float(), (picture.height, picture.width), mode="bilinear", align_corners=False)
    mask = (at_size[0, 1] > at_size[0, 0]).numpy()
    os.makedirs(args.out, exist_ok=True)
    base = os.path.join(args.out, os.path.splitext(os.path.basename(args.image))[0])
    Image.fromarray(mask.astype(np.uint8) * 255).save(base + "_1_mask.png")
    shown = np.asarray(picture, dtype=np.float32)
    shown = np.where(mask[..., None], 0.55 * shown + 0.45 * np.float32([230, 60, 60]), shown)
    Image.fromarray(shown.astype(np.uint8)).save(base + "_overlay.png")
    rows, columns = np.nonzero(mask)
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1] if len(rows) else None
    with open(base + ".json", "w", encoding="utf-8") as file:
        json.dump({"expression": args.text, "area": int(mask.sum()), "box": box}, file)
    print(json.dumps({"logits_s": logits_s, "done_s": peer.since_start(), "area": int(mask.sum())}))


if __name__ == "__main__":
    main()
