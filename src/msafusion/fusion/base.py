"""What fusion methods share: the base of those that make a prediction, and streams with what is missing set to zero."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msafusion.fusion.pooling import position_mean
from msafusion.streams import Features, check_channels, check_count, check_features

Prediction = Float[Tensor, "batch *outputs"]
SMALL = 1e-6
"""Added under roots, whose slope is infinite at zero; rounding of a Fourier transform is well below it."""


class Head(nn.Module):
    """Base of the methods that make one prediction of several streams: made by `Method(channels, num_outputs)`.

    As a head of `fuse()` it gets what the networks give, or what the layers named by `head_at` give, averaged over
    positions. Other modules as heads are called with {network: output} only.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction; None where a method gives what it gets.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import Head
        >>> class Maximum(Head):
        ...     takes_predictions = True
        ...     def forward(self, features, masks=None, present=None):
        ...         return torch.stack(list(features.values())).amax(dim=0)
        >>> head = Maximum({"video": 2, "audio": 2})
        >>> head({"video": torch.tensor([[1.0, 4.0]]), "audio": torch.tensor([[3.0, 2.0]])})
        tensor([[3., 4.]])
    """

    takes_predictions: ClassVar[bool] = False
    """Whether it makes one prediction of the networks' own, rather than of features."""

    def __init__(self, channels: Mapping[str, int], num_outputs: int | None = None) -> None:
        super().__init__()
        if channels:  # methods without parameters need none
            check_channels(channels)
        if num_outputs is not None:
            check_count("num_outputs", num_outputs)
        self.channels, self.num_outputs = dict(channels), num_outputs

    def predict_dataset(self, name: str) -> int:
        """The number of outputs, which method `name` needs.

        Raises:
            ValueError: there is none.
        """
        if self.num_outputs is None:
            raise ValueError(
                f'head="{name}" got no num_outputs, expected the number of outputs; pass num_outputs=... .'
            )
        return self.num_outputs


class LateFusion(Head):
    """Base of the methods that make one prediction of the networks' own."""

    takes_predictions = True

    def check_classes(self, features: Mapping[str, Tensor], name: str) -> Tensor:
        """The first stream's logits; `name` is the method's, for messages.

        Raises:
            ValueError: there are fewer than two classes.
        """
        first = next(iter(features.values()))
        if first.dim() < 2 or first.shape[1] < 2:
            raise ValueError(
                f"the {name} head got logits of shape {tuple(first.shape)}, expected (batch, classes) with two classes "
                'at least; give a binary network two outputs, or use head="sum".'
            )
        return first


def real_parts(
    features: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> Features:
    """The streams with zeros at padded steps and in the samples that lack them."""
    result: Features = dict(features)
    for name, mask in (masks or {}).items():
        shape = mask.shape[0], 1, mask.shape[1], *[1] * (result[name].dim() - 3)
        result[name] = result[name].masked_fill(~mask.reshape(shape), 0)
    for name, here in (present or {}).items():
        if name in result:
            result[name] = result[name].masked_fill(~here.reshape(-1, *[1] * (result[name].dim() - 1)), 0)
    return result


def stream_means(
    real: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
) -> dict[str, Float[Tensor, "batch _channels"]]:
    """Mean of each stream over its real positions, in float32 or better.

    Args:
        real: as of `real_parts`.
        masks: stream name -> bool (batch, time).
    """
    means = {name: position_mean(feature) for name, feature in real.items()}
    for name, mask in (masks or {}).items():
        counts = mask.sum(dim=1, keepdim=True).clamp(min=1)
        means[name] = means[name] * (mask.shape[1] / counts)
    return means


def vectors(
    features: Mapping[str, Tensor],
    channels: Mapping[str, int],
    masks: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Float[Tensor, "batch _channels"]], dict[str, Tensor]]:
    """Every declared stream as a vector, and which samples have it.

    Args:
        features: stream name -> (batch, channels, *positions), averaged over real positions; streams may be absent.
        channels: the declared ones.
        masks: stream name -> bool (batch, time).
        present: stream name -> bool (batch,).

    Returns:
        All declared streams, in their order, zero where missing; for those that some sample may lack bool (batch,).

    Raises:
        ValueError: see `check_features`.
    """
    batch = check_features(features, channels, masks, present)
    means = stream_means(real_parts(features, masks, present), masks)
    some = next(iter(means.values()))
    result = {name: means[name] if name in means else some.new_zeros(batch, channels[name]) for name in channels}
    here = {name: mask for name, mask in (present or {}).items() if name in features}
    for name in channels:
        if name not in features:
            here[name] = torch.zeros(batch, dtype=torch.bool, device=some.device)
    return result, here


def power_normalised(pooled: Float[Tensor, "batch *chunks size"]) -> Float[Tensor, "batch *chunks size"]:
    """Signed square root, then the last axis at Euclidean length 1; zero stays zero, with finite gradients."""
    exact = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
    root = exact * torch.rsqrt(exact.abs() + SMALL)
    return (root * torch.rsqrt(root.square().sum(dim=-1, keepdim=True) + SMALL)).to(pooled.dtype)
