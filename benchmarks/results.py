"""docs/results.md and its plots, from the results.json files of `msafusion compare`.

    python benchmarks/results.py

reads results/*.json of this repository, each a data set, and writes docs/results.md and docs/plots/. What
docs/findings.md says comes first; what results/NAME.md says comes before the tables of results/NAME.json.
"""

import json
from pathlib import Path
from typing import Any

from msafusion.compare.formats import NONE
from msafusion.compare.pictures import draw
from msafusion.compare.report import markdown, metric_display

ROOT = Path(__file__).resolve().parents[1]


def write(root: Path = ROOT) -> Path:
    """Write the page and its plots; give the page.

    Raises:
        ValueError: no results, or a file that `msafusion compare` did not write.
    """
    files = sorted((root / "results").glob("*.json"))
    if not files:
        raise ValueError(f"no .json file in '{root / 'results'}', expected results.json of `msafusion compare` there.")
    plots = root / "docs" / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    parts = ["# Results", "Written by `python benchmarks/results.py` from `results/*.json`; edit neither by hand."]
    parts += _text(root / "docs" / "findings.md")
    results = {file: result for file in files if (result := _read(file)) is not None}
    parts += _overview({file.stem: result for file, result in results.items()})
    for file, result in results.items():
        parts += _data_set(file, result, plots)
    page = root / "docs" / "results.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _overview(results: dict[str, dict[str, Any]]) -> list[str]:
    """All sets beside each other: the methods that every set has, and what a missing stream costs them."""
    tables = {name: {entry["fusion"]: entry for entry in result["table"]} for name, result in results.items()}
    everywhere = set.intersection(*(set(table) for table in tables.values()))
    ranks = [list(table) for table in tables.values()]  # best first
    kinds = {entry["fusion"]: entry["kind"] for result in results.values() for entry in result["table"]}
    methods = [name for name in ranks[0] if name in everywhere and kinds[name] == "fusion"]
    methods.sort(key=lambda name: sum(rank.index(name) for rank in ranks))

    def figure(entry: dict[str, Any], metric: str) -> str:
        _, factor, digits = metric_display(metric)
        if entry["mean"] is None:
            return NONE
        text = f"{factor * entry['mean']:.{digits}f}"
        text += "" if entry["std"] is None else f" ± {factor * entry['std']:.{digits}f}"
        return f"**{text}**" if entry["tied_for_best"] else text

    heading = [f"{name} ({len(result['seeds'])} seeds)" for name, result in results.items()]
    rows = [[name, *(figure(tables[of][name], results[of]["metric"]) for of in results)] for name in methods]
    parts = [
        "## All sets",
        "Mean ± standard deviation over seeds; bold: best, or not told from it (paired over people and seeds).",
    ]
    parts.append(_markdown(["method", *heading], rows))
    losses: dict[str, dict[str, list[float]]] = {name: {of: [] for of in results} for name in methods}
    for of, result in results.items():
        for entry in result["robustness"]:
            if entry["condition"].startswith("without ") and entry["fusion"] in losses and entry["loss"] is not None:
                losses[entry["fusion"]][of].append(metric_display(result["metric"])[1] * entry["loss"])
    known = {name: [sum(one) / len(one) for one in of.values()] for name, of in losses.items() if all(of.values())}
    if known:
        parts.append("What it costs on average that one stream is missing, least first:")
        rows = [
            [name, *(f"{loss:.1f}" for loss in of), f"{sum(of) / len(of):.1f}"]
            for name, of in sorted(known.items(), key=lambda item: sum(item[1]))
        ]
        parts.append(_markdown(["method", *results, "mean"], rows))
    return parts


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _data_set(file: Path, result: dict[str, Any], plots: Path) -> list[str]:
    parts = [f"## {result['data']['name']}", *_text(file.with_suffix(".md"))]
    parts.append(f"```sh\nmake results/{file.stem}.json{'' if file.stem == 'watch' else ' DATA=...'}\n```")
    parts.append(markdown(result).strip())
    for name, png in draw(result).items():
        plot = plots / f"{file.stem}-{name}.png"
        plot.write_bytes(png)
        parts.append(f"![{name} of each method](plots/{plot.name.replace(' ', '%20')})")
    return parts


def _read(file: Path) -> dict[str, Any] | None:
    """A result; None, with a line, for those of versions whose statistics were over seeds alone."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{file}' is not JSON ({error}); copy it from the folder of the comparison again.") from None
    missing = [key for key in ("data", "metric", "rows", "table", "robustness") if key not in result]
    if missing:
        raise ValueError(
            f"'{file}' has no '{missing[0]}', expected a results.json of `msafusion compare`; run it again."
        )
    if "verdict" not in result:
        print(f"left out: '{file}' was made by an older version; run `make results/{file.name}` again")
        return None
    return result


def _text(file: Path) -> list[str]:
    return [file.read_text(encoding="utf-8").strip()] if file.exists() else []


if __name__ == "__main__":
    print(write())
