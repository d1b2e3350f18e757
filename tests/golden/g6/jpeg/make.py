"""JPEGs of all usual kinds and odd sizes, and the CRC-32 of what Pillow (libjpeg-turbo) makes of them and of data/coco33's photos.

usage: make.py REPOSITORY (Pillow 13.0, libjpeg-turbo 3.2; 10.4 gives the same). Writes into the folder of this file.
Files in several scans are made by jpegtran of libjpeg-turbo 2.1, which has to be on the PATH.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

here, root = Path(__file__).parent, Path(sys.argv[1])
photos = sorted((root / "data/coco33/images").glob("*.jpg"))
rng = np.random.default_rng(5)
crcs = {"made": {}, "photos": {}}
sizes = [(1, 1), (2, 3), (5, 6), (6, 4), (7, 33), (16, 16), (17, 31), (33, 17), (40, 2), (50, 49)]
kinds = [("444", 0, {}), ("422", 1, {}), ("420", 2, {}), ("420_restart", 2, {"restart_marker_blocks": 2})]
for number, (name, subsampling, more) in enumerate(kinds):
    for w, h in sizes:
        photo = Image.open(photos[(number * 7 + w) % len(photos)]).convert("RGB").crop((90, 90, 90 + w, 90 + h))
        noise = Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for quality, picture in ((85, photo), (100, noise)):
            file = f"{name}_{w}x{h}_q{quality}.jpg"
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality, subsampling=subsampling, optimize=quality == 85, **more)
            (here / file).write_bytes(out.getvalue())
            crcs["made"][file] = zlib.crc32(Image.open(out).convert("RGB").tobytes())
for scans in ("0;1;2;", "0;1 2;", "1;0 2;"):
    for number, (name, subsampling, _) in enumerate(kinds[:3]):
        for w, h in sizes[::3] + [(50, 49)]:
            photo = Image.open(photos[(number * 5 + h) % len(photos)]).convert("RGB").crop((90, 90, 90 + w, 90 + h))
            out = io.BytesIO()
            photo.save(out, "JPEG", quality=90, subsampling=subsampling)
            file = f"{name}_scans{scans.count(';')}{scans[0]}_{w}x{h}.jpg"
            with tempfile.NamedTemporaryFile("w") as script:
                script.write(scans)
                script.flush()
                restart = ["-restart", "3B"] if w > h else []
                command = ["jpegtran", *restart, "-optimize", "-scans", script.name, "-outfile", here / file]
                subprocess.run(command, input=out.getvalue(), check=True)
            crcs["made"][file] = zlib.crc32(Image.open(here / file).convert("RGB").tobytes())
for photo in photos:
    crcs["photos"][photo.name] = zlib.crc32(Image.open(photo).convert("RGB").tobytes())
(here / "crc32.json").write_text(json.dumps(crcs, indent=0) + os.linesep)
