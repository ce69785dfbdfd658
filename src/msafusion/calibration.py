"""Calibration: one temperature for the logits of a trained network, so that its probabilities mean what they say."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

SPREAD = 0.7
"""Standard deviation of the logarithm of the temperature that is expected before seeing any sample."""
LIMITS = (0.05, 20.0)
"""Of temperatures."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T for which softmax(logits / T) is most likely (Guo et al. 2017, arXiv 1706.04599).

    The logarithm of T has a normal prior around 0, so that few validation samples, or samples that are all right, do
    not lead to extreme probabilities: it counts as much as a few samples do.

    Args:
        logits: (samples, classes), of samples that were not trained on.
        labels: (samples,) classes.

    Returns:
        1.0 where a logit is not finite or there are no samples.

    Examples:
        >>> import torch
        >>> from msafusion.calibration import fit_temperature
        >>> logits = torch.tensor([[8.0, 0.0], [8.0, 0.0], [0.0, 8.0], [0.0, 8.0]])
        >>> fit_temperature(logits, torch.tensor([0, 1, 1, 0])) > 2  # half of them are wrong
        True
    """
    from scipy.optimize import minimize_scalar

    if not len(logits) or not logits.isfinite().all():
        return 1.0
    exact = logits.double()

    def loss(log: float) -> float:
        likelihood = functional.cross_entropy(exact / math.exp(log), labels, reduction="sum")
        return float(likelihood) + 0.5 * (log / SPREAD) ** 2

    low, high = (math.log(limit) for limit in LIMITS)
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)


def read_temperature(config: Mapping[str, Any]) -> float:
    """That of a saved model's configuration.

    Raises:
        ValueError: it is not a positive number.
    """
    value = config.get("temperature", 1.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not LIMITS[0] <= value <= LIMITS[1]:
        raise ValueError(f"its temperature is {str(value)[:60]}, expected a number from {LIMITS[0]} to {LIMITS[1]}")
    return float(value)
