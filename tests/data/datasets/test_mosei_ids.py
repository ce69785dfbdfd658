"""Names of CMU-MOSEI's and CMU-MOSI's segments: the video and the clip that each form of them tells."""

import json

import numpy as np
import pytest
import raw_mosei

from msafusion.data.datasets import MOSEI
from msafusion.data.datasets.mosei_raw import read_folds, video_and_clip
from msafusion.data.samples import DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("200178_3", ("200178", "3")),
        ("200178[3]", ("200178", "3")),
        ("200178$_$3", ("200178", "3")),
        ("_0ef-OjQY_c_12", ("_0ef-OjQY_c", "12")),
        ("abcdefgh_12", ("abcdefgh_12", None)),
        ("abcdefgh_12[3]", ("abcdefgh_12", "3")),
        ("abcdefghijk ", ("abcdefghijk", None)),
        ("film_7", ("film_7", None)),
    ],
)
def test_video_and_clip_of_every_form(name, expected, caplog):
    assert video_and_clip(name) == expected
    assert ("does not tell its video" in caplog.text) is (name == "film_7")


def test_keys_of_segments_keep_a_video_in_one_split(tmp_path):
    videos = {
        f"video00000{v}[{k}]": raw_mosei.one_video(2 * v + k)
        | {"vectors": (np.ones((4, 300)), raw_mosei.steps(0, 4, 1))}
        for v in range(6)
        for k in range(2)
    }
    reader = MOSEI(raw_mosei.write_sdk(tmp_path / "sdk", videos), text_model="none")
    items = reader.items()
    assert items[0].id == "video000000$_$0-0"
    splits = {item.group: set() for item in items}
    for item in items:
        splits[item.group].add(item.columns["split"])
    assert sorted(splits) == [f"video00000{v}" for v in range(6)]
    assert all(len(found) == 1 for found in splits.values())
    assert reader.verify().ok
    arrays, _ = reader.read(items[0])
    assert arrays["text"].shape[1] == 300
    (tmp_path / "folds.json").write_text(json.dumps({"train": ["200178_1"], "valid": ["ab"], "test": ["200178[2]"]}))
    with pytest.raises(DataError, match=r"train and test share the groups \['200178'\]"):
        read_folds(tmp_path / "folds.json")
