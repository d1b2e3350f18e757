"""Writes tiny random encoders of timm, torchvision and Hugging Face as .pth files, and what they compute.

    python3 generate.py      (torch 2.15, torchvision 0.29, timm 1.0.31, transformers 5.24; the files are committed)

features.json: for each file the input (by formula), its sizes, and the shape and first values of what each stage gives, in float64
sums and every 7th value, so that the test needs no Python.
"""

import json
import pathlib

import timm
import torch
import torchvision
import transformers
from torch.nn.functional import layer_norm

HERE = pathlib.Path(__file__).parent
EXPECTED = {}
SWIN = {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8], "window": 2}


def image(side):
    n = 3 * side * side
    return torch.sin(torch.arange(n, dtype=torch.float64) * 0.37).float().view(1, 3, side, side)


def shaken(model, seed):
    """Norms and statistics away from 1 and 0, so that a swapped pair is seen."""
    torch.manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            base = 1.0 if name.endswith("running_var") else 0.0
            scale = 0.3 if value.dim() < 2 else 1.0 / max(1, value[0].numel()) ** 0.5
            if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "Norm.weight", "_before.weight")) or (
                value.dim() == 1 and name.endswith("weight")
            ):
                base = 1.0
            value.copy_(base + scale * (2 * torch.rand(value.shape) - 1))
    return model.eval()


def record(name, state, outputs, **about):
    torch.save(state, HERE / f"{name}.pth")
    rows = []
    for out in outputs:
        flat = out.detach().double().flatten()
        rows.append({"shape": list(out.shape), "sum": flat.sum().item(), "every7th": flat[::7].tolist()[:400]})
    EXPECTED[name] = {**about, "outputs": rows}


def normed(maps):
    """(B, C, h, w) maps after a layer norm over the channels without weights: what our norm{i} does at first."""
    return [layer_norm(m.permute(0, 2, 3, 1), (m.shape[1],), eps=1e-5).permute(0, 3, 1, 2) for m in maps]


