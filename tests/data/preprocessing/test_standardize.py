import numpy as np
import pytest
import torch

from msafusion.data.fitting import compressed_streams
from msafusion.data.preprocessing import Augmentation, Standardize, preprocessing_from
from msafusion.failures import DataError

LAYOUTS = {"clip": "video", "sound": "sequence", "face": "map"}


def samples(num=6):
    return [
        {
            "clip": torch.randint(0, 200, (3, 4, 10, 12), dtype=torch.uint8),
            "sound": torch.randn(9 + i, 2) * 3 + 5,
            "face": torch.randn(5) - 4,
        }
        for i in range(num)
    ]


def batch(given):
    return {
        name: torch.stack([sample[name][:9] if name == "sound" else sample[name] for sample in given])
        for name in LAYOUTS
    }


def test_every_channel_has_mean_zero_and_deviation_one_over_the_samples():
    given = samples()
    fitted = Standardize.fitted(given, LAYOUTS)
    for name, axis in (("clip", 0), ("sound", 1), ("face", 0)):
        values = torch.cat(
            [sample[name].double().movedim(axis, 0).reshape(sample[name].shape[axis], -1) for sample in given], 1
        )
        mean = torch.tensor(fitted.mean.get(name) or fitted.signal_mean[name], dtype=torch.float64)
        torch.testing.assert_close(mean * (255 if name == "clip" else 1), values.mean(1))
    inputs = fitted.inputs(batch(given))
    assert inputs["sound"].shape == (6, 2, 9)
    assert inputs["clip"].shape == (6, 3, 4, 10, 12)
    torch.testing.assert_close(inputs["face"].mean(0), torch.zeros(5), atol=1e-5, rtol=0)


def test_one_recording_gives_what_a_batch_of_stored_ones_gives_and_options_come_back():
    given = samples()
    fitted = preprocessing_from(Standardize.fitted(given, LAYOUTS, Augmentation(flip=True, noise=0.1)).as_dict())
    assert isinstance(fitted, Standardize)
    assert fitted.noise == 0.1
    one = fitted({name: values.numpy() for name, values in given[0].items()})
    stored = fitted.inputs(batch(given))
    for name in LAYOUTS:
        torch.testing.assert_close(one[name][0], stored[name][0])


def test_a_channel_that_does_not_vary_stays_small():
    given = [{"face": torch.tensor([1.0, 7.0])}, {"face": torch.tensor([2.0, 7.0])}]
    inputs = Standardize.fitted(given, {"face": "map"}).inputs({"face": torch.tensor([[1.5, 7.001]])})["face"]
    assert inputs.abs().max() < 0.01


def test_changes_in_training_are_one_for_a_clip_and_others_for_the_next():
    frame = torch.randint(0, 255, (3, 1, 10, 12), dtype=torch.uint8)
    given = [{"clip": frame.expand(3, 4, 10, 12).contiguous()} for _ in range(8)]
    fitted = Standardize.fitted(given, {"clip": "video"}, Augmentation(flip=True, shift=0.3))
    changed = fitted.augmented({"clip": torch.stack([sample["clip"] for sample in given])})["clip"]
    assert torch.equal(changed[:, :, :1].expand_as(changed), changed)  # the same in all frames
    assert len({tuple(clip.flatten().tolist()) for clip in changed}) > 4
    torch.manual_seed(0)
    again = fitted.augmented({"clip": given[0]["clip"][None]})["clip"]
    torch.manual_seed(0)
    torch.testing.assert_close(fitted.augmented({"clip": given[0]["clip"][None]})["clip"], again)


def test_signals_get_noise_another_strength_and_lose_a_stretch_in_training_only():
    given = [{"sound": torch.randn(40, 2)} for _ in range(16)]
    stored = {"sound": torch.stack([sample["sound"] for sample in given])}
    plain = Standardize.fitted(given, {"sound": "sequence"}).inputs(stored)["sound"]
    noisy = Standardize.fitted(given, {"sound": "sequence"}, Augmentation(noise=0.5))
    difference = noisy.augmented(stored)["sound"] - plain
    assert difference.std() == pytest.approx(0.5, rel=0.1)
    torch.testing.assert_close(noisy.inputs(stored)["sound"], plain)
    scaled = (
        Standardize.fitted(given, {"sound": "sequence"}, Augmentation(scale=0.3)).augmented(stored)["sound"] / plain
    )
    torch.testing.assert_close(scaled, scaled[:, :1, :1].expand_as(scaled), atol=1e-4, rtol=1e-4)
    assert 0.7 <= scaled.min() < 0.9
    lost = Standardize.fitted(given, {"sound": "sequence"}, Augmentation(drop=1.0)).augmented(stored)["sound"] == 0
    assert torch.equal(lost[:, 0], lost[:, 1])
    assert 0 < lost.float().mean() < 0.25


