"""The weights that a stage leaves: averaged, of its best epoch, or its last."""

import copy
import csv

import pytest
import torch
from small_stages import CHANNELS, SEED, assert_same, checkpoint, plain, run_context, samples, splits
from torch import nn
from torch.utils.data import DistributedSampler

from msafusion import fuse
from msafusion.data.preprocessing import Clips
from msafusion.data.samples import Splits, collate
from msafusion.training.stage import run_stage
from msafusion.training.stage_options import StageOptions


def averages(options):
    """The averaged network at the end of every epoch, written out: a step of Adam, then of the average."""
    net, train = plain().train(), samples(0, 16)
    adam = torch.optim.Adam(net.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    order = DistributedSampler(train, num_replicas=1, rank=0, seed=SEED)
    average, ends = None, []
    for epoch in range(options.epochs):
        order.set_epoch(epoch)
        indices = list(order)
        for start in range(0, 16, 4):
            batch = collate([train[index] for index in indices[start : start + 4]])
            adam.zero_grad()
            nn.functional.cross_entropy(net(batch["inputs"]), batch["label"]).backward()
            adam.step()
            weights = net.state_dict()
            if average is None:
                average = copy.deepcopy(weights)
            average = {name: options.ema * average[name] + (1 - options.ema) * weights[name] for name in weights}
        ends.append(plain())
        ends[-1].load_state_dict(average)
    return ends, net


@pytest.mark.parametrize("rate", [1e-2, 0.3])
def test_the_average_of_the_weights_is_what_is_validated_and_kept(rate, tmp_path):
    options = StageOptions(
        epochs=3, batch_size=4, learning_rate=rate, fusion_learning_rate=rate, weight_decay=0.0, optimizer="adam",
        schedule="constant", per_stream_loss=0.0, ema=0.9, monitor="loss",
    )  # fmt: skip
    expected, moved = averages(options)
    valid = collate(splits().valid)
    with torch.no_grad():
        losses = [float(nn.functional.cross_entropy(e.eval()(valid["inputs"]), valid["label"])) for e in expected]

    net = plain()
    figures = run_stage("stage", net, splits(), options, run_context(tmp_path))
    with (tmp_path / "logs" / "stage" / "metrics.csv").open() as file:
        assert [float(row["valid/loss"]) for row in csv.DictReader(file)] == pytest.approx(losses, rel=1e-4)
    assert figures == {"epoch": losses.index(min(losses)), "loss": pytest.approx(min(losses), rel=1e-4)}
    torch.testing.assert_close(net.state_dict(), expected[int(figures["epoch"])].state_dict(), rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(net.parameters(), moved.parameters(), strict=True))


def test_the_last_epoch_is_kept_on_request_even_where_another_was_better(tmp_path):
    """At this rate the loss on the validation samples rises."""
    options = StageOptions(
        epochs=4, batch_size=4, learning_rate=1.0, schedule="constant", monitor="loss", keep="last", per_stream_loss=0.0
    )
    net = plain()
    figures = run_stage("stage", net, splits(), options, run_context(tmp_path))
    with (tmp_path / "logs" / "stage" / "metrics.csv").open() as file:
        losses = [float(row["valid/loss"]) for row in csv.DictReader(file)]
    assert min(losses) < losses[-1]
    assert figures == {"epoch": 3, "loss": pytest.approx(losses[-1], rel=1e-4)}
    valid = collate(splits().valid)
    with torch.no_grad():
        kept = float(nn.functional.cross_entropy(net.eval()(valid["inputs"]), valid["label"]))
    assert kept == pytest.approx(losses[-1], rel=1e-3)


def test_the_last_step_is_kept_on_request_whatever_the_validations(tmp_path):
    """Two validations in an epoch of three and a bit of them; the figure is of the weights that are kept."""
    options = StageOptions(epochs=2, batch_size=2, learning_rate=0.1, monitor="loss", keep="last", per_stream_loss=0.0)
    net = plain()
    figures = run_stage("stage", net, splits(), options, run_context(tmp_path, val_check_interval=3))
    last = checkpoint(tmp_path, "last")
    assert last["global_step"] == 2 * 8
    assert_same(net.state_dict(), {name.removeprefix("network."): v for name, v in last["state_dict"].items()})
    valid = collate(splits().valid)
    with torch.no_grad():
        kept = float(nn.functional.cross_entropy(net.eval()(valid["inputs"]), valid["label"]))
    assert figures == {"epoch": 1, "loss": pytest.approx(kept, rel=1e-4)}


def test_what_cannot_train_is_refused_before_the_first_step(tmp_path):
    few = Splits(samples(0, 16), samples(100, 3), samples(200, 3), list("xyz"), CHANNELS, Clips(CHANNELS))
    video = fuse({name: nn.Conv3d(channels, 3, 1) for name, channels in CHANNELS.items()})
    for net, trainer, named in (
        (plain(), {"precision": "bf16-true"}, "bf16-true"),
        (plain(), {"devices": 5}, "3 samples for 5 devices.*set --trainer.devices to 3 or less"),
        (video, {"precision": "bf16-mixed"}, r"wrong gradients of 3D convolutions.*add --trainer\.precision 32-true"),
    ):
        with pytest.raises(ValueError, match=named):
            run_stage("stage", net, few, StageOptions(epochs=1), run_context(tmp_path, **trainer))
    one = Splits(samples(0, 16), samples(100, 1), samples(200, 3), list("xyz"), CHANNELS, Clips(CHANNELS))
    with pytest.raises(ValueError, match=r"1 sample for 2 devices.*set --trainer\.devices to 1, or give more"):
        run_stage("stage", plain(), one, StageOptions(epochs=1), run_context(tmp_path, devices=2))
