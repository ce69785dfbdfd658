"""Random search: what every method may change, drawn alike for all."""

import random
from typing import Any

from msafusion.compare.config import Method

STAGE: dict[str, tuple[Any, ...]] = {
    "learning_rate": (1e-4, 3e-4, 1e-3),
    "fusion_learning_rate": (3e-4, 1e-3, 3e-3, 1e-2),
    "per_stream_loss": (0.3, 1.0, 3.0),
    "stream_dropout": (0.0, 0.2),
}
"""Options of the second stage, for every method."""
OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "msaf": {"lowest_attention": (0.0, 0.5), "block_dropout": (0.0, 0.1, 0.2), "block_channels": (8, 16, 32)},
    "msaf_paper": {"lowest_attention": (0.0, 0.5), "block_dropout": (0.0, 0.1, 0.2), "block_channels": (8, 16, 32)},
    "mmtm": {"reduction": (2, 4, 8)},
    "se": {"reduction": (4, 8, 16)},
    "cross_attention": {"width": (32, 64, 128), "dropout": (0.0, 0.1)},
    "bottleneck": {"num_tokens": (2, 4, 8), "width": (32, 64)},
    "multiplicative": {"beta": (0.3, 0.5, 1.0)},
    "gmu": {"hidden": (32, 64, 128)},
    "tfn": {"hidden": (16, 32), "post_hidden": (32, 64, 128)},
    "lmf": {"rank": (2, 4, 8)},
    "mcb": {"sketch": (512, 1024, 2048)},
    "mfb": {"factor": (2, 4, 8), "hidden": (64, 128)},
    "block": {"chunks": (4, 8, 16), "rank": (2, 4, 8)},
    "centralnet": {"hidden": (64, 128, 256)},
}
"""Method -> its own options, and the values to choose among; methods that are not named have none."""


def drawn(method: Method, trial: int) -> dict[str, Any]:
    """The options of a trial: of the stage by its number alone, the method's own by method and number.

    What a variant fixes stays.
    """
    options: dict[str, Any] = {}
    for space, seed in ((STAGE, f"stage {trial}"), (OWN.get(method.fusion, {}), f"{method.fusion} {trial}")):
        choice = random.Random(seed)
        options |= {name: choice.choice(values) for name, values in space.items()}
    return {**options, **method.options}
