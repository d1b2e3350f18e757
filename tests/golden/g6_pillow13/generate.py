"""Writes ../g6_pillow13.json: pictures that Pillow 13 resizes along columns first. Run with Pillow 13 or later."""

import json
import zlib

import numpy as np
import PIL
from PIL import Image

cases = {}
for name in ["portrait.png", "palette.png"]:
    picture = Image.open(name).convert("RGB")
    case = {
        "width": picture.width,
        "height": picture.height,
        "decoded_crc32": zlib.crc32(np.asarray(picture).tobytes()),
    }
    for side in [33, 64, 96, 120, 150, 200, 320]:
        resized = picture.resize((side, side), Image.BILINEAR)
        case[str(side)] = {"resized_crc32": zlib.crc32(np.asarray(resized).tobytes())}
    cases[name] = case
with open("../g6_pillow13.json", "w") as file:
    json.dump({"images": cases, "pillow": PIL.__version__, "seed": 0}, file, indent=1)
