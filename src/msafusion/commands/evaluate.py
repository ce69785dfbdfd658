"""`msafusion evaluate`: the test metrics of a finished run, computed again."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from msafusion.commands.parser import parse, verb_parser


def run_evaluate(arguments: Sequence[str]) -> None:
    """`msafusion evaluate RUN`: the test metrics of a finished run, computed again from its saved model.

    Raises:
        ValueError: the folder holds no finished run.
    """
    parser = verb_parser("evaluate", "Compute a run's test metrics again.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="JSON file for the result (default: RUN/evaluation.json)"
    )
    _evaluate(parse(parser, arguments))


def _evaluate(given: Namespace) -> None:
    from msafusion.commands.recipe_options import parse_recipe, train_parser
    from msafusion.commands.train import divided
    from msafusion.files.json_file import write_json
    from msafusion.training.evaluation import calibration_line, evaluate, table

    saved = given.run / "config.yaml"
    if not saved.is_file():
        raise ValueError(
            f"no run in '{given.run}' (no config.yaml), expected the folder of `msafusion train --out`; check the path."
        )
    if (given.run / "fold-1").is_dir():
        raise ValueError(f"the run in '{given.run}' is over folds; give the folder of one, such as fold-1 in it.")
    if not (given.run / "model").is_dir():
        raise ValueError(
            f"the run in '{given.run}' is not finished (no model); go on by "
            f"`msafusion train --out {given.run} --resume`."
        )
    run_parser = train_parser()
    made = run_parser.instantiate(parse_recipe(run_parser, ["--config", str(saved)]))
    splits = divided(made.data, made.folds, made.fold).splits()
    rows, console = evaluate(given.run, splits), Console()
    console.print(table(rows, title=f"test metrics of {given.run}"))
    if line := calibration_line(rows["fused"]):
        console.print(line, highlight=False, soft_wrap=True)
    target = given.out or given.run / "evaluation.json"
    write_json(target, {"rows": {name: {"test": metrics} for name, metrics in rows.items()}})
    console.print(f"results in {target}")
