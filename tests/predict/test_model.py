"""Recordings as arrays: windows, batches, contributions, streams that are missing, values."""

import json

import numpy as np
import pytest
import torch
from saved_models import SIGNALS, signals, write_model, write_signal_model, write_window_model

import msafusion
from msafusion.checkpoints import ModelError
from msafusion.data.preprocessing import Standardize
from msafusion.failures import DataError
from msafusion.predict import Failed, Recording, reading
from msafusion.predict.reading import read_all, read_window

pytestmark = pytest.mark.usefixtures(
    "without_shape_checks"
)  # many calls, and one in which the network must find what is wrong itself


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return msafusion.load(write_signal_model(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Recordings of 2 s, 7 s, 2 s without sound, and 3.5 s."""
    folder = tmp_path_factory.mktemp("files")
    kinds = [(20, tuple(SIGNALS)), (70, tuple(SIGNALS)), (20, ("motion",)), (35, tuple(SIGNALS))]
    return [
        write(folder / f"{number}.npz", signals(steps, number, streams))
        for number, (steps, streams) in enumerate(kinds)
    ]


def write(file, arrays):
    np.savez(file, **arrays)
    return file


def predicted(model, recordings, batch_size=16, workers=1):
    read = read_all(recordings, model.extraction, model.seconds, workers)
    return list(model.predictions(((one, windows) for one, _, windows in read), batch_size))


def of_files(model, files):
    return [Recording.of_file(file, model.extraction, model.streams) for file in files]


def figures(prediction):
    """Everything that is a number, and everything that is not."""
    numbers = [*prediction.probabilities.values(), *([] if prediction.value is None else [prediction.value])]
    numbers += [part.contribution for part in prediction.streams.values() if part.contribution is not None]
    for window in prediction.timeline:
        numbers += [window.start or 0, window.end or 0, *window.probabilities.values()]
    present = {name: part.present for name, part in prediction.streams.items()}
    return np.array(numbers), (prediction.file, prediction.label, present, prediction.warnings)


def same(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(figures(one)[0], figures(other)[0], atol=1e-5)
        assert figures(one)[1] == figures(other)[1]


def test_windows_cover_a_long_recording_and_the_last_one_ends_with_it(model, files, tmp_path):
    found = model.predict(files[1])
    times = [(window.start, window.end) for window in found.timeline]
    assert times == [(float(start), start + 2.0) for start in range(6)]
    whole = signals(70, 1)
    for window, (start, end) in zip(found.timeline, times, strict=True):
        part = {name: values[round(10 * start) : round(10 * end)] for name, values in whole.items()}
        alone = model.predict(write(tmp_path / "part.npz", part))
        assert len(alone.timeline) == 1
        assert window.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    for name, probability in found.probabilities.items():
        mean = np.mean([window.probabilities[name] for window in found.timeline])
        assert probability == pytest.approx(mean, abs=1e-6)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.label == max(found.probabilities, key=lambda name: found.probabilities[name])
    assert len({f"{window.probabilities['a']:.3g}" for window in found.timeline}) > 3


@pytest.mark.parametrize(("steps", "starts"), [(29, [None]), (31, [0.0, 1.1]), (39, [0.0, 0.95, 1.9])])
def test_recordings_of_uneven_length_are_cut_evenly(model, tmp_path, steps, starts):
    found = model.predict(write(tmp_path / "x.npz", signals(steps)))
    assert [window.start for window in found.timeline] == pytest.approx(starts)
    assert found.timeline[-1].end == (None if steps == 29 else pytest.approx(steps / 10))


def test_batches_change_nothing_and_keep_the_order(model, files):
    recordings = of_files(model, files)
    recordings.insert(2, Failed("gone.npz", "no file"))
    one_by_one = [model.predict(file) for file in files]
    for batch_size in (3, 16):
        together = predicted(model, recordings, batch_size)
        assert together.pop(2) == recordings[2]
        same(together, one_by_one)
    assert [one.file for one in one_by_one] == list(map(str, files))


def test_results_come_while_files_are_still_being_read(model, files):
    opened = []

    def naming():
        for recording in of_files(model, [files[0]] * 10):
            opened.append(recording)
            yield recording

    read = read_all(naming(), model.extraction, model.seconds)
    results = model.predictions(((one, windows) for one, _, windows in read), batch_size=2)
    next(results)
    assert len(opened) <= 3


def test_windows_that_nobody_asks_for_are_not_read(model, files, monkeypatch):
    read = []

    def counted(recording, *more):
        read.append(recording.name)
        return read_window(recording, *more)

    monkeypatch.setattr(reading, "read_window", counted)
    for _, count, windows in read_all(of_files(model, [files[1], files[0]]), model.extraction, model.seconds):
        assert count == (1 if len(read) > 1 else 6)
        next(windows)
    assert read == [str(files[1]), str(files[0])]


@pytest.mark.slow  # processes that import torch
def test_worker_processes_change_nothing(model, files, tmp_path):
    (tmp_path / "broken.npy").write_bytes(b"text")
    broken = Recording("broken", {"motion": tmp_path / "broken.npy"})
    recordings = [*of_files(model, files), broken, *of_files(model, files)]
    alone, in_two = (predicted(model, recordings, workers=workers) for workers in (1, 2))
    assert alone.pop(4) == in_two.pop(4)
    same(alone, in_two)


def test_the_contribution_is_what_the_label_loses_without_the_stream(model, files):
    found = model.predict(files[0])
    named = Recording.of_file(files[0], model.extraction, model.streams).files
    stored = {name: model.extraction[name](file).values for name, file in named.items()}
    index = model.classes.index(found.label)
    full = model(stored)[0, index]
    for name, part in found.streams.items():
        without = model({other: values for other, values in stored.items() if other != name})[0, index]
        assert part.present
        assert part.contribution == pytest.approx(float(full - without), abs=1e-6)
    assert abs(found.streams["motion"].contribution - found.streams["sound"].contribution) > 1e-3


def test_a_stream_that_ends_early_is_missing_in_later_windows_only(model, tmp_path):
    np.save(tmp_path / "motion.npy", signals(70)["motion"])
    np.save(tmp_path / "sound.npy", signals(25)["sound"])
    found = model.predict({"motion": tmp_path / "motion.npy", "sound": tmp_path / "sound.npy"})
    assert found.warnings == ["no sound: it ends after 2.50 s (3 windows, the first at 3.00 s)"]
    assert all(part.present and part.contribution is not None for part in found.streams.values())
    late = {"motion": tmp_path / "late.npy"}
    np.save(late["motion"], signals(70)["motion"][50:])
    assert model.predict(late).probabilities == pytest.approx(found.timeline[-1].probabilities, abs=1e-5)


def test_a_stream_that_is_not_named_is_absent_and_said_to_be(model, files, tmp_path):
    found = model.predict(files[2])
    assert found.warnings == ["no sound in '2.npz'"]
    assert (found.streams["sound"].present, found.streams["sound"].contribution) == (False, None)
    assert (found.streams["motion"].present, found.streams["motion"].contribution) == (True, None)
    np.save(tmp_path / "m.npy", signals(20, 2)["motion"])
    named = model.predict({"motion": tmp_path / "m.npy"})
    assert named.warnings == ["no sound: no file is given for it"]
    assert named.probabilities == pytest.approx(found.probabilities)


def test_a_regression_gives_values(files, tmp_path):
    found = msafusion.load(write_signal_model(tmp_path, classes=())).predict(files[1])
    assert (found.label, found.probabilities) == (None, {})
    assert found.value == pytest.approx(np.mean([window.value for window in found.timeline]))
    line = found.as_dict(timeline=True)
    assert line["value"] == found.value
    assert "value" in line["timeline"][0]


def test_lines_without_a_value_or_timeline_have_no_such_entry(model, files):
    found = model.predict(files[1])
    assert set(found.as_dict()) == {"file", "label", "probabilities", "streams", "warnings"}
    assert set(found.as_dict(timeline=True)["timeline"][0]) == {"start", "end", "label", "probabilities"}


def test_windows_that_the_preprocessing_cuts_have_their_times(tmp_path):
    model = msafusion.load(write_window_model(tmp_path))
    arrays = signals(45)
    found = model.predict(write(tmp_path / "x.npz", arrays))
    times = [(window.start, window.end) for window in found.timeline]
    np.testing.assert_allclose(times, [(0.0, 1.6), (0.8, 2.4), (1.6, 3.2), (2.4, 4.0)])
    np.testing.assert_allclose([list(w.probabilities.values()) for w in found.timeline], model(arrays), atol=1e-6)


def test_streams_of_the_data_set_that_the_model_does_not_take_are_not_read(tmp_path):
    model = msafusion.load(write_signal_model(tmp_path, depth=4))
    assert set(model.extraction) == set(SIGNALS)
    assert not model.predict(write(tmp_path / "x.npz", signals())).warnings


class Runs:
    def __reduce__(self):
        return (open, ("/tmp/msafusion-ran", "w"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"motion": np.full((20, 2), np.nan)}, r"NaN or infinity \(40 of 40 values\)"),
        ({"motion": np.array([[Runs()]], object)}, "holds Python objects"),
        ({"motion": np.zeros((20, 5))}, r"expected \(time, 2\)"),
        ({"motion": np.zeros((0, 2))}, r"expected \(time, 2\)"),
        ({"motions": np.zeros((20, 2))}, "holds the arrays motions, expected motion or sound"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model, tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as error:
        model.predict(write(tmp_path / "x.npz", arrays))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_broken_archives_are_refused(model, tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as arrays"):
        model.predict(tmp_path / "x.npz")


def test_an_array_too_short_for_the_network_or_its_windows_fails_alone(tmp_path, files):
    model = msafusion.load(write_window_model(tmp_path))
    short, sound = of_files(model, [write(tmp_path / "short.npz", signals(9)), files[3]])
    failed, fine = predicted(model, [short, sound])
    assert "expected at least 16" in failed.error
    assert fine.label in model.classes


def test_arrays_that_the_network_cannot_take_fail_alone(tmp_path):
    samples = [{"motion": torch.randn(20, 2), "place": torch.randn(5)}]
    preprocessing = Standardize.fitted(samples, {"motion": "sequence", "place": "map"})
    model = msafusion.load(write_model(tmp_path / "run", preprocessing, {"motion": (2, 20), "place": (5,)}))
    motion = signals()["motion"]
    bad = write(tmp_path / "bad.npz", {"motion": motion, "place": np.zeros((5, 3))})
    good = write(tmp_path / "good.npz", {"motion": motion, "place": np.zeros(5)})
    failed, fine = predicted(model, of_files(model, [bad, good]))
    assert "the network does not take motion (2, 20), place (5, 3) (" in failed.error
    assert fine.label in model.classes


def test_a_network_that_gives_nan_is_said_to(tmp_path, files):
    model = msafusion.load(write_signal_model(tmp_path))
    next(model.network.parameters()).data.fill_(np.nan)
    with pytest.raises(DataError, match="the network gives NaN"):
        model.predict(files[0])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"widths": [10**9] * 3}, r"options ask for more than 0.3 GB \(as the weights need\)"),
        ({"widths": [10**30, 8, 8]}, "options ask for more than 0.3 GB"),
        ({"kernel_size": 10**9 + 1}, "options ask for more than 0.3 GB"),
        ({"fusion_options": {"block_channels": 10**9}}, "options ask for more than 0.3 GB"),
        ({"fusion": "mcb", "fusion_options": {"sketch": 10**9}}, "options ask for more than 0.3 GB"),
        ({"widths": [8] * 100}, "widths has 100 stages, expected 1 to 16"),
        ({"widths": [8, "8", 8]}, "widths is '8', expected a positive integer"),
        ({"fuse_at": ["stage2"] * 100}, "fuse_at has 100 stages, expected 16 at most"),
    ],
)
def test_a_foreign_network_takes_no_more_memory_than_its_weights(tmp_path, change, line):
    file = write_signal_model(tmp_path) / "model" / "config.json"
    config = json.loads(file.read_text())
    config["network"]["options"] |= change
    file.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=line):
        msafusion.load(tmp_path)


def test_a_part_that_is_not_a_number_is_noted(tmp_path, files, monkeypatch):
    model = msafusion.load(write_signal_model(tmp_path))
    whole = type(model)._outputs

    def outputs(self, batch):
        return whole(self, batch) * (np.nan if "sound" not in batch else 1)

    monkeypatch.setattr(type(model), "_outputs", outputs)
    result = model.predict(files[0])
    assert result.streams["sound"].contribution is None
    assert "without sound the network gives NaN or infinity: sound's part is not known" in result.warnings
