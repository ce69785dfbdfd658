"""The command `msafusion compare`: every fusion method on one data set, with several seeds, tested once."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from msafusion import plugins
from msafusion.commands.parser import verb_parser
from msafusion.commands.recipe_options import add_recipe, parse_recipe, plain_recipe
from msafusion.commands.train import check_folds
from msafusion.compare.config import ALL, ComparisonConfig, Method, check_names
from msafusion.compare.folder import as_json, check_folder, prepare_folder
from msafusion.compare.formats import p_value
from msafusion.compare.jobs import JobRunner
from msafusion.compare.pictures import draw
from msafusion.compare.report import html, markdown, tested_on
from msafusion.compare.running import compare, suits
from msafusion.compare.verdict import sentence, validation_note
from msafusion.data.preparation.engines import Engine
from msafusion.data.samples import Splits
from msafusion.fusion import FUSIONS, HEADS
from msafusion.streams import check_count
from msafusion.training.folder import lock
from msafusion.training.metrics import METRICS
from msafusion.training.same_samples import fingerprint

SHOWN = ("mean", "std", "low", "high", "valid")
ARRAYS, TABLES, CONFIGS = (".npz", ".safetensors", ".h5", ".hdf5"), (".csv", ".parquet"), (".yaml", ".yml")


def compare_parser() -> ArgumentParser:
    """Parser of `msafusion compare`."""
    parser = verb_parser(
        "compare", "Train single networks, then every fusion method from them, with several seeds; test once."
    )
    add_recipe(parser)
    parser.add_argument(
        "--fusions", type=str, default=ALL, help=f"methods or variants, separated by commas; {ALL}: every one"
    )
    parser.add_argument(
        "--variants", type=dict[str, dict[str, Any]], default={}, help="name: {fusion: ..., option: ...}"
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds: 0, 1, ...")
    parser.add_argument("--tune", type=int, default=0, help="random trials for every method, on validation samples")
    parser.add_argument(
        "--on", type=Literal["test", "valid"], default="test", help="valid: compare without the test set"
    )
    parser.add_argument(
        "--folds", type=int, default=0, help="test every sample, or every group, once in N folds; 0: the data's own"
    )
    parser.add_argument(
        "--simple_models", type=bool, default=True, help="also fit scikit-learn's models to summaries of the streams"
    )
    parser.add_argument("--robustness", type=bool, default=True, help="also test with streams missing, noisy, shifted")
    parser.add_argument("--workers", type=int | None, default=None, help="processes (default: one per core)")
    parser.add_argument("--engine", type=Engine, default="joblib", help="joblib (this machine) or ray (a cluster)")
    parser.add_argument("--ray_address", type=str | None, default=None, help="of a running Ray cluster")
    parser.add_argument("--out", type=Path | None, default=None, help="folder (default: runs/compare-<date>-<time>)")
    parser.add_argument("--overwrite", action="store_true", help="delete the comparison in --out first")
    return parser


def run_compare(arguments: Sequence[str]) -> None:
    """`msafusion compare --data FILE [--fusions ...] [--seeds N] [--tune N] [--out DIR]`.

    FILE is a recipe (.yaml), a manifest (.csv, .parquet), arrays (.npz, .safetensors, .h5), or a data set's name.

    Raises:
        ValueError: see `compare`.
    """
    parser = compare_parser()
    known, data_name = _with_data_file(arguments)
    given = parse_recipe(parser, known)
    for name in ("seeds", "workers"):
        if given[name] is not None:
            check_count(name, given[name])
    check_folds(given.folds, None)
    if given.tune < 0:
        raise ValueError(f"tune is {given.tune}, expected 0 or more.")
    folder = given.out or Path(f"runs/compare-{datetime.now():%Y-%m-%d-%H%M%S}")
    console = Console()
    made = parser.instantiate(given)
    recipe = plain_recipe(
        parser, given, without=("fusions", "seeds", "simple_models", "workers", "engine", "ray_address")
    )
    config = ComparisonConfig(
        folder,
        data_name or type(made.data).__name__,
        made.data,
        made.network,
        made.unimodal,
        made.multimodal,
        made.init,
        given.trainer.as_dict(),
        made.robustness,
        made.on,
        plugins.requested_modules(),
        folds=given.folds,
        simple_models=given.simple_models,
    )
    check_names(given.variants)
    check_folder(folder, overwrite=given.overwrite)
    with lock(folder):
        _compare(config, given, recipe, arguments, console)


def _compare(
    config: ComparisonConfig, given: Namespace, recipe: dict[str, Any], arguments: Sequence[str], console: Console
) -> None:
    """Run the comparison in its folder, and write what came out."""
    folder = config.folder
    runner = JobRunner(config)
    splits = runner.splits()
    if splits.chosen_on_test and config.on == "valid":
        raise ValueError(
            "--on valid asks for validation samples, and these data have none but the test's; leave it out."
        )
    methods = _methods(config, given, runner.splits(config.fold_numbers[0]), console)
    recipe["samples"] = fingerprint(splits)
    prepare_folder(folder, recipe, overwrite=given.overwrite)
    result = compare(
        config,
        methods,
        range(given.seed, given.seed + given.seeds),
        tune=given.tune,
        workers=given.workers or os.cpu_count() or 1,
        engine=given.engine,
        ray_address=given.ray_address,
        console=console,
    )
    result["command"], result["config"] = shlex.join(["msafusion", "compare", *arguments]), recipe
    (folder / "results.json").write_text(as_json(result))
    pictures = draw(result)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    (folder / "report.html").write_text(html(result, pictures))
    (folder / "report.md").write_text(markdown(result))
    console.print(_table(result))
    for line in (*result["left_out"], sentence(result), validation_note(result)):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"results in {folder / 'results.json'}, report in {folder / 'report.html'}", soft_wrap=True)


def _with_data_file(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Arguments in which `--data FILE` has become what the parser knows, and what the file is called.

    Raises:
        ValueError: --data names a file that is not there.
    """
    result: list[str] = []
    called: str | None = None
    rest = iter(arguments)
    for argument in rest:
        value = argument.removeprefix("--data=") if argument.startswith("--data=") else None
        if argument == "--data":
            value = next(rest, None)
        if value is None:
            result.append(argument)
            continue
        suffix = Path(value).suffix.lower()
        if Path(value).is_dir():
            result += ["--data", "Manifest", "--data.root", value]
            called = Path(value).resolve().name
            continue
        if suffix in (*CONFIGS, *TABLES, *ARRAYS) and not Path(value).is_file():
            raise ValueError(f"no file '{value}', expected a recipe, a manifest or arrays; correct --data.")
        if suffix in (*CONFIGS, *TABLES, *ARRAYS):
            file = Path(value).resolve()
            called = file.parent.name if file.stem == "manifest" else file.stem
        if suffix in CONFIGS:
            result = ["--config", value, *result]
        elif suffix in (*TABLES, *ARRAYS):
            result += ["--data", "Manifest" if suffix in TABLES else "Arrays", "--data.root", value]
        else:
            result += ["--data", value]
    return result, called