def test_signals_are_mixed_and_moved_channel_by_channel():
    given = [{"sound": torch.randn(40, 3)} for _ in range(64)]
    stored = {"sound": torch.stack([sample["sound"] for sample in given])}
    plain = Standardize.fitted(given, {"sound": "sequence"}).inputs(stored)["sound"]

    def change(**options):
        return Standardize.fitted(given, {"sound": "sequence"}, Augmentation(**options)).augmented(stored)["sound"]

    moved = change(offset=0.5) - plain
    torch.testing.assert_close(moved, moved[:, :, :1].expand_as(moved), atol=1e-5, rtol=1e-5)
    assert moved[:, :, 0].std() == pytest.approx(0.5, rel=0.2)
    turned = torch.linalg.lstsq(plain.mT, change(mix=0.2).mT).solution.mT - torch.eye(3)
    assert turned.std() == pytest.approx(0.2, rel=0.2)


def test_samples_with_other_channels_are_refused():
    with pytest.raises(DataError, match=r"stream 'face' has \[4, 5\] channels"):
        Standardize.fitted([{"face": torch.zeros(5)}, {"face": torch.zeros(4)}], {"face": "map"})


def test_changes_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"drop is 1.5, expected a number in \[0.0, 1.0\]"):
        Augmentation(drop=1.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_differences_beside_a_large_mean_stay(caplog, dtype):
    near = (torch.randn(40, 8, 1, dtype=torch.float64) * 1000).round()
    given = [{"x": torch.cat([one, one + 1.6e12, torch.full_like(one, 7)], 1).to(dtype)} for one in near]
    fitted = preprocessing_from(Standardize.fitted(given, {"x": "sequence"}).as_dict())
    inputs = fitted.inputs({"x": torch.stack([sample["x"] for sample in given])})["x"]
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 0], inputs[:, 1], atol=1e-5, rtol=0)
    assert not inputs[:, 2].any()
    torch.testing.assert_close(fitted({"x": given[0]["x"].numpy()})["x"][0], inputs[0])
    assert "stream 'x': channel 2 has one value in all training samples" in caplog.text


def test_differences_that_float32_can_hardly_hold_are_noted(caplog):
    given = [{"y": torch.tensor([1.6e9, 101325.0]) + 0.05 * torch.randn(2)} for _ in range(30)]
    inputs = Standardize.fitted(given, {"y": "map"}).inputs({"y": torch.stack([sample["y"] for sample in given])})["y"]
    assert inputs[:, 1].std() == pytest.approx(1, abs=0.1)
    assert "stream 'y': channel 0 has one value in all training samples, as far as float32" in caplog.text
    assert "stream 'y': channel 1 has differences that float32 can hardly hold" in caplog.text


def labelled(vectors, labels, groups=None):
    groups = range(len(labels)) if groups is None else groups
    return [
        {"id": str(n), "streams": {"x": torch.from_numpy(vector)}, "label": label, "group": str(group)}
        for n, (vector, label, group) in enumerate(zip(vectors, labels, groups, strict=True))
    ]


@pytest.mark.parametrize("of_classes", [True, False])
def test_vectors_with_heavy_tails_are_compressed_where_a_linear_model_gains(of_classes, caplog):
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, 300)
    plain = random.normal(size=(300, 20)) + 0.5 * random.normal(size=(3, 20))[classes]
    labels = classes.tolist() if of_classes else (plain[:, 0] + plain[:, 1]).tolist()
    heavy = np.sinh(2.5 * plain)
    assert compressed_streams(labelled(plain, labels), {"x": "map"}) == []
    assert "compressed" not in caplog.text
    assert compressed_streams(labelled(heavy, labels), {"x": "map"}) == ["x"]
    assert "stream 'x' is scaled by its quartiles and its far values are compressed" in caplog.text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5] * 2, [0] * 9 + [1] * 2 + [2]], ids=["all rare", "some rare"])
def test_rare_classes_of_groups_are_compared_without_a_word(labels):
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    assert compressed_streams(labelled(vectors, labels, groups=[n // 2 for n in range(12)]), {"x": "map"}) == []


def test_nothing_is_compressed_where_nothing_can_be_compared():
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    assert compressed_streams(labelled(vectors, [0] * 12), {"x": "map"}) == []
    assert compressed_streams(labelled(vectors, [0, 1] * 6, groups=[0] * 12), {"x": "map"}) == []
    signals = np.random.default_rng(0).normal(size=(12, 3, 4))
    assert compressed_streams(labelled(signals, [0, 1] * 6), {"x": "map"}) == []


def test_compressed_values_are_the_inverse_hyperbolic_sine_of_the_distance_in_quartiles():
    values = torch.tensor([[-1e6, 7.0], [1.0, 7.0], [2.0, 7.0], [3.0, 7.0], [1e9, 9.0]], dtype=torch.float64)
    given = [{"x": row} for row in values]
    fitted = preprocessing_from(Standardize.fitted(given, {"x": "map"}, compressed=["x"]).as_dict())
    expected = torch.asinh((values[:, 0] - 2) / (2 / 1.349)).float()
    inputs = fitted.inputs({"x": values})["x"]
    torch.testing.assert_close(inputs[:, 0], expected)
    # half of the second channel's values are one: its own deviation is its unit
    torch.testing.assert_close(inputs[:, 1], torch.asinh((values[:, 1] - 7) / 0.8).float())
