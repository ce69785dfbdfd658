"""What a preprocessing is, and how arrays of a stream are laid out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from torch import Tensor

Layout = Literal["video", "sequence", "map"]
"""video: uint8 (channels, time, height, width); sequence: (time, channels), of any length; map: (channels, ...)."""


class Preprocessing(ABC):
    """Saved with a model, so that it sees at inference what it saw in training. Add a dataclass and a line to KINDS.

    Examples:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from msafusion.data.preprocessing import Preprocessing
        >>> @dataclass(frozen=True)
        ... class Centred(Preprocessing):
        ...     channels: dict[str, int]
        ...     def num_channels(self):
        ...         return self.channels
        ...     def __call__(self, recording):
        ...         signals = {name: torch.as_tensor(values).T for name, values in recording.items()}
        ...         return {name: (signal - signal.mean(dim=1, keepdim=True))[None] for name, signal in signals.items()}
        >>> Centred({"motion": 3})({"motion": torch.randn(100, 3)})["motion"].shape
        torch.Size([1, 3, 100])
    """

    @abstractmethod
    def num_channels(self) -> dict[str, int]:
        """Stream name -> channels."""

    @abstractmethod
    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """One raw recording to a batch for the network.

        Raises:
            DataError: the recording does not fit.
        """

    def inputs(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of stored streams to the network's inputs; runs on the batch's device."""
        return dict(stored)

    def augmented(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same with random changes, drawn for each sample: what training sees."""
        return self.inputs(stored)

    def as_dict(self) -> dict[str, Any]:
        """Kind and plain numbers, for a saved model's configuration; see `preprocessing_from`."""
        return {"kind": type(self).__name__, **asdict(self)}  # pyright: ignore[reportArgumentType]


def layout_problem(values: np.ndarray, channels: int, kind: Layout) -> str:
    """The layout that an array of a stream of whole clips should have but does not; empty if it does.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.preprocessing import layout_problem
        >>> layout_problem(np.zeros((100, 3)), 3, "sequence")
        ''
        >>> layout_problem(np.zeros((3, 100)), 3, "sequence")
        '(time, 3)'
    """
    if kind == "video":
        fits = values.ndim == 4 and len(values) == channels and values.dtype == np.uint8
        return "" if fits else f"uint8 ({channels}, time, height, width)"
    if kind == "sequence":
        fits = values.ndim == 2 and len(values) > 0 and values.shape[1] == channels
        return "" if fits else f"(time, {channels})"
    return "" if values.ndim and len(values) == channels else f"({channels}, ...)"
