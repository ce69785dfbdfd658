"""Prepared folders: what was written comes back, and only when asked for."""

import json

import numpy as np
import pytest
import torch
from toy_folders import CHANNELS, LAYOUTS, all_samples, arrays, folder_of, write

from msafusion.data.preparation.prepared import write_prepared
from msafusion.data.samples import DataError, collate


def test_what_was_written_comes_back(root):
    folder = folder_of(root)
    assert (folder.classes, folder.channels) == (["calm", "happy"], CHANNELS)
    samples = folder.samples(folder.rows)
    assert len(samples) == write(root) == 4
    assert samples.groups == {"actor0", "actor1", "actor2", "actor3"}
    for number, sample in enumerate(samples):
        assert (sample["id"], sample["label"], sample["group"]) == (f"clip {number}", number % 2, f"actor{number}")
        assert set(sample["lengths"]) == {"words"}
        for stream, values in arrays(number, 2 + number).items():
            assert sample["streams"][stream].numpy().dtype == values.dtype
            np.testing.assert_array_equal(sample["streams"][stream].numpy(), values)
    assert folder.rows[0]["split"] == "train"
    assert folder.verify() == []


def test_labels_without_classes_are_values(tmp_path):
    row = {"id": "a", "label": -1.25, "group": "g"}
    write_prepared(tmp_path, "toys", (), CHANNELS, [(row, arrays(0))], LAYOUTS)
    sample = all_samples(tmp_path)[0]
    assert sample["label"] == -1.25
    assert collate([sample])["label"].dtype == torch.float32


def test_nothing_but_the_table_is_read_until_a_sample_is_asked_for(root):
    for file in root.glob("*/clip [12].npy"):
        file.unlink()
    samples = all_samples(root)
    assert samples[0]["id"] == "clip 0"
    assert samples[3]["id"] == "clip 3"
    with pytest.raises(DataError, match=r"no file '.*video/clip 1\.npy'"):
        samples[1]


def test_only_the_samples_own_streams_are_read(root):
    (root / "smell").mkdir()
    (root / "smell" / "clip 0.npy").write_bytes(b"broken")
    assert set(all_samples(root)[0]["streams"]) == {"video", "words"}


def test_a_sample_may_be_changed_without_changing_the_file(root):
    samples = all_samples(root)
    samples[0]["streams"]["words"].zero_()
    np.testing.assert_array_equal(samples[0]["streams"]["words"].numpy(), arrays(0, 2)["words"])


def test_sequences_have_lengths_and_are_padded_to_the_min_steps(root):
    samples = all_samples(root, min_steps=4)
    assert [sample["lengths"] for sample in samples] == [{"words": 4}, {"words": 4}, {"words": 4}, {"words": 5}]
    padded = samples[0]["streams"]["words"].numpy()
    np.testing.assert_array_equal(padded[:2], arrays(0, 2)["words"])
    assert (padded[2:] == 0).all()
    assert samples[0]["streams"]["video"].shape == (3, 2, 4, 4)
    batch = collate(samples[:])
    assert batch["inputs"]["words"].shape == (4, 5, 2)
    assert batch["lengths"]["words"].tolist() == [4, 4, 4, 5]


def test_slices_are_samples_with_their_own_groups(root):
    part = all_samples(root)[1::2]
    assert [sample["id"] for sample in part] == ["clip 1", "clip 3"]
    assert part.groups == {"actor1", "actor3"}
    assert len(part[:0]) == 0
    assert part[-1]["id"] == "clip 3"
    with pytest.raises(IndexError):
        part[2]


def test_info_is_plain_json_that_people_can_read(root):
    info = json.loads((root / "info.json").read_text())
    assert info == {"dataset": "toys", "classes": ["calm", "happy"], "streams": CHANNELS, "layouts": LAYOUTS}


@pytest.mark.parametrize(("facts", "said"), [({"of": 7, "failed": 2}, "4 of 7 samples (2 failed)"), ({"of": 4}, "")])
def test_a_part_of_a_data_set_is_used_with_a_warning(root, caplog, facts, said):
    info = json.loads((root / "info.json").read_text())
    (root / "info.json").write_text(json.dumps(info | facts))
    folder_of(root).check_files()
    warned = f"'{root}' holds {said}; prepare the rest for results that count."
    assert caplog.messages == ([warned] if said else [])
