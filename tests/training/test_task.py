"""Losses, optimizers and schedules of a stage, against what they must be."""

import copy

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from msafusion import FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.data.preprocessing import Clips
from msafusion.data.samples import as_dataset, collate
from msafusion.training.metrics import report
from msafusion.training.stage_options import StageOptions
from msafusion.training.task import FusionTask


def samples(num=8):
    torch.manual_seed(1)
    return [
        {"id": str(i), "streams": {"a": torch.randn(2, 20), "b": torch.randn(3, 20)}, "label": i % 3, "group": str(i)}
        for i in range(num)
    ]


def network():
    networks = {"a": CNN1d(2, 3, widths=(4, 8), dropout=0.0), "b": CNN1d(3, 3, widths=(4, 8), dropout=0.0)}
    example = {"a": torch.zeros(2, 2, 20), "b": torch.zeros(2, 3, 20)}
    point = FusionPoint({"a": "stage2", "b": "stage2"}, block_channels=4, init="paper")
    return fuse(networks, point, head="mean", example=example)


def fit(net, options, epochs=1, batch_size=4, kind=Clips, **more):
    task = FusionTask(net, 3, options, kind({"a": 2, "b": 3}), seed=0)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **more,
    )
    data = DataLoader(as_dataset(samples()), batch_size, collate_fn=collate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *given, **named: None)
        trainer.fit(task, data)
    return task, trainer


def test_every_batch_of_an_accumulated_step_draws_its_own_random_numbers():
    drawn = []

    class Noting(Clips):
        def augmented(self, stored):
            drawn.append(torch.rand(4).tolist())
            return self.inputs(stored)

    fit(network(), StageOptions(), epochs=2, batch_size=2, accumulate_grad_batches=4, kind=Noting)
    assert len(drawn) == 8
    assert len({tuple(numbers) for numbers in drawn}) == 8


def by_hand(net, options, batches):
    """The published training step, written out: for each network a whole forward pass, its loss, its own Adam."""
    shared = list(net.fusion_layers.parameters())
    adams = {
        name: torch.optim.Adam([*net.networks[name].parameters(), *shared], options.learning_rate, weight_decay=1e-4)
        for name in net.networks
    }
    net.train()
    for batch in batches:
        gradients = {}
        outputs = net.stream_outputs(batch["inputs"])
        for name, adam in adams.items():
            parameters = [p for group in adam.param_groups for p in group["params"]]
            loss = nn.functional.cross_entropy(outputs[name], batch["label"])
            gradients[name] = torch.autograd.grad(loss, parameters, retain_graph=True)
        for name, adam in adams.items():
            parameters = [p for group in adam.param_groups for p in group["params"]]
            for parameter, gradient in zip(parameters, gradients[name], strict=True):
                parameter.grad = gradient
            adam.step()


def test_separate_losses_step_each_network_by_its_own_and_the_fusion_by_both():
    net = network()
    expected = copy.deepcopy(net)
    rates = {"learning_rate": 1e-2, "fusion_learning_rate": 1e-2, "weight_decay": 1e-4}
    options = StageOptions(epochs=1, optimizer="adam", schedule="constant", losses="separate", **rates)
    batches = [collate(samples()[start : start + 4]) for start in (0, 4)]
    by_hand(expected, options, batches)
    fit(net, options)
    for (name, got), want in zip(net.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, want, msg=name)


def test_a_network_does_not_move_by_the_others_loss():
    net = network()
    with torch.no_grad():
        net.networks["a"].fc.weight.zero_()  # a's loss sends no gradient below its classifier
    before = copy.deepcopy(net.state_dict())
    options = StageOptions(epochs=1, optimizer="adam", schedule="constant", losses="separate", weight_decay=0.0)
    fit(net, options, batch_size=8)
    assert torch.equal(net.state_dict()["networks.a.stage1.0.weight"], before["networks.a.stage1.0.weight"])
    assert not torch.equal(net.state_dict()["networks.b.stage1.0.weight"], before["networks.b.stage1.0.weight"])


