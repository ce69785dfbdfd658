"""The comparison in words and tables: markdown for docs/, one self-contained HTML page."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from msafusion.compare.formats import NONE, duration, p_value, quantity, size
from msafusion.compare.tables import LEVEL, MIN_RUNS
from msafusion.compare.verdict import sentence, validation_note
from msafusion.training.metrics import METRICS

Result = Mapping[str, Any]
"""The content of results.json."""
BATCH = 16
"""Samples of which latency, FLOPs and memory are measured, where there are so many."""

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --soft: #f4f6f8; --dim: #5c6670; }
@media (prefers-color-scheme: dark) { :root { --line: #3a4149; --soft: #1d2228; --dim: #9aa5b0; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin-bottom: .4rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
p { max-width: 48rem; } .note { color: var(--dim); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; border-bottom-width: 2px; }
th.wrap { white-space: normal; min-width: 4.5rem; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
tbody tr:nth-child(even), tbody tr:nth-child(even) td:first-child { background: var(--soft); }
tr.single { font-style: italic; }
img { display: block; max-width: 100%; margin: 1.2rem 0; background: white; border-radius: 6px; }
"""


@dataclass(frozen=True)
class _Line:
    cells: Sequence[str]
    strong: bool = False
    single: bool = False


@dataclass(frozen=True)
class _Table:
    """A table in plain text; `picture` names the plot below it, the first `marked` cells of a line show its kind."""

    heading: str
    picture: str
    note: str
    columns: Sequence[str]
    lines: Sequence[_Line]
    marked: int = 2


def markdown(result: Result) -> str:
    """How the comparison was made and its tables (GitHub's markdown), with headings of the third level."""
    parts = [_plain(line) for line in _first(result)]
    for table in _tables(result):
        parts += [f"### {table.heading}", _markdown_table(table), _plain(table.note)]
    return "\n\n".join(parts) + "\n"


def html(result: Result, pictures: Mapping[str, bytes]) -> str:
    """One page with the tables and the pictures in it.

    Args:
        result: the content of results.json.
        pictures: name -> PNG; "accuracy", "cost" and "robustness" go below their tables, others to the end.
    """
    title = f"{result['data']['name']}: fusion methods compared"
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in _first(result))]
    left = dict(pictures)
    for table in _tables(result):
        parts += [f"<h2>{escape(table.heading)}</h2>", _html_table(table), f'<p class="note">{escape(table.note)}</p>']
        if table.picture in left:
            parts.append(_html_picture(table.picture, left.pop(table.picture)))
    parts += [_html_picture(name, png) for name, png in left.items()]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n"
        "</body>\n</html>\n"
    )


def _first(result: Result) -> list[str]:
    """What stands above the tables: the answer, how it was found, and what to beware of."""
    lines = [sentence(result), caption(result), validation_note(result), *result["left_out"]]
    return [line for line in lines if line]


def tested_on(result: Result) -> str:
    """The samples, people and seeds behind the metrics."""
    data, folds = result["data"], result.get("folds")
    groups = f" of {data['num_groups']} groups" if data.get("num_groups") else ""
    each = f", each once in {folds} folds" if folds else ""
    return f"{data['num_tested']} {result.get('on', 'test')} samples{groups}{each}, {len(result['seeds'])} seed(s)"


