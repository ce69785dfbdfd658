"""Random search: what every method may change, drawn in the same way for all."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from msafusion.compare.config import Method
from msafusion.fusion import FUSIONS, HEADS

STAGE: dict[str, tuple[Any, ...]] = {
    "learning_rate": (1e-4, 3e-4, 1e-3),
    "fusion_learning_rate": (3e-4, 1e-3, 3e-3, 1e-2),
    "per_stream_loss": (0.3, 1.0, 3.0),
    "stream_dropout": (0.0, 0.2),
}
"""Options of the second stage, for every method."""


def search_space(method: str) -> Mapping[str, Sequence[Any]]:
    """Options of a fusion method, and the values to choose among: the `search_space` of its class, or none."""
    made_by = {**FUSIONS, **HEADS}[method]
    cls = getattr(made_by, "__self__", made_by)  # `MSAF.paper` is a method of its class
    return getattr(cls, "search_space", {})


def draw_options(method: Method, trial: int) -> dict[str, Any]:
    """The options of a trial: of the stage by its number alone, the method's own by method and number.

    What a variant fixes stays.
    """
    options: dict[str, Any] = {}
    for space, seed in ((STAGE, f"stage {trial}"), (search_space(method.fusion), f"{method.fusion} {trial}")):
        choice = random.Random(seed)
        options |= {name: choice.choice(values) for name, values in space.items()}
    return {**options, **method.options}
