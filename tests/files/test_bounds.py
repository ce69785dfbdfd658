"""The bound on what a network's options may take."""

import pytest
import torch

from msafusion.files.bounds import NetworkTooLarge, at_most

LARGE = {
    "made": lambda x: torch.zeros(10**6),
    "repeated": lambda x: x.repeat(10**6),
    "repeated beyond all counting": lambda x: x.repeat(2**40, 2**40),
    "interleaved": lambda x: x.repeat_interleave(10**6),
    "joined": lambda x: torch.cat([x.expand(10**5, 4)] * 10),
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_tensors_beyond_the_bound_are_refused_before_they_are_made(make):
    x = torch.ones(4)
    with at_most(10**6, "here"), pytest.raises(NetworkTooLarge, match=r"ask for more than .*choose smaller"):
        make(x)


def test_copies_below_the_bound_may_be_made_again_and_again():
    x = torch.ones(4)
    with at_most(10**5, "here"):
        for _ in range(100):
            assert torch.cat([x, x.repeat(1000)]).shape == (4004,)
        assert x.repeat_interleave(torch.tensor([1, 0, 2, 1])).shape == (4,)
