"""The size of maps from which gradients are written by hand."""

import pytest

from msafusion.fusion import pooling


@pytest.fixture
def large_map(monkeypatch):
    """Set the number of elements from which gradients are written by hand (also the scratch buffer's)."""
    return lambda elements: monkeypatch.setattr(pooling, "LARGE_MAP", elements)
