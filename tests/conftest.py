"""Shared settings: two threads, dynamo reset between tests, few and repeatable hypothesis examples."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("msafusion", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("msafusion")


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    yield
    torch._dynamo.reset()
