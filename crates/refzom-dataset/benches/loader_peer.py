"""The work of refzom-dataset's loader done by Pillow, torchvision and pycocotools, for comparison.

usage: loader_peer.py DIR SIZE SECONDS
Reads DIR/refs(final).p, DIR/instances.json and DIR/images as the released data set does: for every sentence the photo
(Image.open, convert, F.resize, to_tensor, normalize) and the union mask (frPyObjects, merge, decode, nearest resize).
No text is read. One thread. Prints one line of JSON: samples, seconds, seconds of processor time, the pixels of all masks, versions.
"""

import json
import pickle
import sys
import time

import numpy as np
import PIL
import torch
import torchvision
import torchvision.transforms.functional as F
from PIL import Image
from pycocotools import mask as coco_mask


def main():
    folder, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(1)
    with open(f"{folder}/refs(final).p", "rb") as file:
        refs = pickle.load(file, encoding="latin1")
    with open(f"{folder}/instances.json") as file:
        instances = json.load(file)
    images = {image["id"]: image for image in instances["images"]}
    annotations = {a["id"]: a for a in instances["annotations"]}
    samples = [ref for ref in refs for _ in ref["sentences"]]

    def prepare(ref):
        entry = images[ref["image_id"]]
        height, width = entry["height"], entry["width"]
        picture = Image.open(f"{folder}/images/{entry['file_name']}").convert("RGB")
        tensor = F.to_tensor(F.resize(picture, [size, size]))
        tensor = F.normalize(tensor, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
        bits = np.zeros((height, width), dtype=np.uint8)
        if ref.get("source") != "zero":
            for i in ids:
                outline = annotations[i]["segmentation"]
                runs = coco_mask.frPyObjects(outline, height, width)
                runs = coco_mask.merge(runs) if isinstance(runs, list) else runs
                bits |= coco_mask.decode(runs)
        mask = F.resize(Image.fromarray(bits), [size, size], interpolation=F.InterpolationMode.NEAREST)
        return tensor, torch.from_numpy(np.asarray(mask).astype(np.int64))

    done, area = 0, 0
    for ref in samples[:3]:
        prepare(ref)
    start, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        for ref in samples:
            _, mask = prepare(ref)
            area += int(mask.sum()) if done < len(samples) else 0
            done += 1
            if time.perf_counter() - start >= seconds and done >= len(samples):
                break
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({
        "samples": done, "seconds": spent, "cpu_seconds": cpu, "mask_pixels": area,
        "versions": f"pillow {PIL.__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}",
    }))


if __name__ == "__main__":
    main()
