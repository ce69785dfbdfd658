import pickle
from pathlib import Path

import numpy as np
import pytest
from raw_media import grey_frames, write_video
from raw_ntu import write_raw_ntu, write_skeleton

from msafusion.data.datasets.ntu_rgbd import CLASSES, NTURGBD
from msafusion.data.extractors import extractor_from
from msafusion.data.media import Span
from msafusion.data.preparation.prepared import write_prepared
from msafusion.failures import DataError
from msafusion.reproduce.frames import NtuReferenceFrames

REAL = Path(__file__).resolve().parents[3] / "../shared/data/ntu_rgbd"
CLIP, BAD = REAL / "S001C001P001R001A001_rgb.avi", REAL / "bad_skeletons.txt"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("ntu")
    write_raw_ntu(root, performers=(1, 3), frames=6)
    return root


@pytest.fixture
def two(tmp_path):
    """Actions 1 and 2 by one performer, which tests may spoil."""
    write_raw_ntu(tmp_path, (3,), (1, 2), (1,), frames=3)
    return tmp_path


def test_items_pair_video_and_skeleton_by_name(raw):
    items = NTURGBD(raw).items()
    assert len(items) == 8
    item = next(item for item in items if item.id == "S001C002P003R001A050")
    assert (CLASSES[item.label], item.group) == ("punch or slap", "3")
    assert item.files["rgb"] == raw / "nturgbd_rgb" / "S001C002P003R001A050_rgb.avi"
    assert item.files["skeleton"] == raw / "nturgbd_skeletons" / "S001C002P003R001A050.skeleton"
    assert pickle.loads(pickle.dumps(NTURGBD(raw))).items() == items


def test_a_sample_becomes_what_the_networks_take(raw):
    reader = NTURGBD(raw, num_frames=4, frame_size=32)
    arrays, notes = reader.read(reader.items()[1])
    assert (arrays["rgb"].shape, arrays["rgb"].dtype) == ((3, 4, 32, 32), np.uint8)
    assert (arrays["skeleton"].shape, arrays["skeleton"].dtype) == ((3, 32, 25, 2), np.float32)
    assert abs(arrays["rgb"].mean() - 140) < 8  # the grey of action 50
    assert arrays["skeleton"][..., 1].any()
    assert notes == []


def test_the_miniature_is_prepared_and_divided_by_performer(tmp_path):
    write_raw_ntu(tmp_path, actions=(1,), cameras=(3,), frames=2)
    reader = NTURGBD(tmp_path, num_frames=2, frame_size=16)
    rows = (({"id": i.id, "label": i.label, "group": i.group}, reader.read(i)[0]) for i in reader.items())
    write_prepared(tmp_path, reader.name, reader.classes, reader.channels(), rows, reader.layouts())
    splits = NTURGBD(tmp_path).splits()
    groups = [part.groups for part in (splits.train, splits.valid, splits.test)]
    assert groups == [{"performer 1"}, {"performer 2"}, {"performer 3"}]
    assert splits.classes == list(CLASSES)
    assert len(set(CLASSES)) == 60


def test_verify_counts_what_is_there_and_names_what_is_not(two):
    write_raw_ntu(two / "more", (4,), (3,), (1,), frames=2)
    for file in (two / "more" / "nturgbd_rgb").iterdir():
        file.rename(two / "nturgbd_rgb" / file.name)
    (two / "nturgbd_skeletons" / "S001C001P003R001A002.skeleton").write_text("5\r\n1\r\n")
    (two / "nturgbd_skeletons" / "S001C001P003R001A061.skeleton").write_text("")
    (two / "nturgbd_rgb" / "copy_rgb.avi").write_bytes(b"")
    found = NTURGBD(two).verify()
    assert dict(found.present) == {"samples": 2, "rgb": 2, "skeleton": 1}
    (missing,) = found.missing
    assert missing.startswith("no nturgbd_skeletons/S001C001P004R001A003.skeleton, expected beside '")
    (broken,) = found.broken
    assert "S001C001P003R001A002.skeleton', line 3: the end of the file, expected 10 numbers of a body" in broken
    assert found.skipped == [
        "S001C001P003R001A061: action 61 is none of the 60 of NTU RGB+D 60",
        "copy: not named SsssCcccPpppRrrrAaaa",
    ]


def test_bad_skeletons_show_themselves_or_are_left_out_by_the_list(two):
    write_skeleton(two / "nturgbd_skeletons" / "S001C001P003R001A002.skeleton", [{}, {}, {}])
    (broken,) = NTURGBD(two).verify().broken
    assert "S001C001P003R001A002.skeleton' has no body in any of 3 frames" in broken
    (two / "bad.txt").write_text("Samples without skeletons:\nS001C001P003R001A002\nS001C002P006R001A008\n")
    reader = NTURGBD(two, bad_skeletons=two / "bad.txt")
    found = reader.verify()
    assert (found.ok, found.skipped) == (True, ["S001C001P003R001A002: on the list of bad skeletons"])
    assert [item.id for item in reader.items()] == ["S001C001P003R001A001"]
    assert reader.settings()["bad_skeletons"] == str((two / "bad.txt").resolve())


