"""What a model says about one recording."""

from dataclasses import asdict, dataclass, field
from typing import Any

from msafusion.failures import Failure


@dataclass(frozen=True)
class StreamPart:
    """One stream's part in a prediction.

    Attributes:
        present: the recording has it.
        contribution: what the label's probability (or the value) loses when the stream is left out, the mean over the
            windows that have it beside others; None: no window has.

    Examples:
        >>> from msafusion.predict import StreamPart
        >>> streams = {"audio": StreamPart(present=True, contribution=0.25), "video": StreamPart(present=False)}
        >>> {name: part.contribution for name, part in streams.items() if part.present}
        {'audio': 0.25}
    """

    present: bool
    contribution: float | None = None


@dataclass(frozen=True)
class WindowPrediction:
    """A part of a recording: from `start` to `end` seconds (None: it has no time), with its prediction.

    Examples:
        >>> from msafusion.predict import WindowPrediction
        >>> window = WindowPrediction(0.0, 4.0, "calm", None, {"calm": 0.75, "angry": 0.25})
        >>> f"{window.start} to {window.end} s: {window.label}"
        '0.0 to 4.0 s: calm'
    """

    start: float | None
    end: float | None
    label: str | None
    value: float | None
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """What a model says about one recording.

    Attributes:
        file: the recording's name.
        label: the likeliest class; None: the model predicts a value.
        value: the value predicted; None: the model predicts a class.
        probabilities: class -> mean probability over the windows, adding up to 1.
        streams: stream -> its part.
        warnings: what was missing or odd.
        timeline: each window by itself.

    Examples:
        >>> from msafusion.predict import Prediction, StreamPart
        >>> streams = {"audio": StreamPart(present=True), "video": StreamPart(present=False)}
        >>> chances = {"calm": 0.75, "angry": 0.25}
        >>> prediction = Prediction("clip.wav", "calm", None, chances, streams, warnings=["no video"])
        >>> prediction.label, prediction.probabilities[prediction.label]
        ('calm', 0.75)
        >>> prediction.as_dict()["warnings"]
        ['no video']
    """

    file: str
    label: str | None
    value: float | None
    probabilities: dict[str, float]
    streams: dict[str, StreamPart]
    warnings: list[str] = field(default_factory=list)
    timeline: list[WindowPrediction] = field(default_factory=list)

    def as_dict(self, timeline: bool = False) -> dict[str, Any]:
        """For JSON; `value` only where there is one, the timeline only if asked for."""
        line = asdict(self)
        windows = line.pop("timeline")
        if self.value is None:
            for part in (line, *windows):
                del part["value"]
        return {**line, "timeline": windows} if timeline else line


@dataclass(frozen=True)
class Failed:
    """A recording that cannot be predicted, and why.

    Attributes:
        file: the recording's name.
        error: one line.
        trace: the traceback, where the error is of a kind that nobody foresaw; it is left out of the JSON.

    Examples:
        >>> from msafusion.predict import Failed
        >>> Failed("clip.mp4", "no file 'clip.mp4'; check the path.").as_dict()
        {'file': 'clip.mp4', 'error': "no file 'clip.mp4'; check the path."}
    """

    file: str
    error: str
    trace: str = field(default="", repr=False)

    @classmethod
    def of(cls, name: str, failure: Failure) -> "Failed":
        """The failure of work on a recording."""
        return cls(name, failure.line, failure.trace)

    @property
    def failure(self) -> Failure:
        """Without the name."""
        return Failure(self.error, self.trace)

    def as_dict(self, timeline: bool = False) -> dict[str, Any]:
        """For JSON."""
        return {"file": self.file, "error": self.error}
