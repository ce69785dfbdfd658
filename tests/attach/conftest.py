"""Shape checks off where torch traces: they refuse symbolic sizes and break graphs."""

import jaxtyping
import pytest


@pytest.fixture
def no_shape_checks():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
