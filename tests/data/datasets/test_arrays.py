import pickle

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from msafusion.data.datasets import Arrays
from msafusion.data.samples import collate
from msafusion.failures import DataError


def arrays(num=24, **changed):
    random = np.random.default_rng(0)
    label = np.arange(num) % 2
    content = {
        "text": (random.normal(size=(num, 4)) + label[:, None]).astype(np.float32),
        "audio": random.normal(size=(num, 9, 3)).astype(np.float32),
        "audio_lengths": np.arange(num) % 5 + 5,
        "label": label,
        "split": np.array(["train", "train", "valid", "test"] * (num // 4)),
        "video_of": np.array([f"v{row}" for row in range(num)]),
    } | changed
    return {name: values for name, values in content.items() if values is not None}


def npz(tmp_path, **changed):
    np.savez(tmp_path / "data.npz", **arrays(**changed))
    return tmp_path / "data.npz"


@pytest.mark.parametrize("kind", ["npz", "h5", "safetensors"])
def test_the_three_formats_give_the_same_samples(tmp_path, kind):
    content = arrays()
    expected = Arrays(npz(tmp_path)).splits()
    file = tmp_path / f"data.{kind}"
    if kind == "h5":
        with h5py.File(file, "w") as opened:
            for name, values in content.items():
                opened[name] = values.astype("S") if values.dtype.kind == "U" else values
    elif kind == "safetensors":
        codes = {"train": 0, "valid": 1, "test": 2}
        content["split"] = np.array([codes[name] for name in content["split"]])
        del content["video_of"]
        save_file({name: np.ascontiguousarray(values) for name, values in content.items()}, file)
    splits = Arrays(file, streams=["text", "audio"]).splits()
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [12, 6, 6]
    assert splits.classes == ["0", "1"]
    for one, other in zip(splits.train, expected.train, strict=True):
        assert one["label"] == other["label"]
        assert one["lengths"] == other["lengths"]
        for name in ("text", "audio"):
            torch.testing.assert_close(one["streams"][name], other["streams"][name])
    pickle.loads(pickle.dumps(splits.train))[0]  # loader processes open the file themselves


@pytest.mark.parametrize(("kind", "named"), [(torch.bfloat16, "BF16"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_types_that_numpy_lacks_are_read_as_float32_with_a_note(tmp_path, caplog, kind, named):
    content = arrays(video_of=None, split=np.tile([0, 0, 1, 2], 6))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in content.items()}
    tensors["text"], tensors["label"] = tensors["text"].to(kind), tensors["label"].to(kind)
    safetensors.torch.save_file(tensors, tmp_path / "data.safetensors")
    splits = Arrays(tmp_path / "data.safetensors").splits()
    assert splits.classes == ["0", "1"]
    assert torch.equal(splits.train[0]["streams"]["text"], tensors["text"][0].float())
    assert f"data.safetensors': 'text' holds {named}, read as float32" in caplog.text
    splits.train[0]["streams"]["audio"][:] = 7.0  # changes nothing that is read again
    assert torch.equal(splits.train[0]["streams"]["audio"], tensors["audio"][0, :5])


def test_sequences_are_cut_to_their_lengths_and_padded_in_a_batch(tmp_path):
    splits = Arrays(npz(tmp_path)).splits()
    batch = collate([splits.train[0], splits.train[1]])
    assert batch["lengths"]["audio"].tolist() == [5, 6]
    assert batch["inputs"]["audio"].shape == (2, 6, 3)
    assert splits.preprocessing.inputs(batch["inputs"])["audio"].shape == (2, 3, 8)  # what three stages need


def test_what_lies_behind_the_lengths_may_be_anything(tmp_path):
    audio = arrays()["audio"]
    audio[3, 8:] = np.nan
    assert len(Arrays(npz(tmp_path, audio=audio)).splits().test) == 6


def test_standardised_by_the_training_samples_alone(tmp_path):
    text = arrays()["text"]
    text[np.arange(24) % 4 == 3] += 100  # the test rows
    splits = Arrays(npz(tmp_path, text=text)).splits()
    stored = torch.stack([sample["streams"]["text"] for sample in splits.train])
    inputs = splits.preprocessing.inputs({"text": stored})["text"]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)


def test_names_as_labels_and_values_as_labels(tmp_path):
    names = np.array(["yes", "no"] * 12)
    assert Arrays(npz(tmp_path, label=names)).splits().classes == ["no", "yes"]
    values = np.linspace(-3, 3, 24).astype(np.float32)
    splits = Arrays(npz(tmp_path, label=values)).splits()
    assert splits.task == "regression"
    assert splits.train[0]["label"] == pytest.approx(-3)
    assert Arrays(npz(tmp_path, label=np.arange(24) % 2), task="regression").splits().task == "regression"


def test_validation_is_drawn_from_training_groups_where_none_is_marked(tmp_path):
    split = np.array(["train"] * 18 + ["test"] * 6)
    groups = np.array([f"v{row // 2}" for row in range(24)])
    file = npz(tmp_path, split=split, video_of=groups)
    splits = Arrays(file, group="video_of", valid_fraction=0.25).splits()
    assert 2 <= len(splits.valid) <= 6
    assert not splits.valid.groups & splits.train.groups
    assert [s["id"] for s in splits.valid] == [
        s["id"] for s in Arrays(file, group="video_of", valid_fraction=0.25).splits().valid
    ]


def bad(what):
    values = arrays()
    if what == "nan":
        values["text"][0, 0] = np.nan
    if what == "nan in a test row":
        values["audio"][3, 7, 1] = np.inf  # before its end, which is 8
    if what == "lengths of vectors":
        values["text_lengths"] = np.ones(24, np.int64)
    if what == "no steps":
        values["audio"] = np.zeros((24, 0, 3), np.float32)
    if what == "channels last":
        values["audio"] = np.zeros((24, 8, 6, 3), np.uint8)
        del values["audio_lengths"]
    if what == "lengths":
        values["audio_lengths"][7] = 10
    if what == "shared":
        values["video_of"][:] = "v0"
    if what == "label":
        values["label"][3] = 7
    if what == "split":
        values["split"] = np.where(values["split"] == "valid", "later", values["split"])
    if what == "ids":
        values["id"] = np.array(["same"] * 24)
    if what == "rows":
        values["split"] = values["split"][:20]
    if what == "one row less":
        values["text"] = values["text"][:-1]
    if what == "complex":
        values["text"] = values["text"] + 1j
    if what == "group of nan":
        values["video_of"] = np.where(np.arange(24) == 3, np.nan, np.arange(24) // 2)
    if what == "no date":
        values["video_of"] = np.array(["2020-01-01", "NaT"] * 12, "datetime64[ns]")
    if what == "complex labels":
        values["label"] = np.arange(24) % 2 + 1j
    if what == "label of nan":
        values["label"] = np.where(np.arange(24) == 3, np.nan, np.arange(24) % 2)
    if what == "missing":
        del values["label"]
    if what == "empty":
        values["label"] = values["label"][:0]
    return values


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "stream 'text' of sample '000000', in float32, holds NaN or infinity"),
        ("nan in a test row", "stream 'audio' of sample '000003', in float32, holds NaN or infinity"),
        ("lengths of vectors", r"stream 'text' is \(24, 4\) and has 'text_lengths', expected \(24, time, channels\)"),
        ("no steps", r"stream 'audio' is \(24, 0, 3\), expected at least one value"),
        ("channels last", r"stream 'audio' is uint8 \(24, 8, 6, 3\), expected .*np\.moveaxis\(audio, -1, 1\)"),
        ("lengths", "'audio_lengths' is 10 in row 7, expected 1 to the 9 steps"),
        ("shared", r"the splits train and valid share the groups \['v0'\]"),
        ("label", r"sample '000003' \(test\) has the unknown label '7'"),
        ("split", "has the split 'later', expected train, valid or test"),
        ("ids", "the id 'same' occurs twice"),
        ("rows", "'split' has 20 rows, expected 24"),
        ("one row less", r"'text' is \(23, 4\), expected 24 rows"),
        ("complex", r"'text' is complex \(24, 4\), expected real numbers"),
        ("group of nan", "video_of: row 4 is empty, expected its group"),
        ("no date", "video_of: row 2 is empty, expected its group"),
        ("complex labels", r"label: row 1 holds 1j, expected a number or a string"),
        ("label of nan", "row 4 has no label"),
        ("missing", "has no array 'label'"),
        ("empty", "'label' is empty"),
    ],
)
def test_bad_arrays_are_named(tmp_path, what, message):
    with pytest.raises(DataError, match=message):
        Arrays(npz(tmp_path, **(dict.fromkeys(arrays()) | bad(what))), group="video_of").splits()


def test_files_that_are_none(tmp_path):
    for name, content, message in [
        ("a.csv", b"x", "ends in '.csv', expected .npz"),
        ("a.npz", b"no zip", "cannot be read"),
        ("a.h5", b"no hdf5", "cannot be read"),
        ("a.safetensors", b"no tensors", "cannot be read"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            Arrays(tmp_path / name).splits()
    with pytest.raises(DataError, match="no file"):
        Arrays(tmp_path / "nowhere.npz").splits()
    np.savez(tmp_path / "objects.npz", label=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="holds Python objects"):
        Arrays(tmp_path / "objects.npz").splits()
    with pytest.raises(DataError, match="no stream 'txt'; did you mean 'text'"):
        Arrays(npz(tmp_path), streams=["txt"]).splits()


def test_what_is_no_stream_is_noted(tmp_path, caplog):
    age, words = np.arange(24.0), np.full((24, 2), "word")
    assert list(Arrays(npz(tmp_path, age=age, words=words)).splits().channels) == ["text", "audio"]
    assert (
        "not used, as streams are numbers with two axes or more: video_of (24,), age (24,), words (24, 2)"
        in caplog.text
    )
    Arrays(npz(tmp_path, video_of=None, last=np.zeros((24, 8, 9, 3)))).splits()
    assert "text (4 values), audio (9 steps of 3 channels), last (8 channels of 9 x 3)" in caplog.text


def test_labels_of_an_array_of_numbers_are_numbers_in_every_form(tmp_path):
    assert Arrays(npz(tmp_path, label=np.linspace(1e-7, 3e-5, 24))).splits().task == "regression"
    assert Arrays(npz(tmp_path, label=np.array(["1_0", "10"] * 12))).splits().classes == ["10", "1_0"]


def test_labels_in_another_coding_are_refused(tmp_path):
    with h5py.File(tmp_path / "latin.h5", "w") as file:
        for name, values in arrays(label=np.array([b"f\xfcr", b"v"] * 12)).items():
            file[name] = values.astype("S") if values.dtype.kind == "U" else values
    with pytest.raises(DataError, match=r"latin.h5', label: row 1 holds b'f\\xfcr', expected text in UTF-8"):
        Arrays(tmp_path / "latin.h5").splits()


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_the_order_of_bytes_and_a_large_mean_change_nothing(tmp_path, kind):
    content = arrays(video_of=None)
    whole = (content["text"] * 1000).round()
    content |= {"text": whole.astype(">i2"), "far": whole.astype(">f8") / 1000 + 1.6e9}
    if kind == "npz":
        np.savez(tmp_path / "a.npz", **content)
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, values in content.items():
                file[name] = values.astype("S") if values.dtype.kind == "U" else values
    splits = Arrays(tmp_path / f"a.{kind}").splits()
    inputs = splits.preprocessing.inputs(collate(list(splits.train))["inputs"])
    torch.testing.assert_close(inputs["far"], inputs["text"], atol=1e-3, rtol=0)


def signals(channels: int, steps: int, samples: int = 24) -> np.ndarray:
    """(n, channels, time), each channel with a deviation of its own."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, channels, steps)) * rng.uniform(1, 9, size=(channels, 1))


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize(
    "values",
    [
        signals(3, 128),
        signals(40, 12),
        np.random.default_rng(0).normal(size=(24, 1, 50)),
        np.random.default_rng(0).normal(size=(24, 6, 90)).cumsum(axis=2),
    ],
    ids=["few channels", "many channels", "one channel", "standardised, slow"],
)
def test_time_is_found_on_either_axis(tmp_path, caplog, kind, values):
    channels, steps = values.shape[1:]
    if values.shape[1] == 6:
        values = (values - values.mean((0, 2), keepdims=True)) / values.std((0, 2), keepdims=True)
    both = {"first": values, "last": values.swapaxes(1, 2), "video_of": None}
    if kind == "npz":
        splits = Arrays(npz(tmp_path, **both), streams=["first", "last"]).splits()
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, content in arrays(**both).items():
                file[name] = content.astype("S") if content.dtype.kind == "U" else content
        splits = Arrays(tmp_path / "a.h5", streams=["first", "last"]).splits()
    assert splits.channels == {"first": channels, "last": channels}
    sample = splits.train[0]["streams"]
    assert sample["first"].shape == (steps, channels)
    torch.testing.assert_close(sample["first"], sample["last"])
    assert f"first ({steps} steps of {channels} channels), last ({steps} steps of {channels} channels)" in caplog.text
    assert "time is the last axis of first; set time_axis" in caplog.text


def test_time_that_the_values_do_not_tell_is_said_and_can_be_given(tmp_path, caplog):
    file = npz(tmp_path, audio_lengths=None, audio=np.random.default_rng(0).normal(size=(24, 9, 9)))
    assert Arrays(file).splits().train[0]["streams"]["audio"].shape == (9, 9)
    assert "the values of audio do not tell time from channels" in caplog.text
    caplog.clear()
    file = npz(tmp_path, audio_lengths=None, audio=signals(3, 50))
    assert Arrays(file, time_axis={"audio": 1}).splits().channels["audio"] == 50
    assert "time_axis" not in caplog.text


def test_time_of_a_stream_with_lengths_can_be_last(tmp_path):
    lengths = np.arange(24) % 9 + 1
    file = npz(tmp_path, audio=signals(3, 9), audio_lengths=lengths)
    sample = Arrays(file, time_axis={"audio": 2}).splits().train[0]
    assert sample["streams"]["audio"].shape == (sample["lengths"]["audio"], 3)


@pytest.mark.parametrize(
    ("time_axis", "match"),
    [({"audio": 3}, "time_axis is 3 for stream 'audio'"), ({"text": 1}, "'text'"), ({"sound": 1}, "'sound'")],
)
def test_an_axis_that_cannot_be_time_is_refused(tmp_path, time_axis, match):
    with pytest.raises(DataError, match=match):
        Arrays(npz(tmp_path), time_axis=time_axis).splits()
