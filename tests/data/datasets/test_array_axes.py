"""Time is told from channels by the values of signals."""

from pathlib import Path

import numpy as np
import pytest

from msafusion.data.datasets import SmartwatchExercises
from msafusion.data.datasets.array_axes import find_time_axis

SHARED = Path(__file__).parents[4] / "shared" / "data"


def both_ways(signals):
    return find_time_axis(signals), find_time_axis([signal.T for signal in signals])


@pytest.mark.parametrize("number", [8, 100])
def test_signals_of_a_watch(number):
    samples = SmartwatchExercises().splits().train
    for stream in ("accelerometer", "gyroscope"):  # (channels, time)
        assert both_ways([samples[9 * n]["streams"][stream].numpy() for n in range(number)]) == (1, 0)


@pytest.mark.parametrize(("file", "streams"), [("sign_letters.npz", ["emg", "imu"]), ("mex.npz", ["thigh", "wrist"])])
def test_research_data(file, streams):
    if not (SHARED / file).is_file():
        pytest.skip("needs ../shared/data")
    with np.load(SHARED / file) as arrays:
        for stream in streams:
            assert both_ways(arrays[stream][::3]) == (1, 0)


@pytest.mark.parametrize(("number", "one", "other"), [(24, 20, 6), (30, 8, 50), (9, 4, 40), (200, 12, 12)])
def test_noise_does_not_tell(number, one, other):
    random = np.random.default_rng(0)
    for _ in range(20):
        assert find_time_axis(random.normal(size=(number, one, other))) is None


def test_pictures_few_samples_and_constants_do_not_tell():
    random = np.random.default_rng(0)
    pictures = random.normal(size=(50, 30, 40)).cumsum(axis=1).cumsum(axis=2)
    pictures = (pictures - pictures.mean(0)) / pictures.std(0)
    assert find_time_axis(pictures) is None
    signals = random.normal(size=(7, 3, 200)) * np.array([1, 5, 20])[:, None]
    assert find_time_axis(signals) is None
    assert find_time_axis(np.concatenate([signals, signals])) is None  # copies tell no more
    assert find_time_axis(np.full((9, 3, 20), 7.0)) is None
    assert find_time_axis(np.full((9, 3, 20), np.nan)) is None


def test_sizes_tell_where_they_can():
    assert both_ways([np.ones((1, 50))] * 9) == (1, 0)
    assert both_ways([np.ones((3, steps)) for steps in (80, 95)]) == (1, 0)
    assert both_ways([np.ones((rows, rows)) for rows in (3, 4)]) == (None, None)
    assert find_time_axis([np.ones((1, 1))]) is None
    assert find_time_axis([np.ones(3), np.array([["a"]])]) is None
