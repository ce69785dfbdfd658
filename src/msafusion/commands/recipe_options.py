"""The options that describe a run: data, network, stages, trainer. `train` and `compare` add options of their own."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from msafusion.commands.parser import config_files, import_modules, not_utf8, parse, verb_parser
from msafusion.commands.registered import allow_registered, check_recipe
from msafusion.data.dataset import Dataset
from msafusion.data.datasets import SmartwatchExercises
from msafusion.networks import NetworkPlan, SmallCNN
from msafusion.training.stage_options import StageOptions
from msafusion.training.trainer_options import TrainerOptions


def train_parser() -> ArgumentParser:
    """Parser of `msafusion train`."""
    parser = verb_parser("train", "Train networks alone, then fused; test once.")
    add_recipe(parser)
    parser.add_argument(
        "--folds", type=int, default=0, help="test every sample, or every group, once in N folds; 0: the data's own"
    )
    parser.add_argument("--fold", type=int | None, default=None, help="only this one of the folds, from 1")
    parser.add_argument(
        "--simple_models", type=bool, default=True, help="also fit scikit-learn's models to summaries of the streams"
    )
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
    parser.add_argument("--data", type=Dataset, help="data set and its options (default: SmartwatchExercises)")
    parser.add_argument("--network", type=NetworkPlan, help="network and its options (default: SmallCNN)")
    parser.add_class_arguments(StageOptions, "unimodal", help="first stage: each network by itself")
    parser.add_class_arguments(StageOptions, "multimodal", help="second stage: all networks, fused")
    parser.set_defaults(
        {"multimodal.min_updates": 400, "multimodal.fusion_learning_rate": 3e-3, "multimodal.stream_dropout": 0.2}
    )
    parser.add_argument(
        "--init",
        type=Literal["unimodal", "scratch"],
        default="unimodal",
        help="second stage: from the first's networks, or scratch",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout")
    parser.add_class_arguments(TrainerOptions, "trainer", instantiate=False, help="Lightning's Trainer")


def parse_recipe(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """What arguments with a recipe say.

    A default class is named only where the arguments and their files name none: where another class follows,
    jsonargparse keeps what the first has set for options of the same name (`valid_subjects` of the default data set
    for those of UTDMHAD).

    Raises:
        ValueError: the parser refuses them.
    """
    arguments = import_modules(arguments)
    for name, default in (("data", SmartwatchExercises.__name__), ("network", SmallCNN.__name__)):
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


def dump_recipe(parser: ArgumentParser, given: Namespace, without: Sequence[str] = ()) -> str:
    """The options of a run as `config.yaml` holds them, without some.

    Raises:
        ValueError: a path cannot be written as UTF-8.
    """
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
    return yaml.safe_load(dump_recipe(parser, given, without))
