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


def train_one_rank(rank, folder):
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(50)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", MINUTE, rank=rank, world_size=2)
    try:
        results, mine = {}, slice(3 * rank, 3 * rank + 3)
        for name, absent in ABSENT.items():
            net = DistributedDataParallel(network())
            net(rows(batch(), mine), present=rows(absent, mine)).square().mean().backward()
            results[name] = gradients(net.module)
        torch.save(results, f"{folder}/{rank}.part")
        os.rename(f"{folder}/{rank}.part", f"{folder}/{rank}.pt")
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory):
    """Per rank the gradients of every case; the processes take long to start, so that they do all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    results = [folder / f"{rank}.pt" for rank in range(2)]
    ranks = torch.multiprocessing.spawn(train_one_rank, args=(str(folder),), nprocs=2, join=False)
    deadline = time.monotonic() + 60
    while not ranks.join(timeout=0.2) and not all(map(Path.exists, results)) and time.monotonic() < deadline:
        pass
    for process in ranks.processes:  # gloo now and then does not come back from leaving, after all is done
        process.join(5)
        process.kill()
    return [torch.load(result) for result in results]


@pytest.mark.parametrize("absent", ABSENT)
def test_two_processes_give_the_gradients_of_one(absent, of_ranks):
    net = network()
    net(batch(), present=ABSENT[absent]).square().mean().backward()
    expected = gradients(net)
    for got in (result[absent] for result in of_ranks):
        assert got.keys() == expected.keys()
        for name, grad in got.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)
