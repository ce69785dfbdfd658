"""A process of a run on several devices that ends is one line in the others."""

import os
import signal
import subprocess
import sys

import pytest

RUN = """
import os, signal, sys
import torch
from torch import distributed
from msafusion.failures import attempt

rank = int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
distributed.all_reduce(torch.ones(1))
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
print(attempt(lambda: distributed.all_reduce(torch.ones(1))).line)
"""


@pytest.mark.slow
def test_a_lost_process_is_one_line(tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path / "meeting")]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([*command, rank], stdout=subprocess.PIPE, text=True, env=environment) for rank in ("0", "1")
    ]
    said, _ = ranks[0].communicate(timeout=120)
    ranks[1].communicate(timeout=120)
    assert ranks[1].returncode == -signal.SIGKILL
    assert said.startswith("another process of this run ended or cannot be reached")
    assert "--resume" in said
    assert said.count("\n") == 1
