"""Shared settings: two threads, dynamo reset between tests, few and repeatable hypothesis examples."""

import os

import pytest
import torch
from hypothesis import settings

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # before the package: in jaxtyping's import hook all libraries are compiled anew
    import lightning  # noqa: F401
    import torchmetrics  # noqa: F401

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


def pytest_collection_modifyitems(items):
    """The longest files first, so that two workers end at about the same time."""
    long = ("test_train", "compile", "published_networks", "recipes", "resume")
    items.sort(key=lambda item: not any(name in item.nodeid for name in long))
