#!/usr/bin/env python3
"""DMMI in plain PyTorch: the peer that `dmmi-cli bench` and `cargo xtask bench` are measured against.

Needs torch (2.4 or later) and numpy, nothing else. Written from the equations (release variant) with the parameter names of
this project, so that it loads the weights `dmmi-cli bench --save-weights` writes and its outputs can be compared number by
number (`--check`). It is meant to be as fast as a careful PyTorch user makes it: fused attention, tokens and maps that share
memory (channels last) instead of transposes, no window unfolds, no gradients for what is not trained, fused AdamW.

    dmmi_peer.py --mode infer --preset swin-base-release --threads 2 --iters 5
    dmmi_peer.py --mode train --model ours.json --weights w.safetensors --check outputs.safetensors
    dmmi_peer.py --mode train --device cuda --dtype bf16 --batch 8 --compile --channels-last
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import sys
import time

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as missing:
    sys.exit(f"error: {missing.name} is not installed for {sys.executable}; pip install torch numpy")

# ---- configurations ---------------------------------------------------------------------------------------------------------

SWIN_BASE = {"kind": "swin", "patch_size": 4, "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32],
             "window_size": 12, "mlp_ratio": 4, "drop_path": 0.3}
RESNET101 = {"kind": "resnet", "layers": [3, 4, 23, 3], "width": 64}
BERT_BASE = {"vocab_size": 30522, "hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072,
             "max_positions": 512, "dropout": 0.0}
DECODER = {"num_heads": 8, "feed_forward": 2048, "dropout": 0.1}
QUICKSTART = {
    "backbone": {"kind": "swin", "patch_size": 4, "embed_dim": 32, "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4],
                 "window_size": 6, "mlp_ratio": 2, "drop_path": 0.0},
    "text": {"vocab_size": 64, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 128,
             "max_positions": 64, "dropout": 0.0},
    "decoder": {"num_heads": 4, "feed_forward": 128, "dropout": 0.0},
}
PRESETS = {
    "swin-base-release": {"backbone": SWIN_BASE, "text": BERT_BASE, "decoder": DECODER},
    "resnet101-release": {"backbone": RESNET101, "text": BERT_BASE, "decoder": DECODER},
    "quickstart": QUICKSTART,
}


def check_config(cfg):
    """Refuses what this file does not implement."""
    fusion = cfg.get("fusion", {})
    expected = {"variant": "release", "directions": "both", "vision_windows": [1, 3, 5], "text_windows": [1, 2, 3],
                "lambda": "learned"}
    for key, value in expected.items():
        if fusion.get(key, value) != value:
            sys.exit(f"error: the peer has the release variant only, not fusion.{key} = {fusion[key]!r}")
    if cfg["decoder"].get("words", "attended") != "attended" or cfg["backbone"].get("absolute_position") is not None:
        sys.exit("error: the peer has neither decoder.words = \"ignored\" nor absolute positions")
    if cfg.get("reconstruction", "on") != "on" or cfg.get("contrast", "on") != "on":
        sys.exit("error: the peer has both training branches on only")


# ---- time by part -----------------------------------------------------------------------------------------------------------


class Clock:
    """Wall time between marks, by name; off unless a pass for it runs."""

    def __init__(self, device):
        self.device, self.parts, self.on, self.inside = device, {}, False, False

    def start(self, inside):
        self.on, self.inside, self.parts = True, inside, {}
        self.sync()
        self.last = time.perf_counter()

    def sync(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def mark(self, name):
        if self.on:
            self.sync()
            now = time.perf_counter()
            self.parts[name] = self.parts.get(name, 0.0) + (now - self.last) * 1e3
            self.last = now

    def stop(self):
        self.on = self.inside = False
        return self.parts


CLOCK = Clock(torch.device("cpu"))


def mark(name):
    """Ends a part inside the model; compiled models have none, for each mark would cut the graph in two."""
    if CLOCK.inside:
        CLOCK.mark(name)


# ---- text encoder -----------------------------------------------------------------------------------------------------------


def heads_of(xs, heads):
    b, n, c = xs.shape
    return xs.view(b, n, heads, c // heads).transpose(1, 2)


def merge(xs):
    b, m, n, d = xs.shape
    return xs.transpose(1, 2).reshape(b, n, m * d)


class Named(nn.Module):
    """Children under given names."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class BertLayer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, f = cfg["hidden_size"], cfg["intermediate_size"]
        normed = lambda n: Named(dense=nn.Linear(n, d), LayerNorm=nn.LayerNorm(d, eps=1e-12))
        self.attention = Named(output=normed(d))
        self.attention.add_module("self", Named(query=nn.Linear(d, d), key=nn.Linear(d, d), value=nn.Linear(d, d)))
        self.intermediate = Named(dense=nn.Linear(d, f))
        self.output = normed(f)
        self.heads, self.drop = cfg["num_heads"], nn.Dropout(cfg.get("dropout", 0.0))

    def forward(self, xs, mask):
        a = getattr(self.attention, "self")
        q, k, v = (heads_of(p(xs), self.heads) for p in (a.query, a.key, a.value))
        p = self.drop.p if self.training else 0.0
        attended = merge(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p))
        out = self.attention.output
        xs = out.LayerNorm(self.drop(out.dense(attended)) + xs)
        hidden = F.gelu(self.intermediate.dense(xs))
        return self.output.LayerNorm(self.drop(self.output.dense(hidden)) + xs)


