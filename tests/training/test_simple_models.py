"""The simple models beside the networks, and the summaries that they get."""

import numpy as np
import pytest
import torch

from msafusion.data.datasets import Arrays
from msafusion.training.simple_models import BATCH, MODELS, fit_simple, stream_sets, summaries, summarise

LINEAR, SVM, TREES = MODELS


def splits_of(folder, x, label, split=None, **more):
    number = len(label)
    split = np.array(["train", "train", "valid", "test"])[np.arange(number) // 4 % 4] if split is None else split
    np.savez(folder / "data.npz", x=x.astype("float32"), label=label, split=split, **more)
    return Arrays(folder / "data.npz", group="who" if "who" in more else None).splits()


def accuracy(result):
    return float((result.outputs.argmax(1) == result.labels).float().mean())


def test_summaries_of_a_signal_by_hand():
    steps = torch.arange(16.0)
    found = summarise(torch.stack([steps, torch.zeros(16)])[None])[0].reshape(2, -1)
    assert found[0, :8] == pytest.approx([7.5, float(steps.std(correction=0)), 0, 15, 1.5, 7.5, 13.5, 1.0])
    assert found[0, -16:-8] == pytest.approx([0.5 + 2 * part for part in range(8)])  # means of eight parts of time
    assert found[0, -8:] == pytest.approx([0.5] * 8)  # and their deviations
    assert found[1, :8] == pytest.approx([0.0] * 8)


def test_the_spectrum_tells_slow_from_fast():
    time = torch.linspace(0, 1, 128)
    slow, fast = (torch.sin(2 * torch.pi * rate * time)[None, None] for rate in (2, 40))
    bands = [summarise(each)[0, 8:-16] for each in (slow, fast)]
    assert bands[0].argmax() < bands[1].argmax()


@pytest.mark.parametrize(("shape", "features"), [((2, 5), 5), ((2, 3, 20, 20), 192), ((2, 1, 9, 4, 20), 4 * 4 * 8)])
def test_vectors_pictures_and_clips(shape, features):
    assert summarise(torch.rand(shape)).shape == (2, features)


def test_padding_does_not_count():
    signal = torch.randn(2, 3, 30)
    padded = torch.cat([signal, torch.full((2, 3, 10), 99.0)], dim=2)
    torch.testing.assert_close(summarise(padded, torch.tensor([30, 30])), summarise(signal))


def test_one_step_and_no_real_step_are_finite():
    assert summarise(torch.ones(1, 2, 1)).isfinite().all()
    assert summarise(torch.ones(1, 2, 5), torch.tensor([0])).isfinite().all()


def test_summaries_come_in_the_order_of_the_samples(tmp_path):
    number = BATCH + 8
    splits = splits_of(tmp_path, np.arange(2.0 * number).reshape(number, 2), np.arange(number) % 2)
    for part in (splits.train, splits.test):
        stored = torch.stack([sample["streams"]["x"] for sample in part])
        torch.testing.assert_close(
            summaries(part, splits.preprocessing, ["x"]), splits.preprocessing.inputs({"x": stored})["x"]
        )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_model_learns_what_it_should(model, tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(240, 4))
    label = (x[:, 0] > 0).astype(int) if model is LINEAR else (x[:, 0] * x[:, 1] > 0).astype(int)
    splits = splits_of(tmp_path, x, label)
    (found,), left = fit_simple(splits, "x", splits.test, models=[model])
    assert accuracy(found) > 0.8
    assert found.valid > 0.8
    assert left == []
    assert found.outputs.shape == (len(splits.test), 2)


def test_heavy_tails_are_scaled_by_quantiles(tmp_path, monkeypatch):
    monkeypatch.setattr("msafusion.data.fitting.compressed_streams", lambda *_: [])  # which would do it first
    draw = np.random.default_rng(0)
    x = draw.standard_t(1, size=(400, 6)) ** 3
    splits = splits_of(tmp_path, x, ((np.sign(x) * np.log1p(np.abs(x))).sum(1) > 0).astype(int))
    (found,), _ = fit_simple(splits, "x", splits.test, models=[LINEAR])
    assert found.options["scale"] == "QuantileTransformer"
    assert accuracy(found) > 0.85


def test_regression_is_chosen_by_its_absolute_error(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 3))
    splits = splits_of(tmp_path, x, x @ [1.0, 2.0, 0.0] + 0.25)
    for found in fit_simple(splits, "x", splits.test)[0]:
        error = float((found.outputs[:, 0] - found.labels).abs().mean())
        assert error < 1.0
        assert found.valid == pytest.approx(error, rel=1.0)


def test_strength_is_chosen_over_groups(tmp_path):
    """A value tells the person, and each person has one label: over samples that would look perfect."""
    draw = np.random.default_rng(0)
    who = np.repeat(np.arange(24), 10)
    label = draw.permutation(np.arange(24) % 2)[who]
    x = np.eye(24)[who] + 0.01 * draw.normal(size=(240, 24))
    split = np.array(["train", "train", "train", "valid", "test"])[who % 5]
    splits = splits_of(tmp_path, x, label, split, who=who.astype(str))
    (found,), _ = fit_simple(splits, "x", splits.test, models=[SVM])
    assert found.valid < 0.7


def test_what_would_take_long_is_left_out_with_a_line(tmp_path):
    splits = splits_of(tmp_path, np.zeros((32, 3)), np.arange(32) % 2)
    slow = LINEAR.__class__(**{**vars(SVM), "max_samples": 10})
    found, (line,) = fit_simple(splits, "x", splits.test, models=[slow])
    assert found == []
    assert "SVM (x)" in line
    assert "24 samples of 3 features" in line


def test_several_streams_are_also_taken_together(tmp_path):
    splits = splits_of(tmp_path, np.zeros((32, 3)), np.arange(32) % 2)
    assert stream_sets(splits) == {"x": ["x"]}
    np.savez(tmp_path / "two.npz", **{**np.load(tmp_path / "data.npz"), "y": np.zeros((32, 2), np.float32)})
    assert stream_sets(Arrays(tmp_path / "two.npz").splits()) == {"x": ["x"], "y": ["y"], "all streams": ["x", "y"]}
