"""Shape checks off where they stand in the way: dynamo cannot trace them, and they come before our own errors."""

import inspect

import pytest

import msafusion.fusion
from msafusion import streams
from msafusion.fusion import msaf, pooling, segments


@pytest.fixture
def without_shape_checks(monkeypatch):
    """Take jaxtyping's wrappers off (its own switch leaves them in place, and dynamo stops at wrapped constructors)."""
    for module in (streams, msafusion.fusion, msaf, pooling, segments):
        classes = [value for value in vars(module).values() if inspect.isclass(value)]
        for owner in (module, *(one for one in classes if one.__module__ == module.__name__)):
            for name, value in list(vars(owner).items()):
                if inspect.isfunction(value) and "jaxtyping" in value.__code__.co_filename:
                    monkeypatch.setattr(owner, name, value.__wrapped__)