def caption(result: Result) -> str:
    """What was compared and how, in plain text."""
    data, seeds = result["data"], result["seeds"]
    streams = " and ".join(f"{name} ({channels} channels)" for name, channels in data["streams"].items())
    task = "regression" if data["task"] == "regression" else f"classification of {data['classes']} classes"
    samples = ", ".join(f"{count} {split}" for split, count in data["num_samples"].items() if count)
    if folds := result.get("folds"):
        what = f"of the {data['num_groups']} groups" if data.get("num_groups") else "sample"
        samples += f" in the first of {folds} folds, of which each {what} is tested in one"
    if data.get("chosen_on_test"):
        tested = (
            "There are no validation data of their own: epochs and options were chosen on the test data, so that all "
            "figures are too good."
        )
    elif result.get("on") == "valid":
        tested = (
            "Figures are of validation data, for choices that must not see the test data; where the best epoch is kept "
            "or options are tuned, the same data have chosen them."
        )
    else:
        tested = (
            "Choices within this comparison were made on validation data, and each trained network was tested once."
        )
    tune = result.get("tune") or 0
    options = f"Every method's options are the best of {tune} trials." if tune else "No option was tuned here."
    recipe = result.get("recipe")
    how = ", all from the same initialisation and in the same order of data"
    if recipe:
        start = "from these networks" if recipe["init"] == "unimodal" else "from new networks"
        how += (
            f": single networks for {recipe['unimodal']} epochs, then {start} every method for {recipe['multimodal']}"
        )
    return (
        f"{data['name']}: {task} from {streams}; samples: {samples}. Each method was trained with {len(seeds)} "
        f"seed{'' if len(seeds) == 1 else 's'} ({', '.join(map(str, seeds))}){how}. The loss is that of the prediction "
        f"(of its own kind for the multiplicative method) and of each network's own. {options} {tested}"
    )


def metric_display(metric: str) -> tuple[str, float, int]:
    """Title, factor and decimals of a metric."""
    known = METRICS[metric]
    return known.column, known.factor, known.decimals


def condition_group(condition: str) -> str:
    """The kind of disturbance: conditions of one kind are averaged."""
    if condition.startswith("without "):
        return "missing stream"
    if condition.startswith("noise "):
        return "noise"
    return "shift" if " shifted by " in condition else condition


def best_first(result: Result) -> list[str]:
    """Fusions with robustness, in the order of the main table."""
    order = {entry["fusion"]: place for place, entry in enumerate(result["table"])}
    return sorted(dict.fromkeys(entry["fusion"] for entry in result["robustness"]), key=lambda name: order[name])


def group_conditions(result: Result) -> dict[str, list[str]]:
    """Kind of disturbance -> its conditions, in the order of the result."""
    groups: dict[str, list[str]] = {}
    for condition in dict.fromkeys(entry["condition"] for entry in result["robustness"]):
        groups.setdefault(condition_group(condition), []).append(condition)
    return groups


def _tables(result: Result) -> list[_Table]:
    tables = [_quality(result), _cost(result)]
    return [*tables, _robustness(result)] if result["robustness"] else tables


def _quality(result: Result) -> _Table:
    title, factor, decimals = metric_display(result["metric"])

    def number(value: float | None, sign: str = "") -> str:
        return NONE if value is None else f"{value * factor:{sign}.{decimals}f}"

    def versus(against: Mapping[str, Any] | None, p_name: str) -> list[str]:
        if against is None:
            return [NONE, NONE]
        low, high = number(against["low"], "+"), number(against["high"], "+")
        interval = "" if against["low"] is None else f" [{low}, {high}]"
        return [number(against["difference"], "+") + interval, p_value(against.get(p_name))]

    columns = ["method", f"{title} ± std [95 % interval]", "validation"]
    columns += ["difference to best other fusion", "p", "difference to sum", "p (Holm)"]
    arrow = "higher" if result["higher_is_better"] else "lower"
    groups = result["data"].get("num_groups")
    units = "samples" if groups is None else f"groups (people, videos: {groups} of them)"
    note = (
        f"Mean on {result.get('on', 'test')} data ({arrow} is better) ± standard deviation over seeds. Differences are "
        "of common seeds, positive is better. Intervals and two-sided p values count the variance between "
        f"{units} and that between seeds (crossed random effects, Satterthwaite's degrees of freedom; with one seed "
        "and folds: that between folds). Holm: adjusted for comparing every method with the sum of the networks' "
        f"outputs. Bold: the best, and what is not told from it (p at least {LEVEL}, not adjusted), which does not "
        f"show that they are equal; nothing is tested with fewer than {MIN_RUNS} runs of a method. Italic: one stream "
        "alone, and simple models on summaries of the streams, whose validation is a cross-validation. "
        f"{NONE}: undefined, as where a run diverged."
    )
    lines = []
    for entry in result["table"]:
        mean = number(entry["mean"])
        mean += "" if entry["std"] is None else f" ± {number(entry['std'])}"
        mean += "" if entry["low"] is None else f" [{number(entry['low'])}, {number(entry['high'])}]"
        cells = [entry["fusion"], mean, number(entry["valid"])]
        cells += [*versus(entry["versus_best"], "p"), *versus(entry["versus_sum"], "p_holm")]
        lines.append(_Line(cells, entry["tied_for_best"], entry["kind"] != "fusion"))
    return _Table(title.removesuffix(" %").capitalize(), "accuracy", note, columns, lines)