@pytest.mark.parametrize("losses", ["joint", "separate"])
def test_a_constant_learning_rate_is_divided_by_ten_after_the_epochs_named(losses):
    options = StageOptions(epochs=4, learning_rate=1e-2, schedule="constant", decay_after=[1, 3], losses=losses)
    task, trainer = fit(network(), options, epochs=4)
    expected = 1e-2 * 0.1**2
    for optimizer in trainer.optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
    assert len(trainer.optimizers) == (2 if losses == "separate" else 1)
    factor = task._schedule(trainer.optimizers[0]).lr_lambdas[0]
    assert [factor(step) for step in range(8)] == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_a_cosine_leads_to_zero():
    _, trainer = fit(network(), StageOptions(epochs=2), epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs is -1, expected 0 or more"),
        ({"ema": 1.0}, "ema is 1.0, expected 0"),
        ({"decay_after": [5]}, r"decay_after is \[5\] with schedule cosine, expected it with constant"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StageOptions(**options)


def test_metrics_of_values_by_hand():
    values = torch.tensor([-2.6, -0.4, 0.2, 1.4, 3.9])
    labels = torch.tensor([-3.0, 0.0, -1.0, 1.0, 3.0])
    metrics = report(values[:, None], labels, [], sentiment=True)
    assert metrics["rmse"] == pytest.approx(((0.16 + 0.16 + 1.44 + 0.16 + 0.81) / 5) ** 0.5)
    assert metrics["r2"] == pytest.approx(1 - (0.16 + 0.16 + 1.44 + 0.16 + 0.81) / 20)
    assert metrics["num_samples"] == 5
    assert metrics["mae"] == pytest.approx((0.4 + 0.4 + 1.2 + 0.4 + 0.9) / 5)
    assert metrics["accuracy_7"] == pytest.approx(4 / 5)  # -3, 0, 0, 1, 3 against -3, 0, -1, 1, 3
    assert metrics["accuracy_5"] == pytest.approx(4 / 5)  # -2, 0, 0, 1, 2 against -2, 0, -1, 1, 2
    assert metrics["accuracy_2_negative_non_negative"] == pytest.approx(3 / 5)  # wrong: -0.4 of 0, 0.2 of -1
    assert metrics["accuracy_2_negative_positive"] == pytest.approx(3 / 4)  # the label 0 is left out
    # classes of the four: true 0 0 1 1, predicted 0 1 1 1: F1 are 2/3 and 4/5, half the samples each
    assert metrics["f1_negative_positive"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    centred = values - values.mean(), labels - labels.mean()
    expected = (centred[0] * centred[1]).sum() / (centred[0].norm() * centred[1].norm())
    assert metrics["pearson"] == pytest.approx(float(expected), abs=1e-5)
    assert set(report(values[:, None], labels, [])) == {"mae", "rmse", "r2", "pearson", "num_samples"}


@pytest.mark.parametrize("labels", [torch.tensor([40.0]), torch.tensor([40.0, 40.0])])
def test_metrics_that_are_not_defined_are_null(labels):
    metrics = report(labels[:, None] + 1, labels, [])
    assert metrics == {"mae": 1.0, "rmse": 1.0, "r2": None, "pearson": None, "num_samples": len(labels)}


def test_stream_dropout_leaves_every_sample_a_stream_and_drops_as_often_as_it_says():
    task = FusionTask(network(), 3, StageOptions(stream_dropout=0.3), Clips({"a": 2, "b": 3}), seed=0)
    kept = task._present(4000, {})
    assert kept is not None
    assert (kept["a"] | kept["b"]).all()
    expected = 1 - 0.3 + 0.3**2 / 2  # where both would go, one of them stays
    assert all(abs(mask.float().mean() - expected) < 0.03 for mask in kept.values())
    assert FusionTask(network(), 3, StageOptions(), Clips({"a": 2, "b": 3}), seed=0)._present(4, {}) is None
    with pytest.raises(ValueError, match=r"stream_dropout is 1\.0, expected 0 or a probability below 1"):
        StageOptions(stream_dropout=1.0)


def test_stream_dropout_keeps_a_stream_that_the_sample_has():
    task = FusionTask(network(), 3, StageOptions(stream_dropout=0.9), Clips({"a": 2, "b": 3}), seed=0)
    lengths = {"b": torch.tensor([0, 5] * 200)}  # every second sample lacks b
    kept = task._present(400, lengths)
    assert kept is not None
    assert not kept["b"][::2].any()
    assert kept["a"][::2].all()
    assert (kept["a"] | kept["b"]).all()
    assert kept["b"][1::2].float().mean() == pytest.approx(0.5, abs=0.1)


def test_a_sample_without_a_stream_has_no_loss_of_that_stream():
    task = FusionTask(network().eval(), 3, StageOptions(), Clips({"a": 2, "b": 3}), seed=0)
    batch = collate(samples())
    present = {"a": torch.tensor([True, False] * 4), "b": torch.ones(8, dtype=torch.bool)}
    outputs, _ = task._outputs(batch, batch["inputs"], present)
    own = task._own_losses(outputs, batch["label"])
    expected = nn.functional.cross_entropy(outputs["a"][::2], batch["label"][::2])
    torch.testing.assert_close(own["a"], expected)
    outputs, _ = task._outputs(batch, batch["inputs"], {"a": torch.zeros(8, dtype=torch.bool)})
    nobody = task._own_losses(outputs, batch["label"])
    assert nobody["a"].isfinite()


def test_a_head_with_a_loss_of_its_own_is_trained_by_it():
    networks = {"a": CNN1d(2, 3, widths=(4, 8)), "b": CNN1d(3, 3, widths=(4, 8))}
    net = fuse(networks, head="multiplicative").eval()
    task = FusionTask(net, 3, StageOptions(per_stream_loss=0.0), Clips({"a": 2, "b": 3}), seed=0)
    batch = collate(samples())
    outputs, scores = task._outputs(batch, batch["inputs"])
    expected = -scores[torch.arange(8), batch["label"]].mean()
    torch.testing.assert_close(task._total_loss(outputs, scores, batch["label"]), expected)
