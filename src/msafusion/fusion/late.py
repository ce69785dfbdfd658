"""Late fusion: the outputs of several networks added, averaged or multiplied, without parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor

from msafusion.fusion.base import LateFusion, Prediction
from msafusion.streams import check_someone


class Sum(LateFusion):
    """Sum of the outputs of the networks present (of logits: late fusion; arXiv 2012.07175, sec. 4.1).

    Examples:
        >>> import torch
        >>> from msafusion.fusion import Sum
        >>> head = Sum({"video": 2, "audio": 2})
        >>> head({"video": torch.tensor([[1.0, 4.0]]), "audio": torch.tensor([[3.0, 2.0]])})
        tensor([[4., 6.]])
    """

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Sum of the streams, (batch, *outputs) each; rows of samples that lack one must be zero.

        Raises:
            ValueError: a sample has none of them.
        """
        check_someone(features, masks, present)
        return torch.stack(list(features.values())).sum(dim=0)


class Mean(LateFusion):
    """Mean of the outputs of the networks present (arXiv 2012.07175, sec. 4.3).

    Examples:
        >>> import torch
        >>> from msafusion.fusion import Mean
        >>> head = Mean({"video": 2, "audio": 2})
        >>> head({"video": torch.tensor([[1.0, 4.0]]), "audio": torch.tensor([[3.0, 2.0]])})
        tensor([[2., 3.]])
    """

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Mean of the streams, (batch, *outputs) each; rows of samples that lack one must be zero.

        Raises:
            ValueError: a sample has none of them.
        """
        check_someone(features, masks, present)
        total = torch.stack(list(features.values())).sum(dim=0)
        if not present:
            return total / len(features)
        first = next(iter(features.values()))
        count = sum(
            (present[name].to(first.dtype) if name in present else first.new_ones(first.shape[0])) for name in features
        )
        assert isinstance(count, Tensor)
        return total / count.clamp(min=1).reshape(-1, *[1] * (total.dim() - 1))


class Product(LateFusion):
    """Product of the class probabilities of the networks present, renormalised (Kittler et al. 1998, eq. 7).

    With the classes' prior taken as uniform. It gives its logarithm.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import Product
        >>> head = Product({"video": 2, "audio": 2})
        >>> logits = {"video": torch.tensor([[1.0, 4.0]]), "audio": torch.tensor([[3.0, 2.0]])}
        >>> head(logits).argmax(dim=1)
        tensor([1])
    """

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Log-probabilities of the product of the streams, logits (batch, classes) each.

        Raises:
            ValueError: fewer than two classes; a sample has none of the streams.
        """
        check_someone(features, masks, present)
        self.check_classes(features, "product")
        logs = []
        for name, logits in features.items():
            log = torch.log_softmax(logits, dim=1)
            here = (present or {}).get(name)
            logs.append(log if here is None else log.masked_fill(~here.reshape(-1, *[1] * (log.dim() - 1)), 0))
        return torch.log_softmax(torch.stack(logs).sum(dim=0), dim=1)
