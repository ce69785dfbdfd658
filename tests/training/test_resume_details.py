"""Stages that are interrupted, averaged or spread over two processes give the weights that they must."""

import copy
import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DistributedSampler

from msafusion import FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.preprocessing import Clips
from msafusion.samples import DataSource, Splits, collate
from msafusion.training import recipe
from msafusion.training.options import run_train, train_parser
from msafusion.training.stage import Place, run_stage
from msafusion.training.stage_options import StageOptions

CHANNELS = {"a": 2, "b": 3}
SEED = 5


class Interrupting(Sequence):
    """Samples of which reading one is a Ctrl-C: the third after an epoch of the stage has been saved."""

    def __init__(self, samples, saved):
        self.samples, self.saved, self.left = samples, saved, 2
        self.groups = {sample["group"] for sample in samples}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        if self.saved.exists():
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return self.samples[index]


@pytest.fixture
def _ctrl_c():
    """Lightning ignores further interrupts after the first; give them back."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def samples(start, num):
    generator = torch.Generator().manual_seed(start)
    return [
        {
            "id": str(number),
            "streams": {name: torch.randn(c, 12, generator=generator) + number % 3 for name, c in CHANNELS.items()},
            "label": number % 3,
            "group": str(number),
        }
        for number in range(start, start + num)
    ]


def splits(train=None):
    parts = train or samples(0, 16), samples(100, 7), samples(200, 3)
    return Splits(*parts, classes=["x", "y", "z"], channels=CHANNELS, preprocessing=Clips(CHANNELS))


def place(folder, resume=False, **trainer):
    options = {"accelerator": "cpu", "devices": 1, **trainer}
    return Place(folder, options, 0, SEED, resume, Console(file=io.StringIO()))


def with_chance():
    """A network with batch norm and dropout, in its networks and in its fusion."""
    torch.manual_seed(1)
    networks = {name: CNN1d(c, 3, widths=(4, 8), dropout=0.5) for name, c in CHANNELS.items()}
    point = FusionPoint({"a": "stage2", "b": "stage2"}, block_channels=4, block_dropout=0.3)
    return fuse(networks, point, head="mean", example={n: torch.zeros(2, c, 12) for n, c in CHANNELS.items()})


class Plain(nn.Sequential):
    """Nothing that depends on the other samples of a batch, nor on chance."""

    def __init__(self, channels):
        super().__init__(nn.Conv1d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3))


def plain():
    torch.manual_seed(1)
    networks = {name: Plain(c) for name, c in CHANNELS.items()}
    point = FusionPoint({"a": "1", "b": "1"}, block_channels=4, reduction=2, norm="layer")
    return fuse(networks, point, head="mean", example={n: torch.zeros(2, c, 12) for n, c in CHANNELS.items()})


def checkpoint(folder, which):
    return torch.load(folder / "checkpoints" / "stage" / f"{which}.ckpt", weights_only=True)


def assert_same(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


class Interrupted(DataSource):
    """The training samples of another data set, interrupted in the second epoch of the fused stage."""

    def __init__(self, source, folder):
        self.source, self.folder = source, folder

    def splits(self):
        whole = self.source.splits()
        train = Interrupting(whole.train, self.folder / "checkpoints" / "fused" / "last.ckpt")
        return Splits(train, whole.valid, whole.test, whole.classes, whole.channels, whole.preprocessing)


@pytest.mark.slow
@pytest.mark.usefixtures("_ctrl_c")
def test_mosei_interrupted_in_its_second_fused_epoch_and_resumed_ends_as_if_nothing_had_happened(tmp_path):
    import prepared  # on pytest's path only; this file is a script, too

    prepared.write_mosei(tmp_path / "mosei")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = Path(__file__).parents[2] / "configs" / "mosei.yaml"
    given = ["--config", config, "--data.root", tmp_path / "mosei", "--out", whole, "--trainer.accelerator", "cpu"]
    short = ["--alone.epochs", 1, "--fused.epochs", 3, "--fused.batch_size", 4]
    run_train(list(map(str, [*given, *short])))

    text = (whole / "config.yaml").read_text()
    parser = train_parser()
    saved = parser.parse_args(["--config", str(whole / "config.yaml")])
    made = parser.instantiate(saved)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(
            Interrupted(made.data, cut),
            made.network,
            made.alone,
            made.fused,
            folder=cut,
            config=text,
            trainer=saved.trainer.as_dict(),
            start=made.start,
            seed=made.seed,
        )
    assert torch.load(cut / "checkpoints" / "fused" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not (cut / "model").exists()

    run_train(["--out", str(cut), "--resume"])
    for part in ("model", "alone/visual", "alone/audio", "alone/text"):
        assert_same(*(load_file(run / part / "model.safetensors") for run in (whole, cut)))
    assert (whole / "metrics.json").read_text() == (cut / "metrics.json").read_text()


STAGES = {
    "separate": StageOptions(epochs=3, batch_size=4, losses="separate"),
    "separate, decayed": StageOptions(
        epochs=3, batch_size=4, losses="separate", optimizer="adam", schedule="constant", decay_after=[2]
    ),
    "averaged": StageOptions(epochs=3, batch_size=4, ema=0.9),
    "separate, averaged": StageOptions(epochs=3, batch_size=4, losses="separate", ema=0.9),
}


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("options", STAGES.values(), ids=STAGES)
def test_a_stage_interrupted_in_its_second_epoch_and_resumed_ends_as_if_nothing_had_happened(options, tmp_path):
    net, net_whole = with_chance(), with_chance()
    figures = run_stage("stage", net_whole, splits(), options, place(tmp_path / "whole"))

    cut = tmp_path / "cut"
    broken_off = splits(Interrupting(samples(0, 16), cut / "checkpoints" / "stage" / "last.ckpt"))
    with pytest.raises(KeyboardInterrupt):
        run_stage("stage", with_chance(), broken_off, options, place(cut))
    assert checkpoint(cut, "last")["epoch"] == 0
    assert run_stage("stage", net, splits(), options, place(cut, resume=True)) == figures

    assert_same(net_whole.state_dict(), net.state_dict())
    one, other = checkpoint(tmp_path / "whole", "last"), checkpoint(cut, "last")
    assert one["global_step"] == other["global_step"]
    for key in ("state_dict", "current_model_state"):
        assert (key in one) == (key in other)
        assert_same(one.get(key, {}), other.get(key, {}))
    logs = [(run / "logs" / "stage" / "metrics.csv").read_text() for run in (tmp_path / "whole", cut)]
    assert logs[0] == logs[1]


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
    figures = run_stage("stage", net, splits(), options, place(tmp_path))
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
    figures = run_stage("stage", net, splits(), options, place(tmp_path))
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
    figures = run_stage("stage", net, splits(), options, place(tmp_path, val_check_interval=3))
    last = checkpoint(tmp_path, "last")
    assert last["global_step"] == 2 * 8
    assert_same(net.state_dict(), {name.removeprefix("network."): v for name, v in last["state_dict"].items()})
    valid = collate(splits().valid)
    with torch.no_grad():
        kept = float(nn.functional.cross_entropy(net.eval()(valid["inputs"]), valid["label"]))
    assert figures == {"epoch": 1, "loss": pytest.approx(kept, rel=1e-4)}


@pytest.mark.parametrize(
    ("trainer", "named"), [({"precision": "bf16-true"}, "bf16-true"), ({"devices": 5}, "3 samples for 5 devices")]
)
def test_what_cannot_train_is_refused_before_the_first_step(tmp_path, trainer, named):
    few = Splits(samples(0, 16), samples(100, 3), samples(200, 3), list("xyz"), CHANNELS, Clips(CHANNELS))
    with pytest.raises(ValueError, match=named):
        run_stage("stage", plain(), few, StageOptions(epochs=1), place(tmp_path, **trainer))


def train_unevenly(folder):
    """Seven validation samples for two processes: four and three."""
    options = StageOptions(epochs=1, batch_size=2, monitor="loss", keep="last", per_stream_loss=0.0)
    run_stage("stage", plain(), splits(), options, place(folder, devices=2, strategy="ddp"))


TWO = StageOptions(
    epochs=2, batch_size=2, losses="separate", optimizer="adam", schedule="constant", weight_decay=1e-2, monitor="loss"
)


def train_in_two_processes(folder):
    """What this file does as a script, once in each process that Lightning starts."""
    run_stage("stage", plain(), splits(), TWO, place(folder, devices=2, strategy="ddp", precision="64-true"))


def in_two_processes(what, folder):
    """Run a function of this file in the processes that Lightning starts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, __file__, what, folder],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        told = process.communicate(timeout=90)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, told


