"""What the fusion methods of a network attend to in one forward pass, for `net(batch, return_attention=True)`."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

Attention = dict[str, dict[str, Tensor]]
"""Fusion point -> stream -> attention of its blocks, (batch, segments, blocks, block_channels) for `MSAF`."""


class AttentionRecorder:
    """Calls fusion methods in place of the fusion layers, and keeps the attention that they return.

    Attributes:
        attention: by the name of the fusion point, in the order of the points.
    """

    def __init__(self) -> None:
        self.attention: Attention = {}

    def fuse(
        self,
        point: str,
        fusion: nn.Module,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None,
        present: Mapping[str, Tensor] | None,
    ) -> Any:
        """What the method returns for the streams of a point.

        Raises:
            ValueError: the method has no attention to return.
        """
        if "return_attention" not in inspect.signature(fusion.forward).parameters:
            raise ValueError(
                f"{type(fusion).__name__} has no attention to return, expected a method whose "
                "forward takes return_attention, such as MSAF; leave return_attention out."
            )
        fused, attention = fusion(features, masks, present, return_attention=True)
        key = point if point not in self.attention else f"{point} ({len(self.attention)})"
        self.attention[key] = attention
        return fused
