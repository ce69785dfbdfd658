"""Small prepared folders that the tests of `PreparedFolder` share."""

import numpy as np

from msafusion.data.preparation.prepared import PreparedFolder, write_prepared

CHANNELS = {"video": 3, "words": 2}
LAYOUTS = {"video": "video", "words": "sequence"}


def arrays(number, steps=4):
    random = np.random.default_rng(number)
    video = random.integers(0, 256, (3, 2, 4, 4), dtype=np.uint8)
    return {"video": video, "words": random.normal(size=(steps, 2)).astype(np.float32)}


def write(root, num=4, classes=("calm", "happy"), steps=lambda number: 2 + number):
    rows = [{"id": f"clip {n}", "label": n % 2, "group": f"actor{n}", "split": "train"} for n in range(num)]
    samples = ((row, arrays(n, steps(n))) for n, row in enumerate(rows))
    return write_prepared(root, "toys", classes, CHANNELS, samples, LAYOUTS)


def folder_of(root, **options):
    return PreparedFolder(root, "toys", **options)


def all_samples(root, **options):
    folder = folder_of(root, **options)
    return folder.samples(folder.rows)


def rewrite_table(root, old, new):
    table = root / "samples.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
