"""Small prepared folders with random content in the real layouts, whose labels show in every stream."""

import numpy as np

from msafusion.data.preparation.prepared import write_prepared


def write_ravdess(root, actors=range(1, 25), classes=("calm", "happy"), frames=6, size=32, steps=60):
    random = np.random.default_rng(0)

    def samples():
        for actor in actors:
            for label, _ in enumerate(classes):
                name = f"01-01-{label + 1:02d}-01-01-01-{actor:02d}"
                video = random.integers(0, 100, (3, frames, size, size), dtype=np.uint8)
                video[label] += 100
                audio = random.normal(size=(13, steps)).astype(np.float32)
                audio[label] += 3
                yield {"id": name, "label": label, "group": actor}, {"video": video, "audio": audio}

    write_prepared(root, "RAVDESS", classes, {"video": 3, "audio": 13}, samples(), {"video": "video"})


def write_mosei(root, dataset="MOSEI", num=24):
    random = np.random.default_rng(0)
    channels = {"visual": 35, "audio": 74, "text": 16}

    def samples():
        for number in range(num):
            split = ("train", "train", "valid", "test")[number % 4]
            label = random.uniform(-3, 3)
            steps = int(random.integers(2, 12))
            arrays = {n: (random.normal(size=(steps, c)) + label).astype(np.float32) for n, c in channels.items()}
            yield {"id": f"video{number}$_$0", "label": label, "group": f"video{number}", "split": split}, arrays

    write_prepared(root, dataset, (), channels, samples(), dict.fromkeys(channels, "sequence"))


def write_ntu(root, performers=(1, 2, 3, 4, 5, 6), classes=("drink", "eat"), frames=6, size=32):
    random = np.random.default_rng(0)

    def samples():
        for performer in performers:
            for camera in (1, 2):
                for label, _ in enumerate(classes):
                    name = f"S001C{camera:03d}P{performer:03d}R001A{label + 1:03d}"
                    rgb = random.integers(0, 100, (3, frames, size, size), dtype=np.uint8)
                    rgb[label] += 100
                    skeleton = random.normal(size=(3, 32, 25, 2)).astype(np.float32)
                    skeleton[label] += 1
                    yield {"id": name, "label": label, "group": performer}, {"rgb": rgb, "skeleton": skeleton}

    write_prepared(root, "NTURGBD", classes, {"rgb": 3, "skeleton": 3}, samples(), {"rgb": "video"})
