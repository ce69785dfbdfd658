"""Heads: how the outputs of several networks become one prediction.

A head is called as `head(outputs, present)` with {network: (batch, num_outputs)} for the networks that ran and
{network: bool (batch,)} for those that some samples lack, whose rows are already zero. Add a class and a line to HEADS.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

Prediction = Float[Tensor, "batch *outputs"]


class Head(nn.Module):
    """Base of the heads that know of missing networks; other modules are called with the outputs only."""

    def __init__(self, num_features: Mapping[str, int], num_outputs: int | None = None) -> None:
        super().__init__()


class SumHead(Head):
    """Sum of the outputs (of logits: late fusion; arXiv 2012.07175, sec. 4.1)."""

    def forward(self, outputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Prediction:
        """Sum over the networks that ran."""
        return torch.stack(list(outputs.values())).sum(dim=0)


class MeanHead(Head):
    """Mean of the outputs of the networks present (arXiv 2012.07175, sec. 4.3)."""

    def forward(self, outputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Prediction:
        """Mean over the networks that each sample has."""
        total = torch.stack(list(outputs.values())).sum(dim=0)
        if not present:
            return total / len(outputs)
        first = next(iter(outputs.values()))
        count = sum(
            (present[name].to(first.dtype) if name in present else first.new_ones(len(first))) for name in outputs
        )
        assert isinstance(count, Tensor)
        return total / count.clamp(min=1).reshape(-1, *[1] * (total.dim() - 1))


class ProductHead(Head):
    """Product of the class probabilities of the networks present, renormalised: its logarithm (batch, classes)."""

    def forward(self, outputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Prediction:
        """Log-probabilities of the product."""
        some = next(iter(outputs.values()))
        if some.dim() < 2 or some.shape[1] < 2:
            raise ValueError(
                f"the product head got logits of shape {tuple(some.shape)}, expected (batch, classes) with two classes "
                'at least; give a binary network two outputs, or use head="sum".'
            )
        logs = []
        for name, logits in outputs.items():
            log = torch.log_softmax(logits, dim=1)
            here = present.get(name)
            logs.append(log if here is None else log.masked_fill(~here.reshape(-1, *[1] * (log.dim() - 1)), 0))
        return torch.log_softmax(torch.stack(logs).sum(dim=0), dim=1)


class ConcatHead(Head):
    """Outputs side by side, then a linear map to `num_outputs` (arXiv 2012.07175, sec. 4.2); a missing one is zero."""

    def __init__(self, num_features: Mapping[str, int], num_outputs: int | None = None) -> None:
        super().__init__(num_features)
        if num_outputs is None:
            raise ValueError('head="concat" got no num_outputs, expected the number of outputs; pass num_outputs=... .')
        self.num_features = dict(num_features)
        self.linear = nn.Linear(sum(self.num_features.values()), num_outputs)

    def forward(self, outputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Prediction:
        """Linear map of all outputs side by side."""
        some = next(iter(outputs.values()))
        parts = [
            outputs[n] if n in outputs else some.new_zeros(*some.shape[:-1], c) for n, c in self.num_features.items()
        ]
        return self.linear(torch.cat(parts, dim=-1))


HEADS: dict[str, Callable[..., Head]] = {
    "sum": SumHead,
    "mean": MeanHead,
    "product": ProductHead,
    "concat": ConcatHead,
}
"""Name -> head, as `fuse(..., head=name)` takes it."""
