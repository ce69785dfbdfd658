"""The folder of a comparison: what is in it, and when runs may go on in it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msafusion.compare.jobs import SCRATCH
from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading
from msafusion.training.folder import MODEL, holds_anything, remove_written

RECIPE = "recipe.json"
FILES = (
    *(RECIPE, "results.json", "report.html", "report.md", "*.png", "*.log", "runs/*.json", f"{SCRATCH}/**"),
    *(f"unimodal/*/{name}" for name in MODEL),
)
"""What a comparison writes into its folder."""


def as_json(result: Mapping[str, Any]) -> str:
    """The result as JSON with one row a line, so that versions of it can be compared."""
    rows = ",\n".join("    " + json.dumps(row, allow_nan=False) for row in result["rows"])
    around = json.dumps({**result, "rows": None}, indent=2, allow_nan=False)
    return around.replace('\n  "rows": null', f'\n  "rows": [\n{rows}\n  ]', 1) + "\n"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Look whether a comparison can start, or go on, in a folder; nothing is changed.

    Raises:
        ValueError: the folder holds something else.
    """
    if holds_anything(folder) and not (folder / RECIPE).is_file():
        what = "is not overwritten: it holds" if overwrite else "holds"
        raise ValueError(f"'{folder}' {what} something else than a comparison; choose another --out.")


def prepare_folder(folder: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
    """Begin a comparison in a folder, or continue one whose runs share the same recipe.

    What killed runs have left is removed: nobody else is at work in a locked folder.

    Raises:
        ValueError: see `check_folder` and `remove_written`; or the folder holds runs of another recipe.
    """
    check_folder(folder, overwrite=overwrite)
    try:
        if overwrite:
            remove_written(folder, FILES)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        if (folder / RECIPE).is_file():
            _check_recipe(folder, recipe)
        else:
            write_json(folder / RECIPE, dict(recipe))
    except OSError as error:
        raise ValueError(f"cannot write into '{folder}' ({error.strerror}); choose another --out.") from None


def _check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    file = folder / RECIPE
    with reading(file, "the recipe of a comparison", "choose another --out, or --overwrite it", ValueError):
        before = dict(read_json(file))
        changed = [name for name in recipe if before.get(name) != json.loads(json.dumps(recipe[name]))]
    if changed:
        raise ValueError(
            f"the comparison in '{folder}' was begun with another {changed[0]}; choose another --out, give the "
            "same options to go on, or --overwrite it."
        )
