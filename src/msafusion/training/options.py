"""Command-line and configuration-file options of `msafusion train` and `msafusion evaluate`, typed by jsonargparse."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from msafusion.arguments import config_files, imported, not_utf8, parse, verb_parser
from msafusion.class_names import allow_registered, check_recipe
from msafusion.data import Watch
from msafusion.files.json_file import write_json
from msafusion.networks import NetworkPlan, SmallCNN
from msafusion.samples import DataSource
from msafusion.training import recipe
from msafusion.training.stage_options import StageOptions
from msafusion.training.trainer_options import TrainerOptions

RECIPE = ("data", "network", "weights", "alone", "fused", "start", "seed")
"""The options that make a run what it is: a resumed run must have the same."""
FOLDER_VARIABLE = "MSAFUSION_RUN"
"""Tells the processes that Lightning starts for further devices the folder that the first one chose."""


def train_parser() -> ArgumentParser:
    """Parser of `msafusion train`."""
    parser = verb_parser("train", "Train networks alone, then fused; test once.")
    add_recipe(parser)
    parser.add_argument("--num_workers", type=int, default=0, help="processes that load samples")
    parser.add_argument("--weights", type=dict[str, Path], default={}, help="stream: file of pretrained weights")
    parser.add_argument("--out", type=Path | None, default=None, help="folder of the run (default: runs/<date>-<time>)")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --out, with its options")
    parser.add_argument("--overwrite", action="store_true", help="delete the run in --out first")
    return parser


def add_recipe(parser: ArgumentParser) -> None:
    """Add what describes a run: data, network, stages, seed, trainer.

    Raises:
        ValueError: an installed plugin is broken.
    """
    allow_registered()
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of these options")
    parser.add_argument("--data", type=DataSource, help="data set and its options (default: Watch)")
    parser.add_argument("--network", type=NetworkPlan, help="network and its options (default: SmallCNN)")
    parser.add_class_arguments(StageOptions, "alone", help="first stage: each network by itself")
    parser.add_class_arguments(StageOptions, "fused", help="second stage: all networks, fused")
    parser.set_defaults({"fused.epochs": 10, "fused.fusion_learning_rate": 3e-3, "fused.stream_dropout": 0.2})
    parser.add_argument(
        "--start",
        type=Literal["alone", "anew"],
        default="alone",
        help="second stage: from the first's networks, or anew",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout")
    parser.add_class_arguments(TrainerOptions, "trainer", instantiate=False, help="Lightning's Trainer")


def parse_recipe(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """What arguments with a recipe say.

    A default class is named only where the arguments and their files name none: where another class follows,
    jsonargparse keeps what the first has set for options of the same name (Watch's valid_subjects for UTDMHAD's).

    Raises:
        ValueError: the parser refuses them.
    """
    arguments = imported(arguments)
    for name, default in (("data", Watch.__name__), ("network", SmallCNN.__name__)):
        if not _names_class(arguments, name):
            arguments = [f"--{name}", default, *arguments]
    return parse(parser, arguments)


def _names_class(arguments: Sequence[str], name: str) -> bool:
    """Whether the arguments, or a file that they name by --config, say which class `name` is."""
    for file in config_files(arguments):
        section = check_recipe(file).get(name)
        if isinstance(section, str) or (isinstance(section, dict) and "class_path" in section):
            return True
    named = f"--{name}", f"--{name}.class_path"
    return any(argument in named or argument.startswith(tuple(f"{n}=" for n in named)) for argument in arguments)


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
    made = parser.instantiate(given)
    recipe.train(
        made.data,
        made.network,
        made.alone,
        made.fused,
        folder=folder,
        config=_dump(parser, given),
        trainer=given.trainer.as_dict(),
        weights=made.weights,
        start=made.start,
        seed=made.seed,
        num_workers=made.num_workers,
        resume=made.resume,
        overwrite=made.overwrite,
    )


def run_evaluate(arguments: Sequence[str]) -> None:
    """`msafusion evaluate RUN`: the test metrics of a finished run, computed again from its saved model.

    Raises:
        ValueError: there is no finished run in the folder.
    """
    parser = verb_parser("evaluate", "Compute a run's test metrics again.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="JSON file for the result (default: RUN/evaluation.json)"
    )
    given = parse(parser, arguments)
    saved = given.run / "config.yaml"
    if not saved.is_file():
        raise ValueError(
            f"no run in '{given.run}' (no config.yaml), expected the folder of `msafusion train --out`; check the path."
        )
    if not (given.run / "model").is_dir():
        raise ValueError(
            f"the run in '{given.run}' is not finished (no model); go on by "
            f"`msafusion train --out {given.run} --resume`."
        )
    run_parser = train_parser()
    data = run_parser.instantiate(parse_recipe(run_parser, ["--config", str(saved)])).data
    splits = data.splits()
    rows = recipe.evaluate(given.run, splits)
    recipe.Console().print(recipe.table(rows, title=f"test metrics of {given.run}", task=splits.task))
    target = given.out or given.run / "evaluation.json"
    write_json(target, {"rows": {name: {"test": metrics} for name, metrics in rows.items()}})
    recipe.Console().print(f"results in {target}")


def _folder(given: Namespace) -> Path:
    if given.out is not None:
        return given.out
    if given.resume:
        raise ValueError("--resume needs the run's folder; add --out with the folder of the interrupted run.")
    if "LOCAL_RANK" not in os.environ:  # in a further device's process the first one has already chosen
        os.environ[FOLDER_VARIABLE] = f"runs/{datetime.now():%Y-%m-%d-%H%M%S}"
    return Path(os.environ[FOLDER_VARIABLE])


def _dump(parser: ArgumentParser, given: Namespace, without: Sequence[str] = ()) -> str:
    kept = given.clone()
    for name in ("config", "out", "resume", "overwrite", *without):  # of the command, not of the run
        kept.pop(name, None)
    if not kept.get("import"):
        kept.pop("import", None)
    for key, value in kept.items():
        if isinstance(value, str | os.PathLike) and not_utf8(str(value)):
            raise ValueError(
                f"--{key} is {os.fspath(value)!r}, whose name is not UTF-8, and the run could not record it; rename it."
            )
    return parser.dump(kept)


def plain_recipe(parser: ArgumentParser, given: Namespace, without: Sequence[str] = ()) -> dict[str, Any]:
    """The options of a run as plain values, as `config.yaml` holds them, without some."""
    return yaml.safe_load(_dump(parser, given, without))


def _check_same(saved: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    for name in RECIPE:
        if saved[name] != asked[name]:
            name, asked, saved = _first_difference(name, asked, saved)
            raise ValueError(
                f"--{name} is {asked}, but the run in '{folder}' was started with {saved}; leave "
                "the option out to resume, or start another run."
            )


def _first_difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """The full name of an option that differs below `name`, and its two values."""
    one, other = one[name.split(".")[-1]], other[name.split(".")[-1]]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        key = next(key for key in one if one[key] != other[key])
        return _first_difference(f"{name}.{key}", one, other)
    return name, one, other
