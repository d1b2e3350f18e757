"""Expected pixels of images/* by Pillow 10.4 (pip install pillow==10.4.0): python generate.py > pillow.json"""
import json, pathlib, sys, zlib
import PIL
from PIL import Image

here = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "images"
samples = lambda data, n=1024: [data[i * len(data) // n] for i in range(n)]
cases = {}
for path in sorted(here.iterdir()):
    image = Image.open(path).convert("RGB")
    data = image.tobytes()
    case = {"width": image.width, "height": image.height, "decoded_crc32": zlib.crc32(data), "decoded": samples(data), "resized": []}
    mask = image.getchannel(0).point(lambda v: 1 if v > 127 else 0)
    for height, width in [(448, 448), (480, 480), (37, 91), (image.height, 100), (50, image.width), (1, 1), (640, 333)]:
        out = image.resize((width, height), Image.BILINEAR).tobytes()
        near = mask.resize((width, height), Image.NEAREST).tobytes()
        case["resized"].append({"height": height, "width": width, "crc32": zlib.crc32(out), "samples": samples(out), "mask_crc32": zlib.crc32(near)})
    cases[path.name] = case
json.dump({"pillow": PIL.__version__, "images": cases}, sys.stdout, separators=(",", ":"))