with torch.no_grad():
    side = 64
    # timm, as its hub checkpoints are named.
    options = {k: SWIN[k] for k in ("embed_dim", "depths", "num_heads")}
    model = timm.create_model("swin_tiny_patch4_window7_224", window_size=2, img_size=side, num_classes=3, **options)
    shaken(model, 1)
    x = image(side)
    _, maps = model.forward_intermediates(x, output_fmt="NCHW", norm=False)
    record("swin_timm", model.state_dict(), normed(maps), side=side, **SWIN)
    state = model.state_dict()

    # The official names: merges at the end of a stage, persistent buffers, head without .fc, all under `model`.
    official = {}
    for key, value in state.items():
        if ".downsample." in key:
            i = int(key.split(".")[1])
            key = key.replace(f"layers.{i}.", f"layers.{i - 1}.")
        official[key.replace("head.fc.", "head.")] = value
    index = torch.zeros(4, 4, dtype=torch.int64)
    for i, depth in enumerate(SWIN["depths"]):
        for j in range(depth):
            official[f"layers.{i}.blocks.{j}.attn.relative_position_index"] = index
    official["layers.1.blocks.1.attn_mask"] = torch.zeros(16, 4, 4)
    record("swin_official", {"model": official, "epoch": 3}, normed(maps), side=side, **SWIN)

    # timm's feature extractor.
    features = timm.create_model(
        "swin_tiny_patch4_window7_224", window_size=2, img_size=side, features_only=True, **options
    )
    shaken(features, 2)
    maps = [m.permute(0, 3, 1, 2) for m in features(x)]
    record("swin_timm_features", features.state_dict(), normed(maps), side=side, **SWIN)

    # Hugging Face, in memory and as saved.
    config = transformers.SwinConfig(
        image_size=side, patch_size=4, embed_dim=8, depths=SWIN["depths"], num_heads=SWIN["num_heads"], window_size=2,
        num_labels=3,
    )
    model = shaken(transformers.SwinForImageClassification(config), 3)
    stages = []
    for layer in model.swin.encoder.layers:
        last = layer.blocks[-1]
        last.register_forward_hook(lambda _m, _i, out: stages.append(out[0] if isinstance(out, tuple) else out))
    model(x)
    maps = []
    for i, tokens in enumerate(stages):
        cells = side // 4 // 2**i
        maps.append(tokens.view(1, cells, cells, -1).permute(0, 3, 1, 2))
    record("swin_transformers", model.state_dict(), normed(maps), side=side, **SWIN)
    saved = {}
    for key, value in model.state_dict().items():
        for new, old in [
            (".attention.q_proj.", ".attention.self.query."),
            (".attention.k_proj.", ".attention.self.key."),
            (".attention.v_proj.", ".attention.self.value."),
            (".attention.o_proj.", ".attention.output.dense."),
            (".attention.relative_position_bias.", ".attention.self."),
            (".mlp.fc1.", ".intermediate.dense."),
            (".mlp.fc2.", ".output.dense."),
        ]:
            key = key.replace(new, old)
        saved[key] = value
    saved["swin.encoder.layers.0.blocks.0.attention.self.relative_position_index"] = index
    record("swin_transformers_saved", saved, normed(maps), side=side, **SWIN)

    # ResNet with bottlenecks.
    blocks, width = [1, 2, 1, 1], 8
    model = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, blocks, num_classes=3, width_per_group=64)
    # Narrow it: torchvision fixes 64 channels, so the module is built anew with a smaller stem.
    class Narrow(torchvision.models.ResNet):
        def __init__(self):
            super().__init__(torchvision.models.resnet.Bottleneck, blocks, num_classes=3)
            self.inplanes = width
            self.conv1 = torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(width)
            block = torchvision.models.resnet.Bottleneck
            self.layer1 = self._make_layer(block, width, blocks[0])
            self.layer2 = self._make_layer(block, 2 * width, blocks[1], stride=2)
            self.layer3 = self._make_layer(block, 4 * width, blocks[2], stride=2)
            self.layer4 = self._make_layer(block, 8 * width, blocks[3], stride=2)
            self.fc = torch.nn.Linear(32 * width, 3)

    def stages_of(model, layers):
        maps = []
        hooks = [layer.register_forward_hook(lambda _m, _i, out: maps.append(out)) for layer in layers]
        model(x)
        [hook.remove() for hook in hooks]
        return maps

    about = {"side": side, "layers": blocks, "width": width}
    model = shaken(Narrow(), 4)
    layers = [model.layer1, model.layer2, model.layer3, model.layer4]
    record("resnet_torchvision", model.state_dict(), stages_of(model, layers), **about)
    wrapped = {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "arch": "resnet"}
    record("resnet_parallel", wrapped, stages_of(model, layers), **about)
    model = shaken(timm.models.resnet.ResNet(timm.models.resnet.Bottleneck, blocks, num_classes=3,
                                             channels=(8, 16, 32, 64), base_width=64, stem_width=8), 5)
    if model.conv1.weight.shape[0] == width and model.layer1[0].conv1.weight.shape[0] == width:
        record("resnet_timm", model.state_dict(), stages_of(model, [model.layer1, model.layer2, model.layer3, model.layer4]), **about)
    else:
        print("timm's stem cannot be narrowed: its names are those of torchvision", model.conv1.weight.shape)
    config = transformers.ResNetConfig(embedding_size=width, hidden_sizes=[4 * width, 8 * width, 16 * width, 32 * width],
                                       depths=blocks, layer_type="bottleneck", num_labels=3)
    model = shaken(transformers.ResNetForImageClassification(config), 6)
    record("resnet_transformers", model.state_dict(), stages_of(model, list(model.resnet.encoder.stages)), **about)

    # BERT.
    config = transformers.BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=32, max_position_embeddings=12)
    about = {"vocab_size": 30, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "intermediate_size": 32, "max_positions": 12}
    ids = torch.tensor([[2, 5, 7, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    model = shaken(transformers.BertForMaskedLM(config), 7)
    out = [model.bert(ids, attention_mask=mask).last_hidden_state]
    record("bert_prefixed", model.state_dict(), out, **about)
    bare = {k.removeprefix("bert."): v for k, v in model.state_dict().items() if k.startswith("bert.")}
    tensorflow = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in bare.items()}
    tensorflow["embeddings.position_ids"] = torch.arange(12)[None]
    tensorflow["pooler.dense.weight"] = torch.zeros(16, 16)
    record("bert_bare_gamma", tensorflow, out, **about)

(HERE / "features.json").write_text(json.dumps(EXPECTED) + "\n")
