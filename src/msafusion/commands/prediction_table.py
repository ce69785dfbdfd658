"""Predictions as a table on a terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from msafusion.predict import Prediction, StreamPart


class PredictionTable:
    """A row for each recording, and one for each window if wanted; warnings are lines of their own.

    Args:
        classes: of the model; none: it predicts a value.
        streams: of the model.
        timeline: also each window by itself.
    """

    def __init__(self, classes: Sequence[str], streams: Sequence[str], timeline: bool) -> None:
        self.timeline = timeline
        what = "probability" if classes else "value"
        self.table = Table(caption=f"streams: what the {what} loses without each", caption_justify="left")
        self.table.add_column("file", overflow="fold")
        for name in ("from", "to") if timeline else ():
            self.table.add_column(name, justify="right")
        if classes:
            self.table.add_column("label")
        for name in (what, *streams):
            self.table.add_column(name, justify="right")
        self.warnings: list[Text] = []

    def add(self, result: Prediction) -> None:
        """Add a recording."""
        parts = [_part(part) for part in result.streams.values()]
        said = _said(result.label, result.value, result.probabilities)
        times = ["", ""] if self.timeline else []
        self._row(result.file, *times, *said, *parts)
        self.warnings += [_text(f"{result.file}: {warning}") for warning in result.warnings]
        for window in result.timeline if self.timeline else ():
            times = ["" if time is None else f"{time:.2f} s" for time in (window.start, window.end)]
            said = _said(window.label, window.value, window.probabilities)
            self._row("", *times, *said, *[""] * len(parts))

    def _row(self, *cells: str) -> None:
        self.table.add_row(*(_text(cell) for cell in cells))


def _text(cell: str) -> Text:
    # no markup, which a name such as [a].mp4 would be; names that are not UTF-8 show a question mark
    return Text(cell.encode("utf-8", "replace").decode())


def _part(part: StreamPart) -> str:
    return "absent" if not part.present else "" if part.contribution is None else f"{part.contribution:+.3f}"


def _said(label: str | None, value: float | None, probabilities: dict[str, float]) -> list[str]:
    return [f"{value:.3f}"] if label is None else [label, f"{probabilities[label]:.3f}"]