class Bert(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d = cfg["hidden_size"]
        self.embeddings = Named(
            word_embeddings=nn.Embedding(cfg["vocab_size"], d, padding_idx=0),
            position_embeddings=nn.Embedding(cfg.get("max_positions", 512), d),
            token_type_embeddings=nn.Embedding(2, d),
            LayerNorm=nn.LayerNorm(d, eps=1e-12),
        )
        self.encoder = Named(layer=nn.ModuleList(BertLayer(cfg) for _ in range(cfg["num_layers"])))
        self.drop = nn.Dropout(cfg.get("dropout", 0.0))

    def forward(self, ids, attention):
        e = self.embeddings
        places = e.position_embeddings.weight[: ids.shape[1]] + e.token_type_embeddings.weight[0]
        xs = self.drop(e.LayerNorm(e.word_embeddings(ids) + places))
        mask = ((1.0 - attention.to(xs.dtype)) * -10_000.0)[:, None, None, :]
        if torch.is_autocast_enabled(xs.device.type):
            mask = mask.to(torch.get_autocast_dtype(xs.device.type))
        for layer in self.encoder.layer:
            xs = layer(xs, mask)
        return xs


# ---- Swin -------------------------------------------------------------------------------------------------------------------


class DropPath(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, xs):
        if not self.training or self.p == 0.0:
            return xs
        keep = torch.empty(xs.shape[0], *[1] * (xs.dim() - 1), dtype=xs.dtype, device=xs.device).bernoulli_(1 - self.p)
        return xs * (keep / (1 - self.p))


def relative_index(window):
    cells = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    offsets = (cells[:, :, None] - cells[:, None, :]) + window - 1
    return (offsets[0] * (2 * window - 1) + offsets[1]).flatten()


def shift_mask(h, w, window, shift):
    """(W, 1, n, n): -100 between cells that the cyclic shift made neighbours."""
    band = lambda n: sum((torch.arange(n) >= n - k).long() for k in (window, shift))
    region = 3 * band(h)[:, None] + band(w)[None, :]
    region = region.view(h // window, window, w // window, window).permute(0, 2, 1, 3).reshape(-1, window * window)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)[:, None]


class WindowAttention(nn.Module):
    def __init__(self, dim, heads, window):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads).normal_(0, 0.02))
        self.register_buffer("index", relative_index(window), persistent=False)
        self.qkv, self.proj, self.heads = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), heads

    def forward(self, xs, mask):
        g, n, c = xs.shape
        q, k, v = self.qkv(xs).view(g, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].view(n, n, self.heads).permute(2, 0, 1)[None]
        bias = bias.to(q.dtype).contiguous()
        if mask is not None:
            bias = bias + mask.to(q.dtype)  # (W, M, n, n)
            b = g // bias.shape[0]
            bias = bias.repeat(b, 1, 1, 1) if b > 1 else bias
        return self.proj(merge(F.scaled_dot_product_attention(q, k, v, attn_mask=bias)))


class SwinBlock(nn.Module):
    def __init__(self, dim, heads, window, shift, hidden, drop_path):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.mlp = Named(fc1=nn.Linear(dim, hidden), fc2=nn.Linear(hidden, dim))
        self.drop_path, self.window, self.shift = DropPath(drop_path), window, shift

    def forward(self, xs, h, w, mask):
        b, n, c = xs.shape
        k, s = self.window, self.shift
        ys = self.norm1(xs).view(b, h, w, c)
        hp, wp = -(-h // k) * k, -(-w // k) * k
        if (hp, wp) != (h, w):
            ys = F.pad(ys, (0, 0, 0, wp - w, 0, hp - h))
        if s:
            ys = torch.roll(ys, (-s, -s), (1, 2))
        ys = ys.view(b, hp // k, k, wp // k, k, c).transpose(2, 3).reshape(-1, k * k, c)
        ys = self.attn(ys, mask if s else None)
        ys = ys.view(b, hp // k, wp // k, k, k, c).transpose(2, 3).reshape(b, hp, wp, c)
        if s:
            ys = torch.roll(ys, (s, s), (1, 2))
        xs = xs + self.drop_path(ys[:, :h, :w].reshape(b, n, c))
        return xs + self.drop_path(self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(xs)))))


