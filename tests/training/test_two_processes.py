"""Stages in two processes give what one does. Lightning starts the second by running this file as a script again."""

import copy
import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_stages import checkpoint, plain, run_context, splits
from torch import nn

from msafusion.data.samples import collate
from msafusion.training.stage import run_stage
from msafusion.training.stage_options import StageOptions


def train_unevenly(folder):
    """Seven validation samples for two processes: four and three."""
    options = StageOptions(epochs=1, batch_size=2, monitor="loss", keep="last", per_stream_loss=0.0)
    run_stage("stage", plain(), splits(), options, run_context(folder, devices=2, strategy="ddp"))


TWO = StageOptions(
    epochs=2, batch_size=2, losses="separate", optimizer="adam", schedule="constant", weight_decay=1e-2, monitor="loss"
)


def train_in_two_processes(folder):
    """What this file does as a script, once in each process that Lightning starts."""
    run_stage("stage", plain(), splits(), TWO, run_context(folder, devices=2, strategy="ddp", precision="64-true"))


def in_two_processes(what, folder):
    """Run a function of this file in the processes that Lightning starts."""
    # said, as Python leaves a script's own folder out where PYTHONSAFEPATH is set
    here = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": here}
    process = subprocess.Popen(
        [sys.executable, __file__, what, folder],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        told = process.communicate(timeout=300)[0]
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
    run_stage("stage", plain(), splits(), one, run_context(tmp_path / "one", precision="64-true"))

    in_two_processes("train_in_two_processes", tmp_path / "two")
    expected, got = (checkpoint(tmp_path / run, "last") for run in ("one", "two"))
    assert got["global_step"] == expected["global_step"] == 2 * 2 * 4
    assert got["state_dict"]["network.networks.a.0.weight"].dtype == torch.float64
    torch.testing.assert_close(got["state_dict"], expected["state_dict"], rtol=1e-9, atol=1e-9)


if __name__ == "__main__":
    {"train_unevenly": train_unevenly, "train_in_two_processes": train_in_two_processes}[sys.argv[1]](Path(sys.argv[2]))
