"""Stages that are interrupted and resumed give the weights that they must."""

import signal
from collections.abc import Sequence
from pathlib import Path

import prepared
import pytest
import torch
from safetensors.torch import load_file
from small_stages import assert_same, checkpoint, run_context, samples, splits, with_chance

from msafusion.commands.recipe_options import train_parser
from msafusion.commands.train import run_train
from msafusion.data.datasets import Dataset
from msafusion.data.samples import Splits
from msafusion.training import recipe
from msafusion.training.stage import run_stage
from msafusion.training.stage_options import StageOptions


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


class Interrupted(Dataset):
    """The training samples of another data set, interrupted in the second epoch of the fused stage."""

    def __init__(self, source, folder):
        self.source, self.folder = source, folder

    def splits(self):
        whole = self.source.splits()
        train = Interrupting(whole.train, self.folder / "checkpoints" / "multimodal" / "last.ckpt")
        return Splits(train, whole.valid, whole.test, whole.classes, whole.channels, whole.preprocessing)


@pytest.mark.slow
@pytest.mark.usefixtures("_ctrl_c")
def test_mosei_interrupted_in_its_second_fused_epoch_and_resumed_ends_as_if_nothing_had_happened(tmp_path):
    prepared.write_mosei(tmp_path / "mosei")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = Path(__file__).parents[2] / "configs" / "mosei.yaml"
    given = ["--config", config, "--data.root", tmp_path / "mosei", "--out", whole, "--trainer.accelerator", "cpu"]
    short = ["--unimodal.epochs", 1, "--multimodal.epochs", 3, "--multimodal.batch_size", 4]
    run_train(list(map(str, [*given, *short])))

    text = (whole / "config.yaml").read_text()
    parser = train_parser()
    saved = parser.parse_args(["--config", str(whole / "config.yaml")])
    made = parser.instantiate(saved)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(
            Interrupted(made.data, cut),
            made.network,
            made.unimodal,
            made.multimodal,
            folder=cut,
            config=text,
            trainer=saved.trainer.as_dict(),
            init=made.init,
            seed=made.seed,
        )
    assert torch.load(cut / "checkpoints" / "multimodal" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not (cut / "model").exists()

    run_train(["--out", str(cut), "--resume"])
    for part in ("model", "unimodal/visual", "unimodal/audio", "unimodal/text"):
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


@pytest.mark.usefixtures("_ctrl_c", "without_shape_checks")  # many calls
@pytest.mark.parametrize("options", STAGES.values(), ids=STAGES)
def test_a_stage_interrupted_in_its_second_epoch_and_resumed_ends_as_if_nothing_had_happened(options, tmp_path):
    net, net_whole = with_chance(), with_chance()
    figures = run_stage("stage", net_whole, splits(), options, run_context(tmp_path / "whole"))

    cut = tmp_path / "cut"
    broken_off = splits(Interrupting(samples(0, 16), cut / "checkpoints" / "stage" / "last.ckpt"))
    with pytest.raises(KeyboardInterrupt):
        run_stage("stage", with_chance(), broken_off, options, run_context(cut))
    assert checkpoint(cut, "last")["epoch"] == 0
    assert run_stage("stage", net, splits(), options, run_context(cut, resume=True)) == figures

    assert_same(net_whole.state_dict(), net.state_dict())
    one, other = checkpoint(tmp_path / "whole", "last"), checkpoint(cut, "last")
    assert one["global_step"] == other["global_step"]
    for key in ("state_dict", "current_model_state"):
        assert (key in one) == (key in other)
        assert_same(one.get(key, {}), other.get(key, {}))
    logs = [(run / "logs" / "stage" / "metrics.csv").read_text() for run in (tmp_path / "whole", cut)]
    assert logs[0] == logs[1]
