"""The help of the verbs with many options: those that people need first, shown without importing any library.

A test compares names and defaults with the parsers. `--help-all` shows what the parser knows.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).parents[1]
Options = Sequence[tuple[str, str, str]]
"""(option, what it takes, what it does)."""


def _keys(file: str, registry: str) -> str:
    """The names in a registry, read from its source: importing it would take the seconds that this help saves."""
    for node in ast.parse((SOURCE / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == registry:
            assert isinstance(node.value, ast.Dict)
            return ", ".join(str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
    raise LookupError(registry)


NETWORK_PLANS = _keys("networks/__init__.py", "NETWORKS")
_DATASETS = _keys("data/datasets/__init__.py", "DATASETS")
_DATA: Options = (
    ("--data", "NAME", f"data set: {_DATASETS}; SmartwatchExercises if not given"),
    ("--data.OPTION", "VALUE", "an option of the data set; `--data.help NAME` lists them"),
    ("--network", "NAME", f"network plan: {NETWORK_PLANS}; SmallCNN if not given"),
    ("--network.OPTION", "VALUE", "an option of the network; `--network.help NAME` lists them"),
)
_FOLDS = ("--folds", "N", "test every sample, or every person by --data.group, once in N folds (default: 0)")
_STAGES: Options = (
    (
        "--unimodal.epochs",
        "N",
        "epochs in which each network trains by itself (default: none, for 20 or, with few samples, more)",
    ),
    (
        "--multimodal.epochs",
        "N",
        "epochs in which all networks train fused (default: none, for 10 or, with few samples, more)",
    ),
    ("--multimodal.batch_size", "N", "samples per step on each device; the first stage has its own (default: 32)"),
    ("--multimodal.learning_rate", "X", "learning rate of the networks (default: 0.001)"),
)
SHORT_HELP: Mapping[str, tuple[str, str, Mapping[str, Options]]] = {
    "train": (
        "[--config FILE] [options]",
        "Train each network by itself, then all of them fused; test once, and write the run to a folder.",
        {
            "data and network": (
                ("--config", "FILE", "YAML file with any of the options, such as configs/*.yaml"),
                *_DATA,
            ),
            "training": (
                *_STAGES,
                (
                    "--init",
                    "unimodal|scratch",
                    "where the second stage starts (default: unimodal, the first's networks)",
                ),
                _FOLDS,
                ("--seed", "N", "of weights, order of samples and dropout (default: 0)"),
                ("--trainer.accelerator", "NAME", "cpu, gpu, ... (default: auto)"),
                ("--trainer.devices", "N", "number of devices; -1: all (default: 1)"),
                ("--num_workers", "N", "processes that load samples (default: 0)"),
            ),
            "the run": (
                ("--out", "DIR", "folder of the run (default: runs/<date>-<time>)"),
                ("--resume", "", "continue the interrupted run in --out, with its options"),
                ("--overwrite", "", "delete the run in --out first"),
            ),
        },
    ),
    "compare": (
        "--data FILE [options]",
        "Train and test fusion methods alike, with several seeds, and write a report.",
        {
            "data and network": (
                ("--data", "FILE", "a recipe (.yaml), a manifest (.csv, .parquet), arrays (.npz, .safetensors, .h5)"),
                ("--data", "NAME", f"or a data set: {_DATASETS}"),
                *_DATA[1:],
            ),
            "what is compared": (
                ("--fusions", "NAMES", "methods, separated by commas (default: all)"),
                ("--seeds", "N", "runs of each method, with seeds 0, 1, ... (default: 10)"),
                _FOLDS,
                ("--tune", "N", "random trials of each method, judged on validation samples (default: 0)"),
                ("--robustness", "BOOL", "also test with streams missing, noisy and shifted (default: true)"),
                *_STAGES[:2],
            ),
            "the comparison": (
                ("--workers", "N", "processes (default: one per core)"),
                ("--out", "DIR", "folder (default: runs/compare-<date>-<time>)"),
                ("--overwrite", "", "delete the comparison in --out first"),
            ),
        },
    ),
}
"""Verb -> (what follows its name, what it does, its first options by group)."""


def short_help(verb: str) -> str:
    """What `msafusion <verb> --help` prints.

    Examples:
        >>> from msafusion.commands.short_help import short_help
        >>> print(short_help("train").splitlines()[0])
        usage: msafusion train [--config FILE] [options]
    """
    usage, purpose, groups = SHORT_HELP[verb]
    width = max(len(f"{name} {takes}") for options in groups.values() for name, takes, _ in options) + 2
    lines = [f"usage: msafusion {verb} {usage}", "", purpose]
    for group, options in groups.items():
        lines += ["", f"{group}:"]
        lines += [f"  {f'{name} {takes}':<{width}}{what}" for name, takes, what in options]
    lines += ["", f"All options: `msafusion {verb} --help-all`; as a YAML file to start from: `--print_config`."]
    return "\n".join(lines)
