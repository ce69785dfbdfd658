"""The loader: its processes give what the samples give without them, for every kind of samples."""

import pickle

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.utils.data import RandomSampler

from msafusion.data.datasets import Arrays, SmartwatchExercises
from msafusion.data.preparation.prepared import PreparedFolder, write_prepared
from msafusion.training.stage import loader

CHANNELS = {"video": 3, "words": 2, "sound": 4}


def prepared(folder):
    """Video, a sequence of variable length and a map."""
    random = np.random.default_rng(0)

    def samples():
        for n in range(9):
            arrays = {
                "video": random.integers(0, 256, (3, 2, 8, 8), dtype=np.uint8),
                "words": random.normal(size=(2 + n, 2)).astype(np.float32),
                "sound": random.normal(size=(4, 5)).astype(np.float32),
            }
            yield {"id": f"clip {n}", "label": n % 2, "group": str(n)}, arrays

    layouts = {"video": "video", "words": "sequence", "sound": "map"}
    write_prepared(folder, "toys", ["calm", "happy"], CHANNELS, samples(), layouts)
    opened = PreparedFolder(folder, None)
    return opened.samples(opened.rows)


def rows():
    random = np.random.default_rng(0)
    return {
        "video": random.integers(0, 256, (24, 3, 2, 8, 8), dtype=np.uint8),
        "words": random.normal(size=(24, 9, 2)).astype(np.float32),
        "words_lengths": np.arange(24) % 5 + 4,
        "label": np.arange(24) % 2,
        "split": np.tile([0, 0, 1, 2], 6),
    }


def h5(folder):
    with h5py.File(folder / "data.h5", "w") as opened:
        for name, values in rows().items():
            opened.create_dataset(name, data=values, compression="gzip")
    return Arrays(folder / "data.h5").splits().train


def npz(folder):
    np.savez(folder / "data.npz", **rows())
    return Arrays(folder / "data.npz").splits().train


def safetensors(folder):
    save_file(rows(), folder / "data.safetensors")
    return Arrays(folder / "data.safetensors", streams=["video", "words"]).splits().train


def watch(_folder):
    return SmartwatchExercises().splits().train[:30]


SAMPLES = (prepared, h5, npz, safetensors, watch)


def epochs(samples, num_workers, streams=None, num=2, **options):
    """The batches of some epochs, in a random order by one seed."""
    streams = streams or set(samples[0]["streams"])
    order = RandomSampler(samples, generator=torch.Generator().manual_seed(5))
    batches = loader(samples, streams, 4, num_workers, sampler=order, **options)
    return [batch for _ in range(num) for batch in batches]


def assert_same(found, expected):
    assert len(found) == len(expected) > 2
    for one, other in zip(found, expected, strict=True):
        assert one["id"] == other["id"]
        for part in ("inputs", "lengths"):
            assert one[part].keys() == other[part].keys()
            assert all(torch.equal(values, other[part][name]) for name, values in one[part].items())
        assert torch.equal(one["label"], other["label"])


def test_two_processes_give_the_batches_that_none_gives(tmp_path):
    samples = prepared(tmp_path)
    alone = epochs(samples, 0)
    assert_same(epochs(samples, 2), alone)
    assert [batch["id"] for batch in alone[:3]] != [batch["id"] for batch in alone[3:]]  # another order every epoch


def test_processes_read_an_h5_file_that_this_one_has_open(tmp_path):
    samples = h5(tmp_path)
    assert_same(epochs(samples, 2), epochs(samples, 0))


def test_a_batch_has_the_streams_asked_for_whatever_the_others_are(tmp_path):
    for batch in epochs(prepared(tmp_path), 0, {"sound"}, num=1):
        assert set(batch["inputs"]) == {"sound"}
        assert batch["lengths"] == {}
    in_memory = [
        {"id": str(n), "streams": {"a": torch.full((2,), n), "odd": torch.zeros(n + 1)}, "label": n, "group": ""}
        for n in range(9)
    ]
    assert [set(batch["inputs"]) for batch in epochs(in_memory, 0, {"a"}, num=1)] == [{"a"}] * 3


@pytest.mark.parametrize("make", SAMPLES)
def test_what_is_sent_to_a_spawned_process_gives_the_same_batch(tmp_path, make):
    samples = make(tmp_path)
    batches = loader(samples, set(samples[0]["streams"]), 4, 0)
    sent = pickle.dumps((batches.dataset, batches.collate_fn))
    assert len(sent) < 100_000 or make is watch  # arrays stay in their files
    received, collate = pickle.loads(sent)
    expected = batches.collate_fn([samples[index] for index in range(4)])
    found = collate([received[index] for index in range(4)])
    assert all(torch.equal(found["inputs"][name], values) for name, values in expected["inputs"].items())


@pytest.mark.slow
@pytest.mark.parametrize("make", SAMPLES)
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_every_way_to_start_processes_gives_the_same_batches(tmp_path, make, how):
    samples = make(tmp_path)
    assert_same(epochs(samples, 2, multiprocessing_context=how), epochs(samples, 0))
