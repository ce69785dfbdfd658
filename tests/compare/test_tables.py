"""The tables that runs become, and the sentence above them."""

import json

import numpy as np
import pytest

from msafusion.compare.pooling import pool
from msafusion.compare.statistics import estimate, holm
from msafusion.compare.tables import Runs, comparison, robustness_table
from msafusion.compare.verdict import sentence, validation_note, verdict

NUM = 60
KINDS = {"alone": "single", "(all)": "simple"}


def row(fusion, seed, value, metric="accuracy", robustness=None, valid=None, **more):
    return {
        "fusion": fusion,
        "kind": KINDS.get(fusion.split(" ")[-1], "fusion"),
        "seed": seed,
        "valid": {metric: value if valid is None else valid},
        "metrics": {metric: value},
        "robustness": {name: {metric: number} for name, number in (robustness or {}).items()},
        **more,
    }


def runs_of(right, units=None, valid=None, folds=None):
    """Runs with so many right answers of 60, by method and seed."""
    draw = np.random.default_rng(0)
    order = draw.permutation(NUM)
    scores = {(name, seed): order < some[seed] for name, some in right.items() for seed in range(len(some))}
    rows = [row(name, seed, score.mean(), valid=(valid or {}).get(name)) for (name, seed), score in scores.items()]
    units = np.arange(NUM) if units is None else units
    return Runs(rows, {key: score.astype(float) for key, score in scores.items()}, units, "accuracy", True, folds)


RIGHT = {
    "sum": [40, 41, 42, 40, 42],
    "msaf": [52, 55, 53, 53, 54],
    "gmu": [53, 52, 53, 53, 54],
    "skeleton alone": [20, 24, 21, 20, 20],
    "SVM (all)": [45],
}


def test_comparison_sorts_and_compares():
    runs = runs_of(RIGHT)
    table = comparison(runs)
    entries = {entry["fusion"]: entry for entry in table}
    assert list(entries) == ["msaf", "gmu", "SVM (all)", "sum", "skeleton alone"]
    assert [entry["kind"] for entry in table] == ["fusion", "fusion", "simple", "fusion", "single"]
    assert entries["msaf"]["versus_best"]["fusion"] == "gmu"
    assert entries["gmu"]["versus_best"]["fusion"] == "msaf"
    assert entries["sum"]["versus_sum"] is None
    pairs = np.stack([runs.scores["gmu", seed] - runs.scores["msaf", seed] for seed in range(5)])
    expected = estimate(pairs, runs.units)
    found = entries["gmu"]["versus_best"]
    assert (found["difference"], found["low"], found["high"], found["p"]) == pytest.approx(expected)
    assert [entry["tied_for_best"] for entry in table] == [True, True, False, False, False]
    others = [entry["versus_sum"] for entry in table if entry["versus_sum"]]
    assert [one["p_holm"] for one in others] == holm([one["p"] for one in others])
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_a_simple_model_counts_for_every_seed():
    runs = runs_of(RIGHT)
    found = runs.versus("msaf", "SVM (all)")
    expected = np.stack([runs.scores["msaf", seed] - runs.scores["SVM (all)", 0] for seed in range(5)])
    assert (found["difference"], found["p"]) == pytest.approx((expected.mean(), estimate(expected, runs.units).p))
    assert runs.versus("SVM (all)", "msaf")["difference"] == pytest.approx(-expected.mean())


def test_a_simple_model_can_be_the_best():
    table = comparison(runs_of({**RIGHT, "SVM (all)": [59]}))
    assert [entry["fusion"] for entry in table if entry["tied_for_best"]] == ["SVM (all)"]
    few = comparison(runs_of({**{name: some[:2] for name, some in RIGHT.items()}, "SVM (all)": [59]}))
    assert not any(entry["tied_for_best"] for entry in few)


def test_the_sum_may_have_another_name():
    right = {"late" if name == "sum" else name: of for name, of in RIGHT.items()}
    table = comparison(runs_of(right), "late")
    assert {entry["versus_sum"]["fusion"] for entry in table if entry["versus_sum"]} == {"late"}


def test_nothing_is_tested_or_marked_with_fewer_than_five_runs():
    table = comparison(runs_of({name: some[:2] for name, some in RIGHT.items()}))
    assert not any(entry["tied_for_best"] for entry in table)
    assert all(entry["versus_best"]["p"] is None for entry in table)
    assert table[0]["versus_best"]["low"] is not None