class PatchEmbed(nn.Module):
    def __init__(self, patch, dim):
        super().__init__()
        self.proj, self.norm, self.patch = nn.Conv2d(3, dim, patch, patch), nn.LayerNorm(dim), patch

    def forward(self, images):
        h, w = images.shape[2:]
        images = F.pad(images, (0, -w % self.patch, 0, -h % self.patch))
        xs = self.proj(images)
        h, w = xs.shape[2:]
        return self.norm(xs.flatten(2).transpose(1, 2)), h, w


class PatchMerging(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, xs, h, w):
        b, _, c = xs.shape
        xs = F.pad(xs.view(b, h, w, c), (0, 0, 0, w % 2, 0, h % 2))
        h, w = (h + 1) // 2, (w + 1) // 2
        xs = xs.view(b, h, 2, w, 2, c).permute(0, 1, 3, 4, 2, 5).reshape(b, h * w, 4 * c)
        return self.reduction(self.norm(xs)), h, w


class SwinStage(nn.Module):
    def __init__(self, blocks, dim, text_dim, last):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        fusion_parts(self, dim, text_dim)
        self.downsample = None if last else PatchMerging(dim)


class Swin(nn.Module):
    """Emits the layer-normed residual of each stage's fusion."""

    def __init__(self, cfg, text_dim):
        super().__init__()
        dim, depths, window = cfg["embed_dim"], cfg["depths"], cfg["window_size"]
        rates = iter(torch.linspace(0, cfg["drop_path"], sum(depths)).tolist())
        self.patch_embed, self.window = PatchEmbed(cfg.get("patch_size", 4), dim), window
        self.layers = nn.ModuleList()
        for i, depth in enumerate(depths):
            c = dim << i
            blocks = [SwinBlock(c, cfg["num_heads"][i], window, window // 2 if j % 2 else 0, cfg.get("mlp_ratio", 4) * c,
                                next(rates)) for j in range(depth)]
            self.layers.append(SwinStage(blocks, c, text_dim, i == 3))
            self.add_module(f"norm{i}", nn.LayerNorm(c))
        self.channels = [dim << i for i in range(4)]
        self.masks = {}

    def mask(self, h, w, like):
        k = self.window
        size = (-(-h // k) * k, -(-w // k) * k, like.device, like.dtype)
        if size not in self.masks:
            self.masks[size] = shift_mask(size[0], size[1], k, k // 2).to(like)
        return self.masks[size]

    def forward(self, images, words, mask):
        xs, h, w = self.patch_embed(images)
        mark("backbone stage 1")
        maps = []
        for i, stage in enumerate(self.layers):
            shifted = self.mask(h, w, xs)
            for block in stage.blocks:
                xs = block(xs, h, w, shifted)
            mark(f"backbone stage {i + 1}")
            residual, xs, words = fuse(stage, xs, h, w, words, mask)
            mark(f"fusion (MBA) stage {i + 1}")
            maps.append(to_map(getattr(self, f"norm{i}")(residual), h, w))
            if stage.downsample is not None:
                xs, h, w = stage.downsample(xs, h, w)
            mark(f"backbone stage {i + 1}")
        return maps, words


# ---- ResNet -----------------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    def __init__(self, c_in, inner, stride):
        super().__init__()
        out = 4 * inner
        self.conv1, self.bn1 = nn.Conv2d(c_in, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or c_in != out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, xs):
        ys = F.relu(self.bn1(self.conv1(xs)))
        ys = F.relu(self.bn2(self.conv2(ys)))
        ys = self.bn3(self.conv3(ys))
        return F.relu(ys + (xs if self.downsample is None else self.downsample(xs)))


class ResNet(nn.Module):
    """Emits the gated sum of each stage's fusion."""

    def __init__(self, cfg, text_dim):
        super().__init__()
        width, c_in = cfg.get("width", 64), cfg.get("width", 64)
        self.channels = [4 * (width << i) for i in range(4)]
        for i, count in enumerate(cfg["layers"]):
            blocks = []
            for j in range(count):
                blocks.append(Bottleneck(c_in, width << i, 2 if i and not j else 1))
                c_in = 4 * (width << i)
            stage = nn.Sequential(*blocks)
            if i == 0:
                stem = nn.Conv2d(3, width, 7, 2, 3, bias=False)
                stage = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1), stage)
            self.add_module(f"layer{i + 1}", stage)
            fusion = nn.Module()
            fusion_parts(fusion, c_in, text_dim)
            self.add_module(f"all_fusion{i + 1}", fusion)

    def forward(self, images, words, mask):
        xs, maps = images, []
        for i in range(1, 5):
            xs = getattr(self, f"layer{i}")(xs)
            h, w = xs.shape[2:]
            tokens = xs.flatten(2).transpose(1, 2).contiguous()
            mark(f"backbone stage {i}")
            _, gated, words = fuse(getattr(self, f"all_fusion{i}"), tokens, h, w, words, mask)
            xs = to_map(gated, h, w)
            mark(f"fusion (MBA) stage {i}")
            maps.append(xs)
        return maps, words


# ---- fusion (MBA) -----------------------------------------------------------------------------------------------------------


def to_map(tokens, h, w):
    """A view: tokens (B, h w, C) are a channels-last map (B, C, h, w)."""
    b, _, c = tokens.shape
    return tokens.view(b, h, w, c).permute(0, 3, 1, 2)


def to_tokens(maps):
    return maps.flatten(2).transpose(1, 2)


class Conv1(nn.Conv1d):
    """Kernel-1 convolution applied to tokens (B, N, C)."""

    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out, 1)

    def forward(self, xs):
        return F.linear(xs, self.weight.squeeze(-1), self.bias)


