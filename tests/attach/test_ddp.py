"""DistributedDataParallel over two processes gives the gradients of one process."""

import datetime
import faulthandler
import os
import time
from pathlib import Path

import pytest
import torch
from small_networks import AudioCNN, VideoCNN, cnn_example, cnn_points, gradients, stir
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from msafusion import fuse

MINUTE = datetime.timedelta(minutes=1)
ABSENT = {"none": None, "one sample a rank": {"audio": torch.tensor([True, False, True, True, True, False])}}


def network():
    torch.manual_seed(1)
    networks = {
        "video": VideoCNN(norm=lambda channels: nn.GroupNorm(2, channels)),
        "audio": AudioCNN(norm=lambda channels: nn.GroupNorm(2, channels)),
    }
    return stir(fuse(networks, cnn_points(norm="layer"), example=cnn_example())).train()


def batch():
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(given.shape, generator=generator) for name, given in cnn_example(6).items()}


def rows(tensors, part):
    return tensors and {name: tensor[part] for name, tensor in tensors.items()}


def train_one_rank(rank, absent, folder):
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(50)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", MINUTE, rank=rank, world_size=2)
    try:
        net = DistributedDataParallel(network())
        mine = slice(3 * rank, 3 * rank + 3)
        net(rows(batch(), mine), present=rows(ABSENT[absent], mine)).square().mean().backward()
        torch.save(gradients(net.module), f"{folder}/{rank}.part")
        os.rename(f"{folder}/{rank}.part", f"{folder}/{rank}.pt")
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("absent", ABSENT)
def test_two_processes_give_the_gradients_of_one(absent, tmp_path):
    results = [tmp_path / f"{rank}.pt" for rank in range(2)]
    ranks = torch.multiprocessing.spawn(train_one_rank, args=(absent, str(tmp_path)), nprocs=2, join=False)
    deadline = time.monotonic() + 60
    while not ranks.join(timeout=0.2) and not all(map(Path.exists, results)) and time.monotonic() < deadline:
        pass
    for process in ranks.processes:  # gloo now and then does not come back from leaving, after all is done
        process.join(5)
        process.kill()
    net = network()
    net(batch(), present=ABSENT[absent]).square().mean().backward()
    expected = gradients(net)
    for result in results:
        got = torch.load(result)
        assert got.keys() == expected.keys()
        for name, grad in got.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)
