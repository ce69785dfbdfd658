"""A run over folds: one ordinary run for each, and a table over all of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.table import Table

from msafusion.files.json_file import write_json
from msafusion.training.folder import lock
from msafusion.training.metrics import METRICS
from msafusion.training.recipe import Metrics, prepare_folder


def train_folds(
    run: Callable[[int, Path, bool], Metrics],
    number: int,
    *,
    folder: Path,
    config: str,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> Metrics:
    """Train and test on every fold, each in `folder/fold-1`, ..., and write `metrics.json` with means over them.

    Args:
        run: (fold from 1, its folder, whether to resume) -> what `train` returns.
        number: of folds.
        folder: of all; new, unless `resume` or `overwrite`.
        config: complete configuration, kept as `config.yaml`.
        resume: go on with the folds that are not finished; those that are finished are only tested again.
        overwrite: delete the run that the folder holds first.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds: per row, test and validation metrics as mean and std over folds, and the folds.

    Raises:
        ValueError: the folder is in use or holds something else; see `train`.
    """
    console = console or Console()
    with lock(folder):
        prepare_folder(folder, config, resume=resume, overwrite=overwrite)
        found = []
        for fold in range(1, number + 1):
            own = folder / f"fold-{fold}"
            begun = resume and (own / "config.yaml").is_file()  # another process may just have begun it
            console.print(f"fold {fold} of {number}", highlight=False)
            found.append(run(fold, own, begun))
        if getattr(rank_zero_only, "rank", 0) != 0:
            return {"folds": found}
        result: Metrics = {"folds": number, "rows": _mean_rows(found), "of_folds": found}
        write_json(folder / "metrics.json", result)
        console.print(_table(result))
        console.print(f"results in {folder / 'metrics.json'}, models in {folder}/fold-*/model", soft_wrap=True)
        return result


def _mean_rows(folds: Sequence[Metrics]) -> dict[str, Any]:
    """Row -> part -> metric -> mean and standard deviation over folds; rows that every fold has."""
    names = [name for name in folds[0]["rows"] if all(name in fold["rows"] for fold in folds)]
    return {
        name: {part: _spread([fold["rows"][name].get(part) or {} for fold in folds]) for part in ("valid", "test")}
        for name in names
    }


def _spread(parts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    result = {}
    for metric in parts[0]:
        values = [part.get(metric) for part in parts]
        if metric in METRICS and all(isinstance(value, int | float) for value in values):
            numbers = np.array(values, dtype=float)
            result[metric] = {"mean": float(numbers.mean()), "std": float(numbers.std(ddof=1))}
    return result


def _table(result: Metrics) -> Table:
    table = Table(title=f"mean ± standard deviation over {result['folds']} folds")
    known = {metric for row in result["rows"].values() for metric in row["test"]}
    shown = [metric for metric in METRICS.values() if metric.name in known and metric.title]
    for column in ("model", *(metric.column for metric in shown)):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, row in result["rows"].items():
        cells = []
        for metric in shown:
            value = row["test"].get(metric.name)
            numbers = [] if value is None else [f"{metric.factor * value[of]:.{metric.decimals}f}" for of in value]
            cells.append(" ± ".join(numbers))
        table.add_row(name, *cells)
    return table