@pytest.mark.slow
def test_the_validation_loss_of_two_processes_counts_every_sample_once(tmp_path):
    in_two_processes("train_unevenly", tmp_path)
    net, valid = plain(), collate(splits().valid)
    state = checkpoint(tmp_path, "last")["state_dict"]
    net.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    with torch.no_grad():
        loss = float(nn.functional.cross_entropy(net.eval()(valid["inputs"]), valid["label"]))
    with (tmp_path / "logs" / "stage" / "metrics.csv").open() as file:
        assert [float(row["valid/loss"]) for row in csv.DictReader(file)] == [pytest.approx(loss, rel=1e-5)]


@pytest.mark.slow
def test_separate_losses_in_two_processes_give_the_weights_of_one_with_the_doubled_batch(tmp_path):
    one = copy.copy(TWO)
    one.batch_size = 2 * TWO.batch_size
    run_stage("stage", plain(), splits(), one, place(tmp_path / "one", precision="64-true"))

    in_two_processes("train_in_two_processes", tmp_path / "two")
    expected, got = (checkpoint(tmp_path / run, "last") for run in ("one", "two"))
    assert got["global_step"] == expected["global_step"] == 2 * 2 * 4
    assert got["state_dict"]["network.networks.a.0.weight"].dtype == torch.float64
    torch.testing.assert_close(got["state_dict"], expected["state_dict"], rtol=1e-9, atol=1e-9)


if __name__ == "__main__":
    {"train_unevenly": train_unevenly, "train_in_two_processes": train_in_two_processes}[sys.argv[1]](Path(sys.argv[2]))
