"""Writes the files of this folder and expected.json: every tensor's type, size and CRC-32 of its contiguous bytes.

    python3 generate.py          (torch 2.15, numpy 2.4; the files are committed, so tests need neither)
"""

import argparse
import collections
import json
import pathlib
import zlib

import numpy
import torch

HERE = pathlib.Path(__file__).parent
EXPECTED = {}


def describe(tensor):
    tensor = tensor.detach().cpu().contiguous()
    data = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "crc32": zlib.crc32(data),
    }


def write(name, value, tensors, **options):
    torch.save(value, HERE / name, **options)
    EXPECTED[name] = {key: describe(tensor) for key, tensor in tensors.items()}


def state():
    torch.manual_seed(1)
    base = torch.arange(24, dtype=torch.float32)
    return collections.OrderedDict(
        [
            ("weight", torch.randn(3, 4)),
            ("view", base[2:14].view(3, 4)),
            ("overlapping", base[6:18]),
            ("transposed", torch.arange(12.0).view(3, 4).t()),
            ("expanded", torch.full((1,), 3.5).expand(2, 3)),
            ("empty", torch.zeros(0, 3)),
            ("scalar", torch.tensor(2.25)),
            ("parameter", torch.nn.Parameter(torch.tensor([1.0, -2.0]))),
            ("steps", torch.tensor(7)),
            ("mask", torch.tensor([True, False, True])),
            ("h", torch.tensor([0.5, -1.5], dtype=torch.float16)),
            ("b", torch.tensor([0.5, -1.5], dtype=torch.bfloat16)),
            ("unicode_é_键", torch.tensor([7.0])),
        ]
    )


model = state()
for protocol in range(2, 6):
    for zip_file in (True, False):
        kind = "zip" if zip_file else "legacy"
        options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zip_file}
        write(f"{kind}_protocol{protocol}.pth", model, model, **options)

types = {
    name: torch.tensor([0, 1, 2, 100]).to(getattr(torch, name))
    for name in "float32 float64 float16 bfloat16 uint8 int8 int16 int32 int64 uint16 uint32 uint64 bool "
    "complex64 complex128 complex32 float8_e4m3fn float8_e5m2".split()
}
types["int8"] = torch.tensor([-128, -1, 0, 127], dtype=torch.int8)
write("dtypes_zip.pth", types, types)
old = {k: v for k, v in types.items() if k not in ("uint16", "uint32", "uint64")}
write("dtypes_legacy.pth", old, old, _use_new_zipfile_serialization=False)

net = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(net.parameters(), lr=5e-5)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
wrapped = {f"module.{k}": v for k, v in net.state_dict().items()}
checkpoint = {
    "model": wrapped,
    "optimizer": optimizer.state_dict(),
    "lr_scheduler": scheduler.state_dict(),
    "scheduler object": scheduler.__class__,
    "epoch": 5,
    "best": numpy.float64(0.75),
    "seen": numpy.int64(-3),
    "flag": numpy.bool_(True),
    "half": numpy.float32(0.5),
    "array": numpy.arange(4),
    "args": argparse.Namespace(lr=5e-5, name="x", nested=argparse.Namespace(deep=[1, 2])),
    "shape": torch.Size([2, 3]),
    "device": torch.device("cuda:1"),
    "dtype": torch.float16,
    "nothing": None,
    "bytes": b"\x00\xff",
    "set": {1, 2},
    "large": 2**80,
    7: torch.tensor([1]),
}
found = {f"model.{k}": v for k, v in wrapped.items()} | {"7": torch.tensor([1])}
for i, entry in optimizer.state_dict()["state"].items():
    found |= {f"optimizer.state.{i}.{k}": v for k, v in entry.items()}
write("checkpoint_zip.pth", checkpoint, found)
write("checkpoint_legacy.pth", checkpoint, found, _use_new_zipfile_serialization=False)

# A module saved whole: its state dict is what counts.
whole = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
write("module_zip.pth", whole, whole.state_dict())
write("module_legacy.pth", whole, whole.state_dict(), _use_new_zipfile_serialization=False)

# Tensors with attributes, lists of tensors, one bare tensor.
tagged = torch.tensor([1.0, 2.0])
tagged.note = "kept"
write("tagged_zip.pth", {"tagged": tagged, "list": [model["weight"], {"a": model["steps"]}]},
      {"tagged": tagged, "list.0": model["weight"], "list.1.a": model["steps"]})
write("bare_zip.pth", model["weight"], {"": model["weight"]})

(HERE / "expected.json").write_text(json.dumps(EXPECTED, indent=1, ensure_ascii=False) + "\n")
