"""Multiplicative combination: networks that are sure of a class mute the others' votes on it."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from msafusion.fusion.base import LateFusion, Prediction
from msafusion.streams import check_option, check_someone


class Multiplicative(LateFusion):
    """Log-probabilities of all networks, each weighted by how unsure the others are of the class, added.

    The score of class y is z_y = sum_i q_i^y log p_i^y with q_i^y = prod_{j != i} (1 - p_j^y)^(beta / (M - 1)), over
    the M networks present; a single one has q = 1. The class predicted is that of the highest score (Liu, Li, Xu,
    Natarajan: "Learn to combine modalities in multimodal deep learning", 2018, arXiv 1805.11730). Scores are
    at most 0 and no logits: train with `loss`, not with cross-entropy. Without parameters.

    Args:
        channels: network name -> number of classes.
        num_outputs: not needed, it gives what it gets.
        beta: how much the others count, at least 0; at 0 it is the product of probabilities, not renormalised.

    Raises:
        ValueError: beta below 0.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import Multiplicative
        >>> head = Multiplicative({"video": 7, "audio": 7})
        >>> logits = {"video": torch.randn(8, 7), "audio": torch.randn(8, 7)}
        >>> scores = head(logits)
        >>> scores.shape, head.loss(scores, torch.randint(7, (8,))).shape
        (torch.Size([8, 7]), torch.Size([]))
    """

    search_space: ClassVar = {"beta": (0.3, 0.5, 1.0)}

    def __init__(self, channels: Mapping[str, int], num_outputs: int | None = None, *, beta: float = 0.5) -> None:
        super().__init__(channels, num_outputs)
        check_option("beta", beta, 0.0, math.inf, open_above=True)
        self.beta = beta

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Scores of the classes; logits (batch, classes) of each network, whose rows may be anything where missing.

        Raises:
            ValueError: fewer than two classes; a sample has none of the networks.
        """
        check_someone(features, masks, present)
        first = self.check_classes(features, "multiplicative")
        logs, rests = [], []
        count = first.new_zeros(first.shape[0], dtype=torch.float32)  # len() would fix the batch of an export
        for name, logits in features.items():
            log = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=1)
            rest = log_of_the_rest(log)
            here = (present or {}).get(name)
            if here is not None:
                missing = ~here.reshape(-1, *[1] * (log.dim() - 1))
                log, rest = log.masked_fill(missing, 0), rest.masked_fill(missing, 0)
            count = count + (1.0 if here is None else here.to(count.dtype))
            logs.append(log)
            rests.append(rest)
        exponent = (self.beta / (count - 1).clamp(min=1)).reshape(-1, *[1] * (first.dim() - 1))
        log, rest = torch.stack(logs), torch.stack(rests)
        others = rest.sum(dim=0) - rest
        return (torch.exp(exponent.to(log.dtype) * others) * log).sum(dim=0).to(first.dtype)

    def loss(self, scores: Tensor, label: Tensor) -> Tensor:
        """The paper's loss: minus the score of the right class, mean over the batch.

        Args:
            scores: (batch, classes), as this module gives them.
            label: the right classes, int64 (batch,).
        """
        return functional.nll_loss(scores, label)


def log_of_the_rest(log: Float[Tensor, "batch classes *steps"]) -> Float[Tensor, "batch classes *steps"]:
    """log(1 - p) of log-probabilities, exact and with finite gradients also where p rounds to 1.

    Only the likeliest class can be near 1, and its 1 - p is the sum of all other classes.
    """
    likeliest = torch.zeros_like(log, dtype=torch.bool).scatter(1, log.argmax(dim=1, keepdim=True), True)
    others = log.masked_fill(likeliest, -math.inf)
    return torch.where(likeliest, torch.logsumexp(others, dim=1, keepdim=True), torch.log1p(-torch.exp(others)))
