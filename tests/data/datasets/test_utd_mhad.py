import pickle
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from raw_utd_mhad import write_raw_utd_mhad
from scipy.io import loadmat, savemat

from msafusion.data.datasets.utd_mhad import CLASSES, UTDMHAD
from msafusion.data.extractors import extractor_from
from msafusion.data.media import Span, StreamMissing, UtdDepth, UtdInertial, UtdSkeleton
from msafusion.data.preparation import prepare
from msafusion.data.preparation.prepared import write_prepared
from msafusion.data.preprocessing import Augmentation
from msafusion.data.samples import collate
from msafusion.failures import DataError

REAL = Path(__file__).resolve().parents[3] / "../shared/data/utd_mhad"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no UTD-MHAD in {REAL}")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("utd_mhad")
    write_raw_utd_mhad(root)
    return root


def test_items_carry_action_subject_and_both_files(raw):
    items = UTDMHAD(raw).items()
    assert [item.id for item in items] == [f"a{a}_s{s}_t1" for a in (1, 2) for s in range(1, 9)]
    assert (items[10].label, items[10].group) == (1, "3")
    assert CLASSES[items[10].label] == "right arm swipe to the right"
    assert items[10].files["inertial"] == raw / "Inertial" / "a2_s3_t1_inertial.mat"
    arrays, notes = UTDMHAD(raw).read(items[10])
    assert notes == []
    assert arrays["skeleton"].shape[1:] == (60,)
    assert len(arrays["inertial"]) == int(2.5 * len(arrays["skeleton"]))
    assert pickle.loads(pickle.dumps(UTDMHAD(raw))).items() == items


def test_folders_within_themselves_and_all_four_streams(tmp_path):
    streams = ("depth", "rgb", "skeleton", "inertial")
    write_raw_utd_mhad(tmp_path, (1,), (1,), streams=streams, nested=True)
    reader = UTDMHAD(tmp_path, streams, num_frames=4, frame_size=16, num_steps=10)
    arrays, _ = reader.read(reader.items()[0])
    assert {name: (values.dtype.name, values.shape) for name, values in arrays.items()} == {
        "depth": ("uint8", (1, 4, 16, 16)),
        "rgb": ("uint8", (3, 4, 16, 16)),
        "skeleton": ("float32", (10, 60)),
        "inertial": ("float32", (10, 6)),
    }
    assert reader.layouts() == {"depth": "video", "rgb": "video", "skeleton": "sequence", "inertial": "sequence"}


def test_only_samples_with_every_stream_are_items_and_files_that_lack_are_missing(raw, tmp_path):
    write_raw_utd_mhad(tmp_path, (8,), (1, 2), trials=(3, 4))
    for lost in ("Inertial/a8_s2_t3_inertial.mat", "Inertial/a8_s1_t4_inertial.mat", "Skeleton/a8_s1_t4_skeleton.mat"):
        (tmp_path / lost).unlink()
    (tmp_path / "Skeleton" / "a28_s1_t1_skeleton.mat").write_bytes(b"")
    reader = UTDMHAD(tmp_path)
    found = reader.verify()
    assert [item.id for item in reader.items()] == ["a8_s1_t3", "a8_s2_t4"]
    assert "no Inertial/a8_s2_t3_inertial.mat" in found.missing
    never = ("a8_s1_t4", "a23_s6_t4", "a27_s8_t4", "a8_s2_t3_skeleton")
    assert not [line for line in found.missing if any(name in line for name in never)]
    assert len(found.missing) == 2 * (861 - 3) + 1
    assert [line.split("'")[0] for line in found.skipped] == [
        f"{tmp_path}/Skeleton/a28_s1_t1_skeleton.mat is not named as one of 27 actions, 8 subjects and 4 trials "
        "(Skeleton/a1_s1_t1_skeleton.mat)"
    ]
    assert dict(found.present) == {"samples": 2, "skeleton": 2, "inertial": 2}


def test_an_empty_folder_and_unknown_streams_are_told(tmp_path):
    with pytest.raises(DataError, match=r"no sample of UTD-MHAD with skeleton, inertial in .* folders Skeleton and In"):
        UTDMHAD(tmp_path).items()
    with pytest.raises(ValueError, match=r"unknown stream 'skeletons' of UTD-MHAD; did you mean 'skeleton'"):
        UTDMHAD(tmp_path, ["skeletons"])
    with pytest.raises(ValueError, match="no stream of UTD-MHAD is asked for"):
        UTDMHAD(tmp_path, [])