def _cost(result: Result) -> _Table:
    shown: dict[str, tuple[str, Callable[[float | None], str]]] = {
        "parameters": ("parameters", quantity),
        "flops": ("FLOPs", quantity),
        "latency_ms": ("latency", lambda value: NONE if value is None else f"{value:.3g} ms"),
        "peak_bytes": ("memory", size),
        "train_seconds": ("training", duration),
    }
    note = (
        "Of the whole network. FLOPs (a multiply-add is two) and latency are of one forward pass, memory is the most "
        "that a training step takes beyond weights and inputs, all of a batch of "
        f"{result.get('batch', BATCH)} samples. Training is the time of the second stage (of a single network: of the "
        "first) with other runs beside it, mean over seeds."
    )
    lines = [
        _Line(
            [entry["fusion"], *(show(entry.get(cost)) for cost, (_, show) in shown.items())],
            entry["tied_for_best"],
            entry["kind"] != "fusion",
        )
        for entry in result["table"]
    ]
    return _Table("Cost", "cost", note, ["method", *(title for title, _ in shown.values())], lines, marked=1)


def _robustness(result: Result) -> _Table:
    title, factor, decimals = metric_display(result["metric"])
    means = {(entry["fusion"], entry["condition"]): entry["mean"] for entry in result["robustness"]}
    main = {entry["fusion"]: entry for entry in result["table"]}
    groups = group_conditions(result)

    def mean_of(name: str, conditions: Sequence[str]) -> str:
        known = [means.get((name, condition)) for condition in conditions]
        numbers = [value for value in known if value is not None]
        complete = len(numbers) == len(conditions)  # a mean over fewer conditions would not compare
        return f"{sum(numbers) / len(numbers) * factor:.{decimals}f}" if complete else NONE

    averaged = {group: conditions for group, conditions in groups.items() if len(conditions) > 1}
    columns = ["method", "undisturbed", *(f"{group}, mean" for group in averaged)]
    columns += [condition for conditions in groups.values() for condition in conditions]
    lines = []
    for name in best_first(result):
        clean = main[name]["mean"]
        cells = [name, NONE if clean is None else f"{clean * factor:.{decimals}f}"]
        cells += [mean_of(name, conditions) for conditions in averaged.values()]
        cells += [mean_of(name, [condition]) for conditions in groups.values() for condition in conditions]
        lines.append(_Line(cells, main[name]["tied_for_best"]))
    note = f"Mean {title} over seeds of the same trained networks where samples are disturbed."
    return _Table("Robustness", "robustness", note, columns, lines)


def _plain(text: str) -> str:
    """Text that markdown takes as it is."""
    for sign in ("\\", "`", "*", "|", "]("):
        text = text.replace(sign, "\\" + sign)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _markdown_table(table: _Table) -> str:
    lines = [list(map(_plain, table.columns)), ["---", *["---:"] * (len(table.columns) - 1)]]
    for line in table.lines:
        cells = list(map(_plain, line.cells))
        around = ("*" if line.single else "") + ("**" if line.strong else "")
        cells[: table.marked] = [f"{around}{cell}{around}" for cell in cells[: table.marked]]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _html_table(table: _Table) -> str:
    head = "".join(f'<th scope="col" class="wrap">{escape(column)}</th>' for column in table.columns)
    rows = []
    for line in table.lines:
        cells = list(map(escape, line.cells))
        if line.strong:
            cells[: table.marked] = [f"<strong>{cell}</strong>" for cell in cells[: table.marked]]
        single = ' class="single"' if line.single else ""
        rows.append(f"<tr{single}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    body = "\n".join(rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _html_picture(name: str, png: bytes) -> str:
    return f'<img alt="{escape(name)} of each method" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