def _methods(config: ComparisonConfig, given: Namespace, splits: Splits, console: Console) -> list[Method]:
    """The contenders; of all, those that the data allow.

    Raises:
        ValueError: an unknown method, one named twice, one that does not suit the data.
    """
    everything = given.fusions == ALL
    names = [*FUSIONS, *HEADS, *given.variants] if everything else [name.strip() for name in given.fusions.split(",")]
    if unused := [name for name in given.variants if name not in names]:
        raise ValueError(f"variants defines '{unused[0]}', which fusions does not name; add it there, or take it out.")
    methods = [Method.parse(name, given.variants) for name in names]
    own = {"fusion": None, "fusion_options": {}, **vars(config.network)}  # a recipe's options are of its own method
    methods = [
        replace(method, options=own["fusion_options"]) if method.name == own["fusion"] else method for method in methods
    ]
    for name in (chosen := [method.name for method in methods]):
        if chosen.count(name) > 1:
            raise ValueError(f"fusions names '{name}' twice, expected it once; correct it.")
    problems = {method.name: problem for method in methods if (problem := suits(config, splits, method))}
    for name, problem in problems.items():
        if not everything:
            raise ValueError(f"fusion '{name}' does not suit the data or the network: {problem}")
        console.print(f"left out: {name} ({problem})", highlight=False)
    return [method for method in methods if method.name not in problems]


def _table(result: dict[str, Any]) -> Table:
    metric = METRICS[result["metric"]]
    table = Table(title=f"{metric.column} on {tested_on(result)}")
    for column in ("fusion", "mean", "std", "95 % interval", "validation", "p against best", "p against sum"):
        table.add_column(column, justify="left" if column == "fusion" else "right", overflow="fold")
    for row in result["table"]:
        values = [None if row[name] is None else metric.factor * row[name] for name in SHOWN]
        mean, std, low, high, valid = ("" if value is None else f"{value:.{metric.decimals}f}" for value in values)
        tests = [(row[name] or {}).get("p") for name in ("versus_best", "versus_sum")]
        table.add_row(row["fusion"], mean, std, f"{low} to {high}" if low else "", valid, *map(p_value, tests))
    return table
