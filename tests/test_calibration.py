"""One temperature, by hand and where it cannot be told."""

import json
import math

import pytest
import torch
from torch.nn import functional

import msafusion
from msafusion.calibration import fit_temperature, read_temperature
from msafusion.checkpoints import ModelError, save_model
from msafusion.data.preprocessing import Windows
from msafusion.networks import SmallCNN
from msafusion.training.metrics import METRICS, report

calibration_error = METRICS["expected_calibration_error"].value


def overconfident(number, factor, seed=0):
    """Logits that are `factor` times as large as they should be, and labels drawn by the right ones."""
    draw = torch.Generator().manual_seed(seed)
    right = 2 * torch.randn(number, 4, generator=draw)
    labels = torch.multinomial(torch.softmax(right, 1), 1, generator=draw)[:, 0]
    return factor * right, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_factor_of_many_samples_is_found(factor):
    assert fit_temperature(*overconfident(4000, factor)) == pytest.approx(factor, rel=0.1)


def test_calibrated_probabilities_of_other_samples_are_likelier_and_mean_what_they_say():
    temperature = fit_temperature(*overconfident(300, 4.0))
    logits, labels = overconfident(3000, 4.0, seed=1)
    assert functional.cross_entropy(logits / temperature, labels) < 0.7 * functional.cross_entropy(logits, labels)
    assert calibration_error(logits / temperature, labels) < 0.05 < 0.2 < calibration_error(logits, labels)


def test_few_samples_change_little_and_samples_that_are_all_right_do_not_lead_to_certainty():
    logits = torch.tensor([[0.1, 0.0], [0.0, 0.1]])
    assert 0.7 < fit_temperature(logits, torch.tensor([0, 1])) < 1
    many = torch.tensor([[3.0, 0.0]]).repeat(200, 1)
    assert 0.2 < fit_temperature(many, torch.zeros(200, dtype=torch.long)) < 0.8


def test_what_is_not_finite_or_empty_is_left_alone():
    assert fit_temperature(torch.full((3, 2), math.inf), torch.zeros(3, dtype=torch.long)) == 1
    assert fit_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)) == 1


def test_calibration_error_by_hand():
    # confidence 0.8 for four samples of which two are right, and 0.6 for one that is right: 4/5 * 0.3 + 1/5 * 0.4
    confident, less = [math.log(4), 0.0], [math.log(1.5), 0.0]
    logits, labels = torch.tensor([confident] * 4 + [less]), torch.tensor([0, 0, 1, 1, 0])
    assert calibration_error(logits, labels) == pytest.approx(0.8 * 0.3 + 0.2 * 0.4, abs=1e-6)


def test_models_that_only_choose_have_no_metrics_of_probabilities():
    logits, labels = torch.eye(3), torch.arange(3)
    assert {"expected_calibration_error", "log_loss"} <= report(logits, labels, ["a", "b", "c"]).keys()
    chosen = report(logits, labels, ["a", "b", "c"], probabilities=False)
    assert not {"expected_calibration_error", "log_loss"} & chosen.keys()


@pytest.fixture
def run(tmp_path):
    windows = Windows(50, steps=200, hop=100, mean={"motion": [0.0]}, std={"motion": [1.0]})
    config = {"network": SmallCNN().as_dict(), "preprocessing": windows.as_dict(), "classes": ["rest", "wave"]}

    def save(**more):
        torch.manual_seed(0)
        save_model(tmp_path / "model", SmallCNN().build(windows.num_channels(), 2), {**config, **more})
        return msafusion.load(tmp_path)

    return save


def test_a_loaded_model_divides_its_logits(run):
    recording = {"motion": torch.randn(400, 1)}
    plain, calibrated = run()(recording), run(temperature=2.0)(recording)
    expected = torch.softmax(torch.log(plain) / 2, dim=1)  # logits but for a constant of each window
    torch.testing.assert_close(calibrated, expected)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, "2", True, None, [1.0]])
def test_temperatures_that_cannot_be_are_refused(run, value):
    with pytest.raises(ValueError, match="temperature"):
        read_temperature({"temperature": value})
    if value is not math.inf:  # JSON has none
        with pytest.raises(ModelError, match="temperature"):
            run(temperature=json.loads(json.dumps(value)))
