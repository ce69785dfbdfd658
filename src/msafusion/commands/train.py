"""`msafusion train`: the two stages of training, then the test."""

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from msafusion.commands.parser import not_utf8
from msafusion.commands.recipe_options import dump_recipe, parse_recipe, plain_recipe, train_parser
from msafusion.data.dataset import Dataset
from msafusion.data.folds import Fold
from msafusion.training import recipe
from msafusion.training.fold_runs import train_folds

RECIPE = ("data", "network", "weights", "unimodal", "multimodal", "init", "seed", "folds", "fold")
"""The options that make a run what it is: a resumed run must have the same."""
FOLDER_VARIABLE = "MSAFUSION_RUN"
"""Tells the processes that Lightning starts for further devices the folder that the first one chose."""


def run_train(arguments: Sequence[str]) -> None:
    """`msafusion train`: parse, then train.

    Raises:
        ValueError: see `recipe.train`; options that differ from those of the run to resume.
    """
    parser = train_parser()
    given = parse_recipe(parser, arguments)
    folder = _folder(given)
    if not_utf8(str(folder)):
        raise ValueError(f"--out is {str(folder)!r}, whose name is not UTF-8 as TensorBoard wants it; choose another.")
    if given.resume and (folder / "config.yaml").is_file():
        saved = ["--config", str(folder / "config.yaml")]
        given = parse_recipe(parser, [*saved, *arguments])
        _check_same(plain_recipe(parser, parse_recipe(parser, saved)), plain_recipe(parser, given), folder)
    given.out = folder
    check_folds(given.folds, given.fold)
    made = parser.instantiate(given)

    def run(fold: int | None, into: Path, resume: bool, overwrite: bool) -> recipe.Metrics:
        own = given.clone()
        own.fold, own.out = fold, into
        return recipe.train(
            divided(made.data, made.folds, fold),
            made.network,
            made.unimodal,
            made.multimodal,
            folder=into,
            config=dump_recipe(parser, own),
            trainer=given.trainer.as_dict(),
            weights=made.weights,
            init=made.init,
            seed=made.seed,
            num_workers=made.num_workers,
            resume=resume,
            overwrite=overwrite,
            simple_models=made.simple_models,
        )

    if given.folds and given.fold is None:
        config, again = dump_recipe(parser, given), {"resume": made.resume, "overwrite": made.overwrite}
        each = partial(run, overwrite=False)
        train_folds(each, given.folds, folder=folder, config=config, **again)
    else:
        run(given.fold, folder, made.resume, made.overwrite)


def check_folds(folds: int, fold: int | None) -> None:
    """Refuse a number of folds that cannot be, and a fold without it.

    Raises:
        ValueError: there is one.
    """
    if folds < 0 or folds == 1:
        raise ValueError(f"folds is {folds}, expected 2 or more, or 0 for the data's own split.")
    if fold is not None and not 1 <= fold <= folds:
        raise ValueError(f"fold is {fold}, expected 1 to {folds} (--folds)." if folds else "--fold needs --folds.")


def divided(data: Dataset, folds: int, fold: int | None) -> Dataset:
    """The data, or one fold of them."""
    return data if fold is None else Fold(data, folds, fold)


def _folder(given: Namespace) -> Path:
    if given.out is not None:
        return given.out
    if given.resume:
        raise ValueError("--resume needs the run's folder; add --out with the folder of the interrupted run.")
    if "LOCAL_RANK" not in os.environ:  # in a further device's process the first one has already chosen
        os.environ[FOLDER_VARIABLE] = f"runs/{datetime.now():%Y-%m-%d-%H%M%S}"
    return Path(os.environ[FOLDER_VARIABLE])


def _check_same(saved: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    for name in RECIPE:
        if saved.get(name) != asked.get(name):
            name, asked, saved = _first_difference(name, asked, saved)
            raise ValueError(
                f"--{name} is {asked}, but the run in '{folder}' was started "
                f"{'without it' if saved is None else f'with {saved}'}; leave "
                "the option out to resume, or start another run."
            )


def _first_difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """The full name of an option that differs below `name`, and its two values."""
    one, other = one.get(name.split(".")[-1]), other.get(name.split(".")[-1])
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(key for key in {**one, **other} if one.get(key) != other.get(key))
        return _first_difference(f"{name}.{key}", one, other)
    return name, one, other