def test_wrong_folders_and_lists_are_told(two, tmp_path):
    with pytest.raises(DataError, match=r"no sample of NTU RGB\+D with video and skeleton in .* expected nturgbd_rgb/"):
        NTURGBD(two / "nturgbd_rgb").items()
    with pytest.raises(DataError, match=r"none\.txt' cannot be read"):
        NTURGBD(two, bad_skeletons=tmp_path / "none.txt").items()
    (tmp_path / "empty.txt").write_text("nothing\n")
    with pytest.raises(DataError, match=r"empty\.txt' names no sample SsssCcccPpppRrrrAaaa"):
        NTURGBD(two, bad_skeletons=tmp_path / "empty.txt").items()


def test_the_official_archives_folder_names_are_known(two):
    for name in ("rgb", "skeletons"):
        (two / f"nturgbd_{name}").rename(two / f"nturgb+d_{name}")
    assert len(NTURGBD(two).items()) == 2


def test_reference_frames_are_24_of_the_clip_the_last_one_black_blue_first(tmp_path):
    levels = 20 + 4 * np.arange(48)
    frames = grey_frames(levels)
    frames[..., 0] = 0  # no red
    write_video(tmp_path / "clip.avi", frames, rate=30, key_every=1)
    video = NtuReferenceFrames(size=16)(tmp_path / "clip.avi").values
    assert video.shape == (3, 32, 16, 16)
    assert video[0].mean() > 60 > 30 > video[2].mean()
    taken = np.linspace(0, 48, 24).astype(int)[np.linspace(0, 23, 32).astype(int)]
    np.testing.assert_allclose(video[1, :31].mean(axis=(1, 2)), levels[taken[:31]], atol=6)
    assert not video[:, 31].any()
    thinned = NtuReferenceFrames(8, 16)(tmp_path / "clip.avi", span=Span(0.8, 0.8)).values
    middle = (24 + np.linspace(0, 24, 24).astype(int))[np.linspace(0, 23, 8).astype(int)]
    np.testing.assert_allclose(thinned[1, :7].mean(axis=(1, 2)), levels[middle[:7]], atol=6)
    assert not thinned[:, 7].any()


def test_reference_frames_of_a_clip_of_fewer_frames_leave_the_rest_black(tmp_path):
    write_video(tmp_path / "short.avi", grey_frames([200] * 6), rate=30)
    video = NtuReferenceFrames(24, 16)(tmp_path / "short.avi").values
    assert (video.mean(axis=(0, 2, 3)) > 150).tolist() == [True] * 6 + [False] * 18


def test_the_reference_reader_takes_both_reference_extractors(raw):
    reader = NTURGBD(raw, num_frames=8, frame_size=16, reference=True)
    arrays, _ = reader.read(reader.items()[0])
    assert not arrays["rgb"][:, -1].any()
    assert arrays["skeleton"][..., 1].any()  # one body: the absent one is minus the origin
    assert extractor_from(reader.extraction["rgb"].as_dict()) == NtuReferenceFrames(8, 16)


def test_a_cut_clip_is_told(tmp_path):
    file = write_video(tmp_path / "cut.avi", grey_frames(range(100, 160)), rate=30, key_every=1)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.avi' ends early, expected 60 frames as it says"):
        NtuReferenceFrames(8, 16)(file)
    file.write_bytes(content[:50])
    with pytest.raises(DataError, match=r"cut\.avi'"):
        NtuReferenceFrames(8, 16).probe(file)


@pytest.mark.skipif(not CLIP.is_file(), reason=f"no {CLIP}")
def test_the_genuine_clip_is_an_item_beside_a_skeleton(tmp_path):
    for folder in ("nturgbd_rgb", "nturgbd_skeletons"):
        (tmp_path / folder).mkdir()
    (tmp_path / "nturgbd_rgb" / CLIP.name).symlink_to(CLIP.resolve())
    write_skeleton(tmp_path / "nturgbd_skeletons" / "S001C001P001R001A001.skeleton", [{"1": np.ones((25, 3))}] * 3)
    reader = NTURGBD(tmp_path, num_frames=1, bad_skeletons=BAD)
    arrays, notes = reader.read(reader.items()[0])
    assert (arrays["rgb"].shape, notes) == ((3, 1, 256, 256), [])
    assert 60 < arrays["rgb"].mean() < 190
    assert reader.extraction["rgb"].probe(CLIP) == pytest.approx(103 / 30, abs=0.05)
