"""What the network gave for the windows of one recording, until all are there and make its prediction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from msafusion.failures import Failure
from msafusion.predict.prediction import Failed, Prediction, StreamPart, WindowPrediction


@dataclass
class PredictionAccumulator:
    """One recording on its way to a prediction.

    Attributes:
        name: of the recording.
        notes: warning -> starts of the windows that it is about (seconds; None: the whole).
        failure: why it cannot be predicted; None: nothing is known against it.
        complete: all windows have been read.
        windows: start and end (seconds) and streams of each window that goes into the network.
        outputs: number of the window -> (outputs,) with all streams, and {stream: (outputs,) without it}.
    """

    name: str
    notes: dict[str, list[float | None]] = field(default_factory=dict)
    failure: Failure | None = None
    complete: bool = False
    windows: list[tuple[float | None, float | None, frozenset[str]]] = field(default_factory=list)
    outputs: dict[int, tuple[Tensor, Mapping[str, Tensor]]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Nothing is awaited any more."""
        return self.complete and (self.failure is not None or len(self.outputs) == len(self.windows))

    def note(self, warnings: Sequence[str], start: float | None) -> None:
        """Add warnings about a window."""
        for warning in warnings:
            self.notes.setdefault(warning, []).append(start)

    def result(self, classes: Sequence[str], streams: Sequence[str]) -> Prediction | Failed:
        """The mean over the windows.

        Args:
            classes: of the model; none: it predicts a value.
            streams: of the model.
        """
        if self.failure is not None:
            return Failed.of(self.name, self.failure)
        if not self.windows:
            what = f"'{self.name}' holds none of the streams {', '.join(streams)}"
            return Failed(self.name, f"{what}: {'; '.join(self._warnings())}")
        results = [self.outputs[number] for number in range(len(self.windows))]
        mean = torch.stack([full for full, _ in results]).mean(dim=0)
        if not torch.isfinite(mean).all():
            return Failed(self.name, "the network gives NaN or infinity for it; look at its values and at the weights.")
        index = int(mean.argmax()) if classes else 0
        parts = {}
        for stream in streams:
            losses = [float(full[index] - without[stream][index]) for full, without in results if stream in without]
            present = any(stream in here for *_, here in self.windows)
            contribution = sum(losses) / len(losses) if losses else None
            if contribution is not None and not math.isfinite(contribution):  # JSON has no NaN
                contribution = None
                self.note([f"without {stream} the network gives NaN or infinity: {stream}'s part is not known"], None)
            parts[stream] = StreamPart(present, contribution)
        timeline = [
            WindowPrediction(start, end, *_said(full, classes))
            for (start, end, _), (full, _) in zip(self.windows, results, strict=True)
        ]
        return Prediction(self.name, *_said(mean, classes), parts, self._warnings(), timeline)

    def _warnings(self) -> list[str]:
        """Each once; those about some windows say about how many."""
        lines = []
        for warning, starts in self.notes.items():
            times = [start for start in starts if start is not None]
            where = "1 window" if len(times) == 1 else f"{len(times)} windows, the first"
            lines.append(f"{warning} ({where} at {min(times, default=math.nan):.2f} s)" if times else warning)
        return lines


def _said(output: Tensor, classes: Sequence[str]) -> tuple[str | None, float | None, dict[str, float]]:
    """Label, value and probabilities."""
    if not classes:
        return None, float(output[0]), {}
    return classes[int(output.argmax())], None, dict(zip(classes, output.tolist(), strict=True))