def test_positions_relative_to_the_hip_centre_of_frame_or_clip(raw):
    file = raw / "Skeleton" / "a1_s1_t1_skeleton.mat"
    stored = loadmat(file)["d_skel"]
    for origin, centre in (("none", 0), ("frame", stored[3:4]), ("clip", stored[3:4, :, :1])):
        wanted = (stored - centre).transpose(2, 0, 1).reshape(-1, 60)
        np.testing.assert_allclose(UtdSkeleton(origin)(file).values, wanted, atol=1e-6)
    whole = UtdSkeleton(num_steps=5)(file).values
    np.testing.assert_array_equal(whole[[0, -1]], UtdSkeleton()(file).values[[0, -1]])


def test_an_unknown_origin_and_impossible_depths_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse the value first
    with pytest.raises(ValueError, match="origin is 'hip', expected frame, clip or none"):
        UtdSkeleton("hip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="near is 4000 and far 4000 mm, expected 0 <= near < far"):
        UtdDepth(near=4000)
    with pytest.raises(ValueError, match="num_steps is 0, expected a positive integer"):
        UtdInertial(0)


def test_a_span_is_the_same_time_in_both_streams(tmp_path):
    savemat(tmp_path / "s.mat", {"d_skel": np.broadcast_to(np.arange(193.0), (20, 3, 193))})
    savemat(tmp_path / "i.mat", {"d_iner": np.repeat(np.arange(500.0)[:, None], 6, axis=1)})
    span = Span(2.0, 4.0)
    skeleton = UtdSkeleton("none")(tmp_path / "s.mat", span=span).values[:, 0]
    inertial = UtdInertial()(tmp_path / "i.mat", span=span).values[:, 0]
    assert (inertial[0], len(inertial)) == (100, 200)
    np.testing.assert_allclose([skeleton[0] / 19.3, len(skeleton) / 19.3], [2.0, 4.0], atol=0.03)
    assert UtdSkeleton().probe(tmp_path / "s.mat") == UtdInertial().probe(tmp_path / "i.mat") == 10.0
    with pytest.raises(StreamMissing, match=r"i\.mat' ends after 10\.00 s"):
        UtdInertial()(tmp_path / "i.mat", span=Span(11.0))


def test_depth_becomes_grey_and_nothing_measured_stays_zero(tmp_path):
    maps = np.zeros((240, 320, 8), np.uint16)
    maps[:120] = 2000 + 250 * np.arange(8)
    savemat(tmp_path / "d.mat", {"d_depth": maps})
    extracted = UtdDepth(num_frames=4, size=2)(tmp_path / "d.mat")
    assert extracted.values.shape == (1, 4, 2, 2)
    assert not extracted.values[0, :, 1].any()
    wanted = np.round(1 + 254 * np.array([250, 750, 1250, 1750]) / 2000)  # frames 1, 3, 5, 7
    np.testing.assert_array_equal(extracted.values[0, :, 0, 0], wanted)
    assert extracted.notes == []
    assert UtdDepth(near=3000)(tmp_path / "d.mat").notes == ["50% of the depths clipped to 3000-4000 mm"]
    savemat(tmp_path / "none.mat", {"d_depth": 0 * maps})
    with pytest.raises(StreamMissing, match=r"none\.mat' has no depth above 0"):
        UtdDepth()(tmp_path / "none.mat")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"d_iner": np.zeros((5, 6))}, r"holds no such variable of numbers, expected 'd_skel' \(20, 3, time\)"),
        ({"d_skel": np.zeros((25, 3, 9))}, r"holds float64 \(25, 3, 9\), expected 'd_skel' \(20, 3, time\) in metres"),
        ({"d_skel": np.zeros((20, 3))}, r"holds float64 \(20, 3\), expected"),
        ({"d_skel": np.zeros((20, 3, 0))}, r"holds float64 \(20, 3, 0\), expected"),
        ({"d_skel": "text"}, r"holds no such variable of numbers, expected"),
        ({"d_skel": np.full((20, 3, 2), np.nan)}, r".*metres, holds NaN or infinity"),
    ],
)
def test_wrong_variables_are_told_in_one_line(tmp_path, variables, message):
    file = tmp_path / "a1_s1_t1_skeleton.mat"
    savemat(file, variables)
    with pytest.raises(DataError, match=r"a1_s1_t1_skeleton\.mat'[ ,]" + message) as caught:
        UtdSkeleton()(file)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_told_by_verify_wherever_the_damage_is(raw, tmp_path):
    write_raw_utd_mhad(tmp_path, (1,), (1, 2, 3, 4, 5))
    whole = (tmp_path / "Skeleton" / "a1_s1_t1_skeleton.mat").read_bytes()
    damaged = [b"", whole[:100], whole[: len(whole) // 2], whole[:-3], b"PK" + whole[:50]]
    for subject, content in enumerate(damaged, start=1):
        (tmp_path / "Skeleton" / f"a1_s{subject}_t1_skeleton.mat").write_bytes(content)
    broken = UTDMHAD(tmp_path).verify().broken
    assert len(broken) == len(damaged)
    for subject, line in enumerate(broken, start=1):
        assert f"a1_s{subject}_t1_skeleton.mat'" in line
        assert "expected 'd_skel' (20, 3, time)" in line
        assert "\n" not in line
    with pytest.raises(DataError, match=r"no file .*none\.mat"):
        UtdInertial()(tmp_path / "none.mat")


def test_even_subjects_test_and_no_subject_is_in_two_splits(raw, tmp_path):
    prepare(UTDMHAD(raw), tmp_path / "prepared")
    splits = UTDMHAD(tmp_path / "prepared").splits()
    groups = [part.groups for part in (splits.train, splits.valid, splits.test)]
    assert groups == [{"1", "3", "5"}, {"7"}, {"2", "4", "6", "8"}]
    assert sum(len(part) for part in (splits.train, splits.valid, splits.test)) == 16
    assert splits.classes == list(CLASSES)
    assert splits.channels == {"skeleton": 60, "inertial": 6}
    batch = collate([splits.train[n] for n in range(4)])
    lengths = [sample["lengths"]["inertial"] for sample in splits.train[:4]]
    assert batch["lengths"]["inertial"].tolist() == lengths
    assert batch["inputs"]["inertial"].shape == (4, max(lengths), 6)
    other = UTDMHAD(tmp_path / "prepared", ["inertial"], valid_subjects=[1, 5]).splits()
    assert (other.valid.groups, list(other.train[0]["streams"])) == ({"1", "5"}, ["inertial"])
    other = UTDMHAD(tmp_path / "prepared", num_steps=7)
    for use in (other.splits, other.verify, lambda: other.sample("a1_s1_t1")):
        with pytest.raises(ValueError, match="was prepared with num_steps None, this run asks for 7"):
            use()


@pytest.mark.parametrize("subjects", [[2], [], [1, 3, 5, 7], [7, 9]])
def test_validation_subjects_come_from_the_training_ones(tmp_path, subjects):
    with pytest.raises(ValueError, match=r"expected some, not all, of \[1, 3, 5, 7\]"):
        UTDMHAD(tmp_path, valid_subjects=subjects)


def test_an_unknown_subject_is_told(tmp_path):
    arrays = {"skeleton": np.zeros((2, 60), np.float32), "inertial": np.zeros((2, 6), np.float32)}
    row = {"id": "a1_s9_t1", "label": 0, "group": "9"}
    layouts = dict.fromkeys(arrays, "sequence")
    write_prepared(tmp_path, "UTDMHAD", CLASSES, {"skeleton": 60, "inertial": 6}, [(row, arrays)], layouts)
    with pytest.raises(DataError, match=r"sample 'a1_s9_t1' is of subject '9', expected 1 to 8"):
        UTDMHAD(tmp_path).splits()


@pytest.mark.parametrize("extractor", [UtdSkeleton("none", 50), UtdInertial(50), UtdDepth(8, 64, 500, 4500)])
def test_they_are_saved_by_kind_and_options(extractor):
    assert extractor_from(extractor.as_dict()) == extractor


@real
def test_the_861_real_sequences_are_the_published_ones():
    reader = UTDMHAD(REAL)
    items = reader.items()
    assert (len(items), reader.missing()) == (861, [])
    arrays, _ = reader.read(items[-1])
    assert arrays["skeleton"].shape[1] == 60
    assert 0.5 < np.linalg.norm(arrays["inertial"][:, :3], axis=1).mean() < 2  # gravity is 1 g
    with_depth = UTDMHAD(REAL, ["depth", "skeleton"])
    items = with_depth.items()
    assert len(items) == 24
    depth = with_depth.read(items[0])[0]["depth"]
    assert 0.02 < (depth > 0).mean() < 0.2


def test_raw_files_are_prepared_into_the_cache_and_used_from_there(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path))
    splits = UTDMHAD(raw, num_steps=10, augmentation=Augmentation(noise=0.1)).splits()
    assert splits.train[0]["streams"]["skeleton"].shape == (10, 60)
    assert splits.extraction["streams"]["inertial"] == {"kind": "UtdInertial", "num_steps": 10}
    inputs = splits.preprocessing.inputs(collate([splits.train[0]])["inputs"])
    assert inputs["skeleton"].shape == (1, 60, 10)
    assert len(list(tmp_path.rglob("samples.csv"))) == 1