def conv1(c_in, c_out):
    return nn.Sequential(Conv1(c_in, c_out))


def instance_norm(xs):
    """Over the tokens of (B, N, C)."""
    if xs.device.type == "cpu":
        # Of six ways tried the fastest that is exact: each sample's tokens are a batch of their own.
        ys = [F.batch_norm(x, None, None, training=True) for x in xs]
        return ys[0][None] if len(ys) == 1 else torch.stack(ys)
    var, mean = torch.var_mean(xs.float(), 1, correction=0, keepdim=True)
    return ((xs - mean) * torch.rsqrt(var + 1e-5)).to(xs.dtype)


class VisionWindow(nn.Module):
    def __init__(self, c, d, k, inner):
        super().__init__()
        self.f_query, self.f_query2, self.f_key = conv1(c, inner), conv1(inner * k * k, c), conv1(d, c)
        self.k, self.c, self.inner = k, c, inner

    def forward(self, visual, h, w, words, mask, score_mask):
        q = instance_norm(self.f_query(visual))
        layer = self.f_query2[0]
        # The projected k x k unfold is a convolution.
        weight = layer.weight.view(self.c, self.inner, self.k, self.k)
        q = instance_norm(to_tokens(F.conv2d(to_map(q, h, w), weight, layer.bias, padding=self.k // 2)))
        key = self.f_key(words) * mask
        return torch.softmax(q @ key.transpose(1, 2) * self.c**-0.5 + score_mask, 2)


class TextWindow(nn.Module):
    def __init__(self, c, d, k, inner):
        super().__init__()
        self.f_query, self.f_query2, self.f_key = conv1(d, inner), conv1(inner * k, d), conv1(c, d)
        self.k, self.c = k, c

    def forward(self, visual, words, mask):
        q, k = self.f_query(words), self.k
        if k > 1:
            b, l, c = q.shape
            q = F.pad(q.transpose(1, 2), (k // 2, (k - 1) // 2), mode="replicate").unfold(2, k, 1)
            q = q.permute(0, 2, 1, 3).reshape(b, l, c * k)
        q = self.f_query2(q) * mask
        return torch.softmax(q @ instance_norm(self.f_key(visual)).transpose(1, 2) * self.c**-0.5, 2)


class Attention(nn.Module):
    def __init__(self, c, d):
        super().__init__()
        self.f_value, self.f_value_v, self.W, self.W2 = conv1(d, c), conv1(c, d), conv1(c, c), conv1(d, d)
        self.vis_weight, self.lan_weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        for name, k, narrow in (("11", 1, 1), ("33", 3, 2), ("55", 5, 4)):
            self.add_module(f"refineimg{name}", VisionWindow(c, d, k, c // narrow))
        for name, k, narrow in (("11", 1, 1), ("21", 2, 2), ("31", 3, 3)):
            self.add_module(f"refinelan{name}", TextWindow(c, d, k, c // narrow))

    def forward(self, visual, h, w, words, mask):
        score_mask = (1e4 * mask - 1e4).transpose(1, 2)  # (B, 1, L)
        share = torch.softmax(self.lan_weight, 0)
        windows = (self.refinelan11, self.refinelan21, self.refinelan31)
        cells = sum(s * window(visual, words, mask) for s, window in zip(share, windows))
        text = self.W2(cells.to(visual.dtype) @ instance_norm(self.f_value_v(visual)))
        share = torch.softmax(self.vis_weight, 0)
        windows = (self.refineimg11, self.refineimg33, self.refineimg55)
        maps = sum(s * window(visual, h, w, words, mask, score_mask) for s, window in zip(share, windows))
        value = self.f_value(words) * mask
        return instance_norm(self.W(maps.to(value.dtype) @ value)), text


class Fusion(nn.Module):
    def __init__(self, c, d):
        super().__init__()
        self.vis_project, self.project_mm, self.image_lang_att = conv1(c, c), conv1(c, c), Attention(c, d)


def fusion_parts(module, c, d):
    """The keys of a stage's fusion, which the checkpoints put beside the blocks."""
    module.fusion = Fusion(c, d)
    module.res_gate = nn.Sequential(nn.Linear(c, c, bias=False), nn.ReLU(), nn.Linear(c, c, bias=False), nn.Tanh())
    module.W_l = conv1(d, d)


def fuse(module, visual, h, w, words, mask):
    """Residual, gated sum, updated words."""
    fusion = module.fusion
    gathered, text = fusion.image_lang_att(visual, h, w, words, mask)
    residual = F.gelu(fusion.project_mm(F.gelu(fusion.vis_project(visual)) * gathered))
    return residual, visual + module.res_gate(residual) * residual, words + F.gelu(module.W_l(text))


# ---- decoders and losses ----------------------------------------------------------------------------------------------------


def decoder_layer(d, cfg):
    layer = nn.TransformerDecoderLayer(d, cfg["num_heads"], cfg["feed_forward"], cfg["dropout"], batch_first=True)
    return Named(transformer_model=Named(layers=nn.ModuleList([layer])))


def attend(module, xs, memory):
    return module.transformer_model.layers[0](xs, memory)


class ImageToText(nn.Module):
    def __init__(self, d, cfg):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(d, d, 3, 1, 1, bias=False), nn.BatchNorm2d(d)
        self.transformer_model = decoder_layer(d, cfg).transformer_model

    def forward(self, erased, y3):
        return attend(self, erased, to_tokens(F.relu(self.bn1(self.conv1(y3)))))


class Classifier(nn.Module):
    def __init__(self, channels, d, cfg):
        super().__init__()
        c1, c2, c3, c4 = channels
        for name, c in (("4", c4 + c3), ("3", d + c2), ("2", d + c1)):
            for i, c_in in ((1, c), (2, d)):
                self.add_module(f"conv{i}_{name}", nn.Conv2d(c_in, d, 3, 1, 1, bias=False))
                self.add_module(f"bn{i}_{name}", nn.BatchNorm2d(d))
        self.transformer_fusion1, self.transformer_fusion2 = decoder_layer(d, cfg), decoder_layer(d, cfg)
        self.conv1_1, self.lan_func = nn.Conv2d(d, 2, 1), ImageToText(d, cfg)
        self.crossfuse1, self.crossfuse2 = (Named(linear=nn.Linear(2 * d, d)) for _ in range(2))

    def fuse(self, name, coarse, fine):
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True)
        xs = torch.cat([coarse, fine], 1)
        for i in (1, 2):
            xs = F.relu(getattr(self, f"bn{i}_{name}")(getattr(self, f"conv{i}_{name}")(xs)))
        return xs

    def forward(self, maps, words):
        c1, c2, c3, c4 = maps
        y4 = self.fuse("4", c4, c3)
        xs = to_map(attend(self.transformer_fusion1, to_tokens(y4), words), *y4.shape[2:])
        y3 = self.fuse("3", xs, c2)
        xs = to_map(attend(self.transformer_fusion2, to_tokens(y3), words), *y3.shape[2:])
        y2 = self.fuse("2", xs, c1)
        return self.conv1_1(y2), (y4, y3, y2)

    def pooled(self, ys):
        y4, y3, y2 = (y.mean((2, 3)) for y in ys)
        d = self.crossfuse1.linear(torch.cat([y4, y3], 1))
        return self.crossfuse2.linear(torch.cat([d, y2], 1))


def losses(logits, masks, words, reconstructed, visual, aligned, attention, delta):
    """Segmentation, similarity, contrastive, total; in f32."""
    weights = torch.tensor([0.9, 1.1], device=logits.device)
    segmentation = F.cross_entropy(logits.float(), masks, weights)
    real, delta = attention.float(), delta.float()
    words, reconstructed = (x.float() * real[..., None] for x in (words.detach(), reconstructed))
    norm = lambda x: x.square().sum(2).clamp(min=1e-12).sqrt()
    cosine = (words * reconstructed).sum(2) / (norm(words) * norm(reconstructed))
    similarity = 1 - (cosine.sum(1) / real.sum(1) * delta).mean()
    scores = F.normalize(visual.float(), dim=1) @ F.normalize(aligned.float(), dim=1).T / 0.05
    diagonal = torch.log_softmax(scores, 1).diagonal() + torch.log_softmax(scores, 0).diagonal()
    contrastive = (-diagonal * delta).mean()
    return segmentation, similarity, contrastive, segmentation + 0.01 * similarity + 0.01 * contrastive


class Dmmi(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, backbone = cfg["text"]["hidden_size"], cfg["backbone"]
        self.bert_model = Bert(cfg["text"])
        made = Swin(backbone, d) if backbone["kind"] == "swin" else ResNet(backbone, d)
        self.model = Named(
            backbone=made,
            classifier=Classifier(made.channels, d, cfg["decoder"]),
            contrastive=Named(align_lan=conv1(d, d)),
        )

    def decode(self, images, ids, attention):
        words = self.bert_model(ids, attention)
        mark("text encoder")
        maps, words = self.model.backbone(images, words, attention.to(words.dtype)[..., None])
        low, ys = self.model.classifier(maps, words)
        return low, ys, words

    def resize(self, low, images):
        logits = F.interpolate(low, size=images.shape[2:], mode="bilinear", align_corners=True)
        mark("text-to-image decoder")
        return logits

    def segment(self, images, ids, attention):
        low, _, _ = self.decode(images, ids, attention)
        return self.resize(low, images)

    def losses(self, images, ids, erased, attention, masks, delta):
        low, ys, words = self.decode(images, ids, attention)
        logits = self.resize(low, images)
        visual = self.model.classifier.pooled(ys)
        aligned = self.model.contrastive.align_lan(words).mean(1)
        mark("contrastive vectors")
        hidden = self.bert_model(erased, attention)
        mark("text encoder")
        reconstructed = self.model.classifier.lan_func(hidden, ys[1])
        mark("image-to-text decoder")
        found = losses(logits, masks, words, reconstructed, visual, aligned, attention, delta)
        mark("losses")
        return found


# ---- weights, inputs, optimiser ---------------------------------------------------------------------------------------------

DTYPES = {"F32": (torch.float32, np.float32), "F64": (torch.float64, np.float64), "U8": (torch.uint8, np.uint8)}


def safetensors(path):
    """Name to (dtype, shape, offset, bytes) of a safetensors file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {n: (t["dtype"], t["shape"], 8 + length + t["data_offsets"][0], t["data_offsets"][1] - t["data_offsets"][0])
            for n, t in header.items()}


def read_tensor(path, entry):
    dtype, shape, offset, size = entry
    _, kind = DTYPES[dtype]
    values = np.fromfile(path, kind, size // np.dtype(kind).itemsize, offset=offset)
    return torch.from_numpy(values).view(shape)


def load(model, path):
    """Every parameter and running statistic, straight into the model's memory; nothing may be missing or left over."""
    entries, state = safetensors(path), model.state_dict()
    state = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    missing, left = sorted(set(state) - set(entries)), sorted(set(entries) - set(state))
    if missing or left:
        sys.exit(f"error: {path}: {len(missing)} tensors missing {missing[:4]}, {len(left)} unknown {left[:4]}")
    with open(path, "rb") as file:
        for name, tensor in state.items():
            dtype, shape, offset, size = entries[name]
            if list(tensor.shape) != shape or dtype != "F32":
                sys.exit(f"error: {path}: {name} is {dtype} {shape}, the model has F32 {list(tensor.shape)}")
            file.seek(offset)
            file.readinto(memoryview(tensor.numpy().reshape(-1)).cast("B"))


def hashed(n, seed):
    """n 32-bit numbers: a multiplicative hash of the index. The same formula is in `dmmi-cli bench`."""
    index = torch.arange(n, dtype=torch.int64) + seed
    return (index * 2654435761) & 0xFFFFFFFF


def inputs(batch, size, tokens, vocab):
    h, w = size
    images = (hashed(batch * 3 * h * w, 1) >> 8).float() / (1 << 22) - 2.0  # [-2, 2), exact
    ids = 1 + hashed(batch * tokens, 7) % (vocab - 1)
    real = torch.tensor([tokens - (8 + 5 * b) % max(tokens - 2, 1) for b in range(batch)])
    attention = (torch.arange(tokens)[None] < real[:, None]).long()
    ids = ids.view(batch, tokens) * attention
    erased = ids.clone()
    erased[torch.arange(batch), real // 2] = 0
    masks = torch.zeros(batch, h, w, dtype=torch.int64)
    masks[:, h // 4 : h // 2, w // 4 : w // 2] = 1
    delta = torch.tensor([int(b % 4 != 3) for b in range(batch)])
    return {"images": images.view(batch, 3, h, w), "ids": ids, "erased": erased, "attention": attention, "masks": masks,
            "delta": delta}


def trained(name):
    """The release trains everything but BERT's embeddings and its layers from the tenth on."""
    if not name.startswith("bert_model."):
        return True
    parts = name.split(".")
    return parts[1:3] == ["encoder", "layer"] and int(parts[3]) < 10


def optimizer(model, device):
    undecayed = ("norm", "relative_position_bias_table", "absolute_pos_embed")
    groups = {True: [], False: []}
    for name, p in model.named_parameters():
        p.requires_grad_(trained(name))
        if p.requires_grad:
            backbone = name.startswith("model.backbone.")
            groups[not (backbone and any(u in name for u in undecayed))].append(p)
    listed = [{"params": groups[True], "weight_decay": 0.01}, {"params": groups[False], "weight_decay": 0.0}]
    return torch.optim.AdamW(listed, lr=5e-5, fused=True)


# ---- measuring --------------------------------------------------------------------------------------------------------------


def memory(key):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    return None


def since_start():
    """Seconds since this process began."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def wait(gate):
    """Says that this program is ready, and waits until it may measure: others get ready meanwhile."""
    pathlib.Path(gate + ".ready").touch()
    while not os.path.exists(gate):
        time.sleep(0.02)


def matmul_peak(device, dtype):
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        CLOCK.sync()
        start = time.perf_counter()
        a @ b
        CLOCK.sync()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mode", choices=["infer", "train"], default="infer")
    p.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    p.add_argument("--dtype", choices=["f32", "tf32", "bf16"], default="f32",
                   help="bf16: the whole model when inferring, autocast over f32 weights when training")
    p.add_argument("--preset", choices=sorted(PRESETS), default="swin-base-release")
    p.add_argument("--model", help="a JSON file whose key \"model\" is the configuration (what dmmi-cli bench --json writes)")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--size", default="480", help="pixels: S or WIDTHxHEIGHT")
    p.add_argument("--tokens", type=int, default=20)
    p.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    p.add_argument("--compile", action="store_true", help="torch.compile")
    p.add_argument("--compile-mode", default=None, help="mode of torch.compile, such as max-autotune")
    p.add_argument("--channels-last", action="store_true", help="convolution weights and images in channels-last memory")
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--iters", type=int, default=5)
    p.add_argument("--no-parts", action="store_true", help="no separate pass for the time of each part")
    p.add_argument("--gate", help="once ready (compiled, or on the CPU) write this file with .ready added, and wait until the file itself is there")
    p.add_argument("--weights", help="safetensors of dmmi-cli bench --save-weights")
    p.add_argument("--check", help="safetensors of dmmi-cli bench --save-outputs: compare with it")
    p.add_argument("--json", "--out-json", dest="json", help="write the JSON here instead of printing it")
    return p.parse_args()


def main():
    global CLOCK
    args = arguments()
    device = torch.device(args.device)
    CLOCK = Clock(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device cuda: this torch sees no CUDA device; use --device cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    tf32 = args.dtype == "tf32"
    if tf32 and device.type == "cpu":
        sys.exit("error: --dtype tf32 is a mode of CUDA; use f32")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    # Slower here than fused attention, and it holds all scores.
    torch.backends.mha.set_fastpath_enabled(False)
    cfg = PRESETS[args.preset]
    if args.model:
        with open(args.model) as file:
            cfg = json.load(file)["model"]
    check_config(cfg)
    size = [int(s) for s in args.size.lower().split("x")]
    size = (size[-1], size[0])  # height, width

    train = args.mode == "train"
    model = Dmmi(cfg)
    if args.weights:
        load(model, args.weights)
    parameters = sum(p.numel() for p in model.parameters())
    bf16 = args.dtype == "bf16"
    if args.gate and not args.compile:
        wait(args.gate)
    model = model.to(device, torch.bfloat16 if bf16 and not train else None)
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    batch = {k: v.to(device) for k, v in inputs(args.batch, size, args.tokens, cfg["text"]["vocab_size"]).items()}
    images = batch["images"].to(torch.bfloat16 if bf16 and not train else torch.float32)
    batch["images"] = images.to(memory_format=torch.channels_last) if args.channels_last else images
    loaded = memory("VmRSS")
    result = {"program": f"torch {torch.__version__}", "variant": "compiled" if args.compile else "eager",
              "mode": args.mode, "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
              "dtype": args.dtype, "batch": args.batch, "height": size[0], "width": size[1], "tokens": args.tokens,
              "threads": torch.get_num_threads(), "channels_last": args.channels_last, "parameters": parameters}

    if train:
        model.train()
        opt = optimizer(model, device)
        autocast = (lambda: torch.autocast(device.type, torch.bfloat16)) if bf16 else contextlib.nullcontext
        forward = torch.compile(model.losses, mode=args.compile_mode, dynamic=False) if args.compile else model.losses

        def step():
            opt.zero_grad(set_to_none=True)
            with autocast():
                found = forward(**batch)
            CLOCK.mark("forward")
            found[3].backward()
            CLOCK.mark("backward")
            opt.step()
            CLOCK.mark("optimiser")
            return float(found[3].detach())

        def first():
            """Losses and gradient norm without dropout, nothing updated."""
            noisy = [(m, m.p) for m in model.modules() if isinstance(m, (nn.Dropout, DropPath))]
            attentions = [(m, m.dropout) for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
            for m, _ in noisy:
                m.p = 0.0
            for m, _ in attentions:
                m.dropout = 0.0
            with autocast():
                found = model.losses(**batch)
            found[3].backward()
            norm = torch.stack([p.grad.float().norm() for p in model.parameters() if p.grad is not None]).norm()
            opt.zero_grad(set_to_none=True)
            for m, p in noisy:
                m.p = p
            for m, p in attentions:
                m.dropout = p
            return {"losses": torch.stack([f.detach().float() for f in found]).cpu(), "grad_norm": norm.cpu().view(1)}
    else:
        model.eval()
        forward = torch.compile(model.segment, mode=args.compile_mode, dynamic=False) if args.compile else model.segment
        arguments_of = {k: batch[k] for k in ("images", "ids", "attention")}

        def step():
            with torch.inference_mode():
                return forward(**arguments_of)

        def first():
            return {"logits": step().float().cpu()}

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    outputs = first()
    CLOCK.sync()
    result["first_s"] = since_start()
    if args.check:
        result["check"] = compare(outputs, args.check)
    del outputs
    for _ in range(args.warmup):
        step()
    if args.gate and args.compile:
        CLOCK.sync()
        torch.cuda.empty_cache()
        wait(args.gate)
        for _ in range(args.warmup):
            step()
    if args.compile and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # of the compiled step alone: the first pass was eager
    times = []
    for _ in range(args.iters):
        CLOCK.sync()
        start = time.perf_counter()
        step()
        CLOCK.sync()
        times.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times)
    result |= {"times_ms": times, "total_ms": median, "images_per_s": args.batch * 1e3 / median}
    result["memory"] = {"loaded_rss_mib": loaded, "peak_rss_mib": memory("VmHWM")}
    if device.type == "cuda":
        result["memory"] |= {"device_peak_mib": torch.cuda.max_memory_allocated(device) / 2**20,
                             "device_reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20}
    if not args.no_parts:
        passes = []
        for _ in range(min(max(args.iters, 1), 5)):
            CLOCK.start(not args.compile)
            step()
            CLOCK.mark("forward")
            passes.append(CLOCK.stop())
        if not args.compile:
            passes = [{k: v for k, v in p.items() if k != "forward"} for p in passes]  # what the parts left over
        result["parts_ms"] = {k: statistics.median(p[k] for p in passes) for k in passes[0]}
    result["matmul_gflops"] = matmul_peak(device, torch.bfloat16 if bf16 else torch.float32)
    text = json.dumps(result)
    if args.json:
        with open(args.json, "w") as file:
            file.write(text + "\n")
    else:
        print(text)


def compare(found, path):
    """Largest differences between our outputs and these."""
    result = {}
    for name, entry in safetensors(path).items():
        if name not in found:
            continue
        ours, theirs = read_tensor(path, entry).float(), found[name].float()
        result[name] = {"max_difference": float((ours - theirs).abs().max()), "largest": float(ours.abs().max())}
        if name == "logits":
            same = (ours.argmax(1) == theirs.argmax(1)).float()
            result["mask_agreement"] = float(same.mean())
            result["foreground"] = float(ours.argmax(1).float().mean())
        else:
            result[name] |= {"dmmi": ours.flatten().tolist(), "torch": theirs.flatten().tolist()}
    if not result:
        sys.exit(f"error: {path}: nothing in it to compare with {sorted(found)}")
    return result


if __name__ == "__main__":
    main()
