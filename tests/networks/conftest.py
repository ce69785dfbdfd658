"""Networks of real size, built once for a file: trial runs while they are built take seconds."""

import copy

import pytest
import torch


@pytest.fixture(scope="module")
def built():
    """`built(make)` is a copy, in train mode, of the network that `make()` gives from seed 0."""
    networks = {}

    def give(make):
        if make not in networks:
            torch.manual_seed(0)
            networks[make] = make()
        return copy.deepcopy(networks[make])

    return give
