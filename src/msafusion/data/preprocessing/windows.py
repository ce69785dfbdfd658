"""Windows of signals: what happens to raw recordings of sensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from msafusion.data.checks import check_finite
from msafusion.data.preprocessing.augmentation import SignalAugmentation
from msafusion.data.preprocessing.base import Preprocessing
from msafusion.failures import DataError


@dataclass(frozen=True)
class Windows(SignalAugmentation, Preprocessing):
    """Cuts recordings into windows and standardises their channels: what happens to raw signals before a network.

    Attributes:
        rate: samples per second of the recordings (Hz).
        steps: time steps of a window.
        hop: time steps between the starts of two windows.
        mean, std: per stream and channel, of the training recordings, in the recording's units.
        noise, scale, drop, mix, offset: what changes in training, see `Augmentation`.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.preprocessing import Windows
        >>> recording = {"motion": np.random.randn(500, 3)}  # 10 s at 50 Hz
        >>> windows = Windows.fitted([recording], rate=50, steps=200, hop=100)
        >>> windows(recording)["motion"].shape  # (windows, channels, steps)
        torch.Size([4, 3, 200])
    """

    rate: float
    steps: int
    hop: int
    mean: dict[str, list[float]]
    std: dict[str, list[float]]

    def num_channels(self) -> dict[str, int]:
        """Stream name -> channels."""
        return {name: len(values) for name, values in self.mean.items()}

    @classmethod
    def fitted(
        cls,
        recordings: Sequence[Mapping[str, np.ndarray]],
        rate: float,
        steps: int,
        hop: int,
        augmentation: SignalAugmentation | None = None,
    ) -> "Windows":
        """With the mean and standard deviation of the training recordings, {stream: (time, channels)} each."""
        stacked = {name: np.concatenate([recording[name] for recording in recordings]) for name in recordings[0]}
        mean = {name: values.mean(axis=0).tolist() for name, values in stacked.items()}
        std = {name: np.maximum(values.std(axis=0), 1e-8).tolist() for name, values in stacked.items()}
        changes = {of.name: getattr(augmentation, of.name) for of in fields(SignalAugmentation)} if augmentation else {}
        return cls(rate, steps, hop, mean, std, **changes)

    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """{stream: (time, channels)} of one recording to {stream: float32 (windows, channels, steps)}, standardised.

        Raises: see `cut`.
        """
        return self.inputs(self.cut(recording))

    def inputs(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Windows (batch, channels, steps) in the recordings' units, standardised, as float32."""
        results = {}
        for name, windows in stored.items():
            mean, std = (windows.new_tensor(of[name])[:, None] for of in (self.mean, self.std))
            results[name] = ((windows - mean) / std).float()
        return results

    def augmented(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same with random changes, drawn for each sample."""
        return {name: self.change(windows) for name, windows in self.inputs(stored).items()}

    def cut(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """{stream: (time, channels)} of one recording to {stream: float64 (windows, channels, steps)} in its units.

        Raises:
            DataError: an unknown stream, the wrong number of channels, streams of different lengths, fewer time steps
                than one window, or values that are not finite.
        """
        if not isinstance(recording, Mapping):
            raise DataError(f"the recording is a {type(recording).__name__}, expected {{stream: (time, channels)}}.")
        arrays = {name: np.asarray(values, dtype=np.float64) for name, values in recording.items()}
        lengths = {name: len(values) for name, values in arrays.items()}
        for name, values in arrays.items():
            if name not in self.mean:
                raise DataError(f"unknown stream '{name}', expected {', '.join(self.mean)}; rename or leave it out.")
            if values.ndim != 2 or values.shape[1] != len(self.mean[name]):
                raise DataError(
                    f"stream '{name}' has shape {values.shape}, expected (time, {len(self.mean[name])}); "
                    "give it one column a channel."
                )
            if len(values) < self.steps:
                raise DataError(
                    f"stream '{name}' has {len(values)} time steps, expected at least {self.steps} "
                    f"({self.steps / self.rate:g} s at {self.rate:g} Hz); record longer or resample."
                )
            check_finite(values, f"stream '{name}'", "clean the recording")
        if len(set(lengths.values())) > 1:
            raise DataError(f"the streams have {lengths} time steps, expected equal ones; align them first.")
        return {name: self._cut(values) for name, values in arrays.items()}

    def _cut(self, values: np.ndarray) -> Tensor:
        windows = np.lib.stride_tricks.sliding_window_view(values, self.steps, axis=0)[:: self.hop]
        return torch.from_numpy(np.ascontiguousarray(windows))
