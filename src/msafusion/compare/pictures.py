"""The comparison in pictures: every seed, quality against cost, what disturbances take. Figures without pyplot."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.compare.formats import NONE, quantity
from msafusion.compare.report import Result, best_first, group_conditions, metric_display

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS, FRONT = {"fusion": "#1f6fb4", "single": "#c25e12", "simple": "#6a7f10"}, "#2b2f33"
"""Of fusion methods, of single streams, of simple models; of means."""
_COSTS = {"train_seconds": ("training time (s)", quantity), "flops": ("FLOPs of one forward pass", quantity)}
"""Cost -> label of its axis, how its ticks are written."""
_DIRECTIONS = tuple((math.cos(turn), math.sin(turn)) for turn in np.deg2rad([0, 180, 45, 135, -45, -135, 90, -90]))


def accuracy_picture(result: Result) -> "Figure":
    """One line per method, the best on top: one dot per seed, the mean and its 95 % interval; colours show the kind."""
    from matplotlib.figure import Figure

    title, factor, _ = metric_display(result["metric"])
    table = result["table"]
    figure = Figure(figsize=(9.0, 1.2 + 0.32 * len(table)), layout="constrained")
    axes = figure.subplots()
    ends: list[float] = []
    for place, entry in enumerate(table):
        colour = COLOURS[entry["kind"]]
        rows = [row for row in result["rows"] if row["fusion"] == entry["fusion"]]
        values = [row["metrics"].get(result["metric"]) for row in rows]
        dots = [value * factor for value in values if value is not None and math.isfinite(value)]
        ends += dots
        axes.scatter(dots, [place] * len(dots), s=22, color=colour, alpha=0.5, linewidths=0, zorder=2, gid="seeds")
        if entry["mean"] is None:
            continue
        if entry["low"] is not None:
            low, high = entry["low"] * factor, entry["high"] * factor
            axes.plot([low, high], [place, place], color=FRONT, linewidth=1.4, zorder=3, gid="interval")
        axes.plot(entry["mean"] * factor, place, marker="|", markersize=13, markeredgewidth=2, color=FRONT, zorder=4)
    if ends:  # two seeds may have an interval that would push all dots together: it leaves the picture
        span = max(ends) - min(ends) or abs(ends[0]) or 1.0
        lows = [entry["low"] * factor for entry in table if entry["low"] is not None]
        highs = [entry["high"] * factor for entry in table if entry["high"] is not None]
        left = max(min([*ends, *lows]), min(ends) - 0.3 * span)
        right = min(max([*ends, *highs]), max(ends) + 0.3 * span)
        axes.set_xlim(left - 0.03 * span, right + 0.03 * span)
    axes.set_ylim(len(table) - 0.4, -0.6)
    _ticks(axes, "y", [entry["fusion"] for entry in table])
    _soften(axes, "x")
    axes.set_xlabel(
        f"{result.get('on', 'test')} {title}: dots are seeds, bars the mean and its 95 % interval", parse_math=False
    )
    axes.set_title(_title(result), fontsize=11, parse_math=False)
    return figure


def cost_picture(result: Result) -> "Figure":
    """The metric against training time and against FLOPs, both on logarithmic axes, one labelled point per method.

    Methods far worse than most would press the others together: they are named at the foot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    title, factor, decimals = metric_display(result["metric"])
    shown, far = _without_far([entry for entry in result["table"] if entry["mean"] is not None])
    known = {cost: [entry for entry in shown if (entry.get(cost) or 0) > 0] for cost in _COSTS}
    known = {cost: entries for cost, entries in known.items() if entries}
    figure = Figure(figsize=(9.0, 5.2 * max(1, len(known))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(result), fontsize=11, parse_math=False)
    axes_of_costs = figure.subplots(max(1, len(known)), 1, squeeze=False)[:, 0]
    if not known:
        return _nothing(figure, axes_of_costs[0], "no costs were measured")
    for axes, (cost, entries) in zip(axes_of_costs, known.items(), strict=True):
        across, up = [entry[cost] for entry in entries], [entry["mean"] * factor for entry in entries]
        colours = [COLOURS[entry["kind"]] for entry in entries]
        axes.scatter(across, up, s=30, color=colours, zorder=3, gid="methods")
        axes.margins(y=0.12)
        _log_axis(axes, across, *_COSTS[cost])
        axes.set_ylabel(f"{result.get('on', 'test')} {title}", parse_math=False)
        _soften(axes, "both")
    if far:
        worse = ", ".join(f"{entry['fusion']} {entry['mean'] * factor:.{decimals}f}" for entry in far)
        figure.supxlabel(f"Not drawn, far worse: {worse}", fontsize=8, parse_math=False)
    figure.draw_without_rendering()  # labels are placed in pixels, which the layout decides
    figure.set_layout_engine("none")
    for axes, (cost, entries) in zip(axes_of_costs, known.items(), strict=True):
        points = [(entry[cost], entry["mean"] * factor) for entry in entries]
        _label(axes, points, [entry["fusion"] for entry in entries])
    return figure


def robustness_picture(result: Result) -> "Figure":
    """A heat map of what each disturbance (columns) takes from each method (rows, the best on top)."""
    from matplotlib.figure import Figure

    title, factor, decimals = metric_display(result["metric"])
    groups = group_conditions(result)
    conditions, names = [condition for group in groups.values() for condition in group], best_first(result)
    figure = Figure(figsize=(3.2 + 0.6 * len(conditions), 2.4 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots()
    if not names:
        return _nothing(figure, axes, "no disturbances were tried")
    losses = np.full((len(names), len(conditions)), np.nan)
    for entry in result["robustness"]:
        if entry["loss"] is not None:
            losses[names.index(entry["fusion"]), conditions.index(entry["condition"])] = entry["loss"] * factor
    finite = losses[np.isfinite(losses)]
    most = max(float(finite.max()), 1e-9) if finite.size else 1.0
    axes.set_facecolor("#d9d9d9")  # seen where a method was not tried
    image = axes.imshow(np.ma.masked_invalid(losses), cmap="OrRd", vmin=0, vmax=most, aspect="auto")
    for (row, column), loss in np.ndenumerate(losses):
        text = f"{loss:.{decimals}f}" if np.isfinite(loss) else NONE
        colour = "white" if loss > 0.6 * most else FRONT
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    edge = -0.5
    for group in list(groups.values())[:-1]:
        edge += len(group)
        axes.axvline(edge, color="white", linewidth=3)
    _ticks(axes, "y", names)
    _ticks(axes, "x", conditions)
    for label in axes.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=8)
    unit = "points" if factor == 100 else title
    axes.set_title(f"{result['data']['name']}: loss by disturbance ({unit})", fontsize=11, parse_math=False)
    return figure


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()


def draw(result: Result) -> dict[str, bytes]:
    """Every picture that this result has, as PNG: accuracy, cost and, where disturbances were tried, robustness."""
    figures = {"accuracy": accuracy_picture(result), "cost": cost_picture(result)}
    if result["robustness"]:
        figures["robustness"] = robustness_picture(result)
    return {name: png(figure) for name, figure in figures.items()}


def _title(result: Mapping[str, Any]) -> str:
    number = len(result["seeds"])
    return f"{result['data']['name']}, {number} seed{'' if number == 1 else 's'} a method"


def _nothing(figure: "Figure", axes: "Axes", why: str) -> "Figure":
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
    return figure


def _ticks(axes: "Axes", which: str, names: Sequence[str]) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_ticks(range(len(names)), list(names), fontsize=8.5)
    for label in axis.get_ticklabels():
        label.set_parse_math(False)  # a name may hold dollar signs
    axis.set_tick_params(length=0)


def _soften(axes: "Axes", grid: Any) -> None:
    axes.grid(axis=grid, color="#e3e6e9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _without_far(entries: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The best three quarters with what is at most their span worse, and the others; entries are sorted."""
    if not entries:
        return [], []
    best, most = entries[0]["mean"], entries[(3 * len(entries) - 1) // 4]["mean"]
    span = 2.5 * abs(most - best) or abs(best) or 1.0
    shown = [entry for entry in entries if abs(entry["mean"] - best) <= span]
    return shown, [entry for entry in entries if entry not in shown]


def _log_axis(axes: "Axes", values: Sequence[float], label: str, written: Callable[[float], str]) -> None:
    """Logarithmic, with ticks at 1, 2 and 5 times the powers of ten."""
    low, high = min(values), max(values)
    widen = max(1.25, 1.8 / math.sqrt(high / low))  # at least one tick, and room for the names
    low, high = low / widen, high * widen
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [written(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(label)


def _label(axes: "Axes", points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Put each name where it covers neither a point nor a name, as near as that goes, tied by a thin line."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    pixel = figure.dpi / 72
    places = axes.transData.transform(points)
    taken = [Bbox.from_bounds(x - 4 * pixel, y - 4 * pixel, 8 * pixel, 8 * pixel) for x, y in places]
    inside = axes.get_window_extent()
    for name, (x, y), point in zip(names, places, points, strict=True):
        text = axes.annotate(name, point, (0, 0), textcoords="offset points", fontsize=7.5, va="center")
        text.set_parse_math(False)
        size = text.get_window_extent()
        best: tuple[float, tuple[float, float], Bbox] | None = None
        for reach in (7, 13, 20, 28, 38, 50, 64):
            for right, above in _DIRECTIONS:
                middle_x = x + right * (reach * pixel + size.width / 2)
                middle_y = y + above * (reach * pixel + size.height / 2)
                box = Bbox.from_bounds(middle_x - size.width / 2, middle_y - size.height / 2, size.width, size.height)
                crossed = sum(box.overlaps(other) for other in taken)
                outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 <= inside.y1)
                price = 100 * crossed + 50 * outside + reach
                if best is None or price < best[0]:
                    best = price, ((middle_x - x) / pixel, (middle_y - y) / pixel), box
        assert best is not None
        price, offset, box = best
        text.set(position=offset, ha="center")
        taken.append(box.padded(2 * pixel))
        nearest = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
        if math.dist(nearest, (x, y)) > 9 * pixel:
            ends = axes.transData.inverted().transform([(x, y), nearest])
            axes.plot(*ends.T, color="#b9c0c6", linewidth=0.6, zorder=1, scalex=False, scaley=False)
