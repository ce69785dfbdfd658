"""Does fusing pay here? The best fusion against the best single stream and the best simple model, in a sentence."""

import math
from collections.abc import Mapping
from typing import Any

from msafusion.compare.tables import Runs
from msafusion.training.metrics import METRICS

FAR = 5.0
"""Points, or per cent of an error: validation that lies further from the test is told."""


def verdict(runs: Runs) -> dict[str, Any]:
    """The best method of each kind, chosen on validation data, and what fusing gains beside the others.

    Returns:
        fusion (its name; None: no method finished), mean, and against: a list of `Runs.versus` with `kind`.
    """
    fused = runs.best("fusion")
    against = []
    for kind in ("single", "simple"):
        other = runs.best(kind)
        if fused is not None and other is not None and (found := runs.versus(fused, other)):
            against.append({**found, "kind": kind})
    return {"fusion": fused, "mean": None if fused is None else runs.mean(fused), "against": against}


def sentence(result: Mapping[str, Any]) -> str:
    """The answer, in words."""
    found, metric = result["verdict"], METRICS[result["metric"]]
    if found["fusion"] is None or not found["against"]:
        return "Does fusing pay here? Nothing to tell: no fusion method, or nothing to compare it with, has finished."
    unit = "points" if metric.unit == "%" else metric.column

    def number(value: float, sign: str = "+") -> str:
        return f"{metric.factor * value:{sign}.{metric.decimals}f}"

    parts, answers = [], []
    for one in found["against"]:
        what = "single stream" if one["kind"] == "single" else "simple model"
        interval = "" if one["low"] is None else f" [{number(one['low'])}, {number(one['high'])}]"
        parts.append(f"{number(one['difference'])}{interval} {unit} against the best {what}, {one['fusion']}")
        low, high = (math.nan if value is None else value for value in (one["low"], one["high"]))
        answers.append("yes" if low > 0 else "no" if high < 0 else "open")
    if "no" in answers:
        answer = "No"
    elif set(answers) == {"yes"}:
        answer = "Yes"
    else:
        answer = "Not shown"
    reached = number(found["mean"], "")
    reached = f"{reached} % {metric.title}" if metric.unit == "%" else f"{metric.column} {reached}"
    return (
        f"Does fusing pay here? {answer}: {found['fusion']} reaches {reached}, "
        f"{' and '.join(parts)} (each the best on validation data; 95 % intervals)."
    )


def validation_note(result: Mapping[str, Any]) -> str:
    """A line where validation and test results are far apart; empty where they are not."""
    if result["data"].get("chosen_on_test") or result.get("on") == "valid":
        return ""
    metric = METRICS[result["metric"]]
    far = []
    for entry in result["table"]:
        if entry["kind"] == "fusion" and entry["mean"] is not None and entry["valid"] is not None:
            gap = metric.factor * (entry["valid"] - entry["mean"])
            if abs(gap) > (FAR if metric.unit == "%" else FAR / 100 * abs(entry["mean"])):
                far.append((abs(gap), entry))
    if not far:
        return ""
    _, entry = max(far, key=lambda found: found[0])
    valid, test = (f"{metric.factor * entry[part]:.{metric.decimals}f}" for part in ("valid", "mean"))
    several = f"of {len(far)} methods" if len(far) > 1 else "of one method"
    return (
        f"Validation and test lie far apart ({several}; most for {entry['fusion']}: {valid} against {test}): what is "
        "chosen on validation data says little here. More people or samples in validation, or --folds, would help."
    )
