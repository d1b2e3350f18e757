"""Three records in every pickle protocol, with Python 3 strings, and one file with a numpy number: python generate.py (needs numpy)"""
import json, pickle
import numpy as np

sentence = lambda i, raw: {"tokens": raw.lower().split(), "raw": raw, "sent": raw.lower(), "sent_id": i}
head = lambda i: {"ref_id": i, "image_id": 2 ** 40 + i, "file_name": "a.jpg", "split": "train", "sent_ids": [10 * i, 10 * i + 1]}
records = [
    {**head(1), "ann_id": 7, "category_id": 18, "source": "one", "sentences": [sentence(10, "Red dog"), sentence(11, "it's \"the\" \\ 犬 é 😀\n")]},
    {**head(2), "ann_id": [7, 300, 70000, -5], "category_id": [18, 19], "source": "many", "sentences": [sentence(20, "both dogs"), sentence(21, "dogs")]},
    {**head(3), "ann_id": [], "category_id": -1, "source": "zero", "sentences": [sentence(30, "a cat"), sentence(31, "cat")]},
]
json.dump(records, open("expected.json", "w"), indent=1)
for protocol in range(6):
    pickle.dump(records, open(f"protocol{protocol}.p", "wb"), protocol=protocol)
pickle.dump([{**records[0], "ann_id": np.int64(7)}], open("numpy.p", "wb"), protocol=2)
