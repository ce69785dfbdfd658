"""docs/results.md and its plots, from the results.json files of `msafusion compare`.

    python benchmarks/results.py

reads results/*.json of this repository, each a data set, and writes docs/results.md and docs/plots/. What
docs/findings.md says comes first; what results/NAME.md says comes before the tables of results/NAME.json.
"""

import json
from pathlib import Path
from typing import Any

from msafusion.compare.pictures import draw
from msafusion.compare.report import markdown

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
    for file in files:
        parts += _data_set(file, plots)
    page = root / "docs" / "results.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _data_set(file: Path, plots: Path) -> list[str]:
    result = _read(file)
    parts = [f"## {result['data']['name']}", *_text(file.with_suffix(".md"))]
    parts.append(f"```sh\nmake results/{file.stem}.json{'' if file.stem == 'watch' else ' DATA=...'}\n```")
    parts.append(markdown(result).strip())
    for name, png in draw(result).items():
        plot = plots / f"{file.stem}-{name}.png"
        plot.write_bytes(png)
        parts.append(f"![{name} of each method](plots/{plot.name.replace(' ', '%20')})")
    return parts


def _read(file: Path) -> dict[str, Any]:
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{file}' is not JSON ({error}); copy it from the folder of the comparison again.") from None
    missing = [key for key in ("data", "metric", "rows", "table", "robustness") if key not in result]
    if missing:
        raise ValueError(
            f"'{file}' has no '{missing[0]}', expected a results.json of `msafusion compare`; run it again."
        )
    return result


def _text(file: Path) -> list[str]:
    return [file.read_text(encoding="utf-8").strip()] if file.exists() else []


if __name__ == "__main__":
    print(write())
