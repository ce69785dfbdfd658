"""Pictures of one sample, one row per stream: what a network gets to see, to be checked before training.

Figures are made without pyplot, hence without a display and without global state.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.data.preprocessing import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_sample", "save_figure"]

FORMATS = (".png", ".pdf", ".svg")
WIDTH = 11.0
"""Of a figure (inches)."""
MAX_FRAMES, MAX_LINES = 8, 8
"""Frames in a strip; channels that are drawn as lines, more become a heat map."""
_KINECT_20 = "0-1 1-2 2-3 1-4 4-5 5-6 6-7 1-8 8-9 9-10 10-11 3-12 12-13 13-14 14-15 3-16 16-17 17-18 18-19"
_KINECT_25 = (
    "0-1 1-20 20-2 2-3 20-4 4-5 5-6 6-7 7-22 22-21 20-8 8-9 9-10 10-11 11-24 24-23 "
    "0-12 12-13 13-14 14-15 0-16 16-17 17-18 18-19"
)
BONES = {
    joints: [tuple(map(int, bone.split("-"))) for bone in bones.split()]
    for joints, bones in ((20, _KINECT_20), (25, _KINECT_25))
}
"""Number of joints -> pairs that are connected: Kinect 1 as UTD-MHAD orders it, Kinect 2 as NTU RGB+D does."""


def plot_sample(
    streams: Mapping[str, Any],
    *,
    layouts: Mapping[str, Layout] | None = None,
    title: str = "",
    rates: Mapping[str, float] | None = None,
) -> "Figure":
    """A figure with one row per stream.

    Video becomes a strip of frames, a skeleton a strip of its front views, a few channels over time become lines, more
    a heat map, a vector bars. A map (channels, ...) with more than one further axis is drawn flattened.

    Args:
        streams: name -> array or tensor, as stored: video (channels, time, height, width), sequence (time, channels),
            map (channels, ...).
        layouts: name -> layout; for streams not named, uint8 with four axes is video and all else a map.
        title: above all rows.
        rates: name -> time steps per second; the time axis is then in seconds.

    Raises:
        ValueError: no streams, or an empty array.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.plots import plot_sample
        >>> streams = {"video": np.zeros((3, 8, 32, 32), np.uint8), "motion": np.random.randn(100, 3)}
        >>> figure = plot_sample(streams, layouts={"motion": "sequence"}, rates={"motion": 50}, title="wave")
        >>> type(figure).__name__
        'Figure'
    """
    from matplotlib.figure import Figure

    if not streams:
        raise ValueError("got no stream to plot, expected at least one; give {name: array}.")
    arrays = {name: np.asarray(values) for name, values in streams.items()}
    if empty := [name for name, values in arrays.items() if not values.size]:
        raise ValueError(f"stream '{empty[0]}' has shape {arrays[empty[0]].shape}, expected values; prepare it again.")
    given = layouts or {}
    kinds: dict[str, Layout] = {name: given.get(name) or _guessed(values) for name, values in arrays.items()}
    heights = [_height(values, kinds[name]) for name, values in arrays.items()]
    figure = Figure(figsize=(WIDTH, 0.4 + sum(heights)), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)  # ids hold dollar signs
    rows = figure.subfigures(len(arrays), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row, (name, values) in zip(rows, arrays.items(), strict=True):
        shape = " x ".join(map(str, values.shape))
        row.suptitle(f"{name}: {kinds[name]}, {values.dtype} {shape}", fontsize=9, x=0.01, ha="left", parse_math=False)
        _draw(row, name, values, kinds[name], (rates or {}).get(name))
    return figure


def save_figure(figure: "Figure", file: Path) -> None:
    """Write a figure to a .png, .pdf or .svg atomically, so that an incomplete file is never left behind.

    Raises:
        ValueError: the file is of another kind.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.plots import plot_sample, save_figure
        >>> with TemporaryDirectory() as folder:
        ...     save_figure(plot_sample({"map": np.ones((3, 8))}), Path(folder, "a.png"))
        ...     Path(folder, "a.png").exists()
        True
    """
    if file.suffix.lower() not in FORMATS:
        raise ValueError(
            f"'{file}' is not a file name of a picture, expected one that ends in {', '.join(FORMATS)}; choose another."
        )
    scratch = file.with_name(f".{file.name}")
    figure.savefig(scratch, format=file.suffix[1:].lower(), dpi=110)
    scratch.replace(file)


def _height(values: np.ndarray, layout: Layout) -> float:
    """Of a row (inches)."""
    if layout != "video":
        return 2.1
    height, width = values.shape[-2:]
    return min(0.6 + WIDTH / MAX_FRAMES * height / width, 3.0)


def _guessed(values: np.ndarray) -> Layout:
    return "video" if values.ndim == 4 and values.dtype == np.uint8 and len(values) in (1, 3) else "map"


def _draw(row: "SubFigure", name: str, values: np.ndarray, layout: Layout, rate: float | None) -> None:
    if layout == "video":
        _draw_frames(row, values, rate)
    elif (bodies := _bodies(name, values, layout)) is not None:
        _draw_bodies(row, bodies, rate)
    elif layout == "map" and values.ndim == 1:
        axes = row.subplots()
        axes.bar(np.arange(len(values)), values, width=1.0)
        axes.set(xlabel="channel", ylabel="value")
    else:
        _draw_channels(row, values.T if layout == "sequence" else values.reshape(len(values), -1), rate, values.ndim)


def _draw_channels(row: "SubFigure", values: np.ndarray, rate: float | None, axes_in_all: int) -> None:
    """(channels, time): lines or a heat map."""
    axes = row.subplots()
    step = 1 / rate if rate else 1.0
    if len(values) <= MAX_LINES:
        for number, channel in enumerate(values):
            axes.plot(np.arange(len(channel)) * step, channel, linewidth=0.9, label=str(number))
        axes.legend(title="channel", fontsize=6, title_fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_ylabel("value")
        axes.margins(x=0)
    else:
        extent = (-0.5 * step, (values.shape[1] - 0.5) * step, len(values) - 0.5, -0.5)
        image = axes.imshow(values, aspect="auto", interpolation="nearest", extent=extent)
        row.colorbar(image, ax=axes, label="value")
        axes.set_ylabel("channel")
    axes.set_xlabel("time (s)" if rate else "time step" if axes_in_all == 2 else "position (flattened)")


def _draw_frames(row: "SubFigure", video: np.ndarray, rate: float | None) -> None:
    """(channels, time, height, width), evenly spaced frames."""
    for axes, step in _strip(row, video.shape[1], rate):
        frame = np.moveaxis(video[:, step], 0, -1)
        axes.imshow(frame if frame.shape[-1] == 3 else frame[..., 0], cmap="gray", vmin=0, vmax=255)


def _bodies(name: str, values: np.ndarray, layout: Layout) -> np.ndarray | None:
    """(3, time, joints, bodies) of a skeleton, of which x and y are drawn; None where the stream is none."""
    if layout == "map" and values.ndim == 4 and len(values) == 3 and values.shape[2] in BONES:
        return values
    if layout == "sequence" and "skeleton" in name.lower() and values.shape[1] in [3 * joints for joints in BONES]:
        return values.reshape(len(values), -1, 3).transpose(2, 0, 1)[..., None]
    return None


def _draw_bodies(row: "SubFigure", bodies: np.ndarray, rate: float | None) -> None:
    present = np.any(bodies != 0, axis=(0, 2))  # (time, bodies); an absent one is zero throughout
    shown = bodies[:2].transpose(1, 3, 0, 2)  # (time, bodies, 2, joints)
    corners = shown[present] if present.any() else shown.reshape(-1, *shown.shape[2:])
    low, high = corners.min(axis=(0, 2)), corners.max(axis=(0, 2))
    margin = 0.05 * (high - low).max() + 1e-6
    for axes, step in _strip(row, bodies.shape[1], rate):
        for body in np.flatnonzero(present[step]):
            x, y = shown[step, body]
            for first, second in BONES[len(x)]:
                axes.plot(x[[first, second]], y[[first, second]], color=f"C{body}", linewidth=1)
            axes.scatter(x, y, s=4, color=f"C{body}")
        axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal")


def _strip(row: "SubFigure", steps: int, rate: float | None) -> "list[tuple[Axes, int]]":
    """Axes side by side, and the time step of each."""
    chosen = np.unique(np.linspace(0, steps - 1, MAX_FRAMES).round().astype(int))
    strip = row.subplots(1, MAX_FRAMES, squeeze=False)[0]
    for axes in strip:
        axes.set(xticks=[], yticks=[])
    for axes in strip[len(chosen) :]:
        axes.set_visible(False)
    for axes, step in zip(strip, chosen, strict=False):
        axes.set_xlabel(f"{step / rate:.2f} s" if rate else f"step {step}", fontsize=7)
    return list(zip(strip, map(int, chosen), strict=False))
