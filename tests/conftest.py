"""Shared settings: one thread, dynamo reset between tests, few and repeatable hypothesis examples."""

import copy
import gc
import inspect
import os
import sys

import jaxtyping
import pytest
import torch
import typechecks  # before the package is imported
from hypothesis import settings

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # before the package: in jaxtyping's import hook all libraries are compiled anew
    import lightning  # noqa: F401
    import torchmetrics  # noqa: F401

settings.register_profile("msafusion", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("msafusion")


WRAPPERS = os.path.join("jaxtyping", "_decorator.py"), typechecks.__file__


def unchecked(value):
    """A function, method or property without jaxtyping's wrapper or ours; anything else as it is."""
    from msafusion._compat import disabled_once_compiling

    if isinstance(value, classmethod | staticmethod):
        return type(value)(unchecked(value.__func__))
    if isinstance(value, property):
        return property(unchecked(value.fget))
    if hasattr(value, "_torchdynamo_orig_callable"):  # `disabled_once_compiling` around the wrapper
        inner = value._torchdynamo_orig_callable
        without = unchecked(inner)
        recursive = value._torchdynamo_disable_recursive
        return value if without is inner else disabled_once_compiling(without, recursive=recursive)
    if inspect.isfunction(value) and value.__code__.co_filename.endswith(WRAPPERS):
        return value.__wrapped__
    return value


@pytest.fixture
def without_shape_checks(monkeypatch):
    """Take jaxtyping's wrappers off: dynamo cannot trace them (its own switch leaves them in place)."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # of functions inside functions
    for module in [module for name, module in sys.modules.items() if name.startswith("msafusion")]:
        classes = [value for value in vars(module).values() if inspect.isclass(value)]
        for owner in (module, *(one for one in classes if one.__module__ == module.__name__)):
            for name, value in list(vars(owner).items()):
                if (without := unchecked(value)) is not value:
                    monkeypatch.setattr(owner, name, without)


@pytest.fixture(scope="module")
def built():
    """`built(make)` is a copy of the network that `make()` gives from seed 0: made once a file, which takes seconds."""
    networks = {}

    def give(make):
        if make not in networks:
            torch.manual_seed(0)
            networks[make] = make()
        return copy.deepcopy(networks[make])

    return give


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_simple_models():
    """Runs fit no simple models beside their networks, which would take most of their time."""
    from msafusion.training import simple_models

    models, simple_models.MODELS = simple_models.MODELS, ()
    yield models
    simple_models.MODELS = models


@pytest.fixture(scope="module")
def with_simple_models(_no_simple_models):
    """Runs of this file fit simple models as users' do."""
    from msafusion.training import simple_models

    simple_models.MODELS = _no_simple_models
    yield
    simple_models.MODELS = ()


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def pytest_collection_finish():
    """What the imports have made stays: it need not be searched for garbage, nor by tests that look for some."""
    gc.collect()
    gc.freeze()


LONGEST = [
    *("precision_export", "msaf_compilation", "test_compare", "test_recipes", "own_data", "msaf_gradients"),
    *("test_train", "published_networks", "reference_networks", "readme", "test_compile", "video_backbones"),
    *("same_samples", "test_preparing", "test_plans", "docstrings", "command_mistakes", "failures", "resume"),
]
"""Parts of the names of the files that take longest."""


def pytest_collection_modifyitems(items):
    """The longest files first, so that two workers end at about the same time."""
    rank = {part: place for place, part in enumerate(LONGEST)}
    items.sort(key=lambda item: min((rank[part] for part in LONGEST if part in item.path.name), default=len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Escape names of files that are not UTF-8 in what a test printed: pytest-xdist cannot send them."""
    report = yield
    report.sections = [(title, said.encode("utf-8", "backslashreplace").decode()) for title, said in report.sections]
    return report