def test_folds_count_as_runs_and_are_drawn_again_for_a_single_seed():
    folds = np.repeat(np.arange(5), NUM // 5)
    runs = runs_of({name: some[:1] for name, some in RIGHT.items()}, folds=folds)
    for one in runs.rows:
        one["num_folds"] = 5
    table = comparison(runs)
    assert table[0]["num_runs"] == 5
    assert table[0]["versus_sum"]["p"] is not None
    expected = estimate((runs.scores["gmu", 0] - runs.scores["sum", 0])[None], folds)
    assert table[0]["versus_sum"]["p"] == pytest.approx(expected.p)


def test_people_count_rather_than_their_samples():
    right = {"sum": [40] * 5, "msaf": [48] * 5}
    samples = comparison(runs_of(right))[0]["versus_sum"]
    people = comparison(runs_of(right, units=np.arange(NUM) % 3))[0]["versus_sum"]
    assert people["high"] - people["low"] > samples["high"] - samples["low"]


def test_comparison_where_lower_is_better():
    rows = [row(name, 0, value, "mae") for name, value in {"sum": 0.7, "msaf": 0.5, "text alone": 0.9}.items()]
    scores = {(one["fusion"], 0): np.full(4, -one["metrics"]["mae"]) + [0.1, -0.1, 0.0, 0.0] for one in rows}
    table = comparison(Runs(rows, scores, np.arange(4), "mae", False))
    assert [entry["fusion"] for entry in table] == ["msaf", "sum", "text alone"]
    assert table[0]["versus_sum"]["difference"] == pytest.approx(0.2)
    assert table[0]["low"] < 0.5 < table[0]["high"]


def test_comparison_without_common_seeds_or_after_divergence():
    rows = [row("sum", 0, 0.5), row("msaf", 1, 0.6), row("gmu", 0, None), row("gmu", 1, 0.9)]
    table = comparison(Runs(rows, {}, np.arange(0), "accuracy", True))
    assert [entry["fusion"] for entry in table] == ["msaf", "sum", "gmu"]
    assert table[0]["versus_sum"] is None
    assert table[2]["mean"] is None
    assert not table[2]["tied_for_best"]
    json.dumps(table, allow_nan=False)


def test_costs_are_means_of_what_is_known():
    costs = {"flops": 10, "peak_bytes": None}, {"flops": 20, "latency_ms": 3.0}
    rows = [row("sum", seed, 0.5, cost=cost) for seed, cost in enumerate(costs)]
    (entry,) = comparison(Runs(rows, {}, np.arange(0), "accuracy", True))
    assert (entry["flops"], entry["latency_ms"], entry["peak_bytes"]) == (15.0, 3.0, None)


def test_robustness_loss_is_positive_where_worse():
    rows = [
        row("msaf", 0, 0.9, robustness={"without audio": 0.7, "noise 0.5 on audio": 0.9}),
        row("msaf", 1, 0.8, robustness={"without audio": 0.5}),
        row("audio alone", 0, 0.4),
    ]
    first, second = robustness_table(Runs(rows, {}, np.arange(0), "accuracy", True))
    assert (first["fusion"], first["condition"], first["num_seeds"]) == ("msaf", "without audio", 2)
    assert (first["mean"], first["loss"]) == pytest.approx((0.6, 0.25))
    assert (second["num_seeds"], second["std"], second["loss"]) == (1, None, 0.0)
    worse_rows = [row("sum", 0, 0.5, "mae", {"without text": 0.8})]
    (worse,) = robustness_table(Runs(worse_rows, {}, np.arange(0), "mae", False))
    assert worse["loss"] == pytest.approx(0.3)


def test_folds_become_one_row_weighted_by_their_samples():
    folds = [
        row("sum", 0, 0.5, robustness={"without a": 0.2}, fold=0, cost={"train_seconds": 2}, scores=[1, 0]),
        row("sum", 0, 0.8, robustness={"without a": 0.4}, fold=1, cost={"train_seconds": 4}, scores=[1, 1, 1]),
        row("gmu", 0, 0.9, fold=0, cost={}, scores=[1, 1]),
    ]
    (found,) = pool(folds, {0: 2, 1: 3})  # gmu has no second fold
    assert found["metrics"]["accuracy"] == pytest.approx((2 * 0.5 + 3 * 0.8) / 5)
    assert found["robustness"]["without a"]["accuracy"] == pytest.approx((2 * 0.2 + 3 * 0.4) / 5)
    assert (found["scores"], found["cost"]["train_seconds"], found["num_folds"]) == ([1, 0, 1, 1, 1], 3, 2)
    assert [fold["metrics"]["accuracy"] for fold in found["folds"]] == [0.5, 0.8]
    folds[1]["metrics"]["accuracy"] = None  # it diverged in one
    assert pool(folds, {0: 2, 1: 3})[0]["metrics"]["accuracy"] is None


def result_of(runs, **more):
    return {"metric": "accuracy", "data": {}, "table": comparison(runs), "verdict": verdict(runs), **more}


@pytest.mark.parametrize(
    ("right", "valid", "answer", "named"),
    [
        (RIGHT, {}, "Yes", ["msaf", "skeleton alone", "SVM (all)", "53.4 points"]),
        (RIGHT, {"gmu": 0.99}, "Yes", ["gmu", "88.3 % accuracy"]),  # chosen on validation, not on the test
        ({**RIGHT, "SVM (all)": [53]}, {}, "Not shown", ["SVM (all)"]),
        ({**RIGHT, "SVM (all)": [60]}, {}, "No", ["SVM (all)"]),
        ({"sum": [40] * 5}, {}, "Nothing to tell", []),
    ],
)
def test_the_answer_comes_in_one_sentence(right, valid, answer, named):
    text = sentence(result_of(runs_of(right, valid=valid)))
    assert text.startswith(f"Does fusing pay here? {answer}")
    assert all(name in text for name in named if "points" not in name)


def test_far_validation_is_told():
    near = result_of(runs_of(RIGHT))
    assert validation_note(near) == ""
    far = result_of(runs_of(RIGHT, valid={"msaf": 0.995}))
    assert "99.5 against 89.0" in validation_note(far)
    assert validation_note(far | {"on": "valid"}) == ""
