import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from msafusion.compare.formats import duration, p_value, quantity
from msafusion.compare.pictures import accuracy_picture, cost_picture, png, robustness_picture
from msafusion.compare.report import caption, html, markdown
from msafusion.compare.tables import Runs, comparison, robustness_table
from msafusion.compare.verdict import verdict

NASTY = "<script>$x_|*"
METHODS = ("msaf", "gmu", "sum", NASTY, "skeleton alone")
KINDS = {"skeleton alone": "single", "SVM (all streams)": "simple"}
CONDITIONS = ("without skeleton", "without inertial", "noise 0.5 on inertial", "skeleton shifted by 0.25")
NUM_SEEDS = 5


def made(methods=METHODS, num_seeds=NUM_SEEDS, metric="accuracy", conditions=CONDITIONS):
    rows, scores = [], {}
    for place, name in enumerate(methods):
        for seed in range(num_seeds):
            scores[name, seed] = (np.arange(50) < 43 - 3 * place + seed).astype(float)
            value = float(scores[name, seed].mean())
            disturbed = {} if name.endswith(" alone") else {each: {metric: value / 2} for each in conditions}
            cost = {"parameters": 10**4 * (place + 1), "flops": 2_500_000, "latency_ms": 1.25, "peak_bytes": 3_000_000}
            rows.append(
                {
                    "fusion": name,
                    "kind": KINDS.get(name, "fusion"),
                    "valid": {metric: value + 0.02},
                    "seed": seed,
                    "metrics": {metric: value},
                    "robustness": disturbed,
                    "cost": cost | {"train_seconds": 90.0 * (place + 1)},
                }
            )
    runs = Runs(rows, scores, np.arange(50) % 10, metric, metric != "mae")
    return {
        "data": {
            "name": "UTD & MHAD",
            "streams": {"skeleton": 60, "inertial": 6},
            "task": "classification",
            "classes": 27,
            "num_samples": {"train": 345, "valid": 86, "test": 50},
            "num_tested": 50,
            "num_groups": 10,
            "chosen_on_test": False,
        },
        "metric": metric,
        "higher_is_better": metric != "mae",
        "seeds": list(range(num_seeds)),
        "tune": 0,
        "rows": rows,
        "left_out": [],
        "verdict": verdict(runs),
        "table": comparison(runs),
        "robustness": robustness_table(runs),
    }


RESULT = made()


class Page(HTMLParser):
    """The tags that are open, the cells, and what is loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.sources, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


def test_page_is_whole_and_loads_nothing():
    page = Page(html(RESULT, {"accuracy": b"one", "other": b"two"}))
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("table") == 3
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for name in METHODS:
        assert page.cells.count(name) == (2 if name.endswith(" alone") else 3)


def test_page_marks_the_best_and_single_streams():
    page = html(RESULT, {})
    assert "<strong>msaf</strong>" in page
    assert "<strong>sum</strong>" not in page
    assert '<tr class="single"><td>skeleton alone</td>' in page


def test_the_answer_comes_first_and_what_was_left_out_is_told():
    left = "trees (skeleton) was left out: it would take long"
    for text in (markdown(RESULT | {"left_out": [left]}), html(RESULT | {"left_out": [left]}, {})):
        assert text.index("Does fusing pay here? Yes: msaf reaches 90.0 % accuracy") < text.index(
            "classification of 27"
        )
        assert left in text


def test_markdown_tables_are_even_and_name_every_method():
    text = markdown(RESULT)
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "&lt;script&gt;$x_\\|\\*" in text
    assert "<script>" not in text
    assert "| *skeleton alone* |" in text


def test_figures_of_the_main_table():
    # msaf: 43 to 47 of 50 right, gmu 3 fewer each
    line = next(line for line in markdown(RESULT).splitlines() if line.startswith("| **msaf**"))
    assert "| **90.0 ± 3.2 [" in line
    assert "]** | 92.0 | +6.0 [" in line
    assert "| 0.005 |" in line
    assert "| **msaf** | 10 k | 2.5 M | 1.25 ms | 3 MB | 1.5 min |" in markdown(RESULT)


def test_robustness_averages_kinds_of_disturbance():
    table = markdown(RESULT).split("### Robustness")[1]
    assert "| method | undisturbed | missing stream, mean | without skeleton | without inertial | noise 0.5 on" in table
    assert "| **msaf** | **90.0** | 45.0 | 45.0 | 45.0 | 45.0 | 45.0 |" in table
    assert "Robustness" not in markdown(RESULT | {"robustness": []})


def test_regression_of_one_seed():
    result = made(num_seeds=1, metric="mae")
    text = markdown(result)
    assert "lower is better" in text
    assert "| 0.860 [" in text
    assert "None" not in text
    assert "nan" not in text


def test_caption_admits_what_was_chosen_on_test_data():
    assert "tested once" in caption(RESULT)
    assert "345 train, 86 valid, 50 test" in caption(RESULT)
    admitted = caption(RESULT | {"data": RESULT["data"] | {"chosen_on_test": True}, "tune": 8})
    assert "too good" in admitted
    assert "tested once" not in admitted
    assert "8 trials" in admitted


def test_numbers_are_written_for_people():
    written = [quantity(value) for value in (0, 7, 999, 1250, 999_600, 1_250_000, 3e9)]
    assert written == ["0", "7", "999", "1.25 k", "1 M", "1.25 M", "3 G"]
    assert [duration(value) for value in (0.5, 59, 90, 5400)] == ["0.5 s", "59 s", "1.5 min", "1.5 h"]
    assert [p_value(value) for value in (None, 0.0002, 0.04999, 1.0)] == ["\u2013", "<0.001", "0.050", "1.000"]


def points(figure, gid):
    return sum(len(found.get_offsets()) for axes in figure.axes for found in axes.collections if found.get_gid() == gid)


def test_accuracy_picture_has_a_dot_each_seed():
    figure = accuracy_picture(RESULT)
    assert points(figure, "seeds") == len(METHODS) * NUM_SEEDS
    (axes,) = figure.axes
    assert sum(line.get_gid() == "interval" for line in axes.lines) == len(METHODS)
    assert [label.get_text() for label in axes.get_yticklabels()] == [entry["fusion"] for entry in RESULT["table"]]
    assert points(accuracy_picture(made(num_seeds=1)), "seeds") == len(METHODS)


def test_cost_picture_has_a_point_a_method_and_no_name_upon_another():
    result = made(methods=[f"method {number}" for number in range(12)])
    figure = cost_picture(result)
    assert points(figure, "methods") == 2 * 12
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 12
        assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_cost_picture_names_what_is_far_worse():
    table = [entry | ({"mean": 0.01} if entry["kind"] == "single" else {}) for entry in RESULT["table"]]
    figure = cost_picture(RESULT | {"table": table})
    assert points(figure, "methods") == 2 * (len(METHODS) - 1)
    assert "skeleton alone 1.0" in figure.get_supxlabel()


def test_robustness_picture_has_a_cell_a_condition():
    figure = robustness_picture(RESULT)
    cells = figure.axes[0].images[0].get_array()
    assert cells.shape == (len(METHODS) - 1, len(CONDITIONS))
    assert cells[0, 0] == pytest.approx(45.0)
    assert png(figure).startswith(b"\x89PNG")


def test_results_page(tmp_path):
    file = Path(__file__).parents[2] / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("benchmark_results", file)
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    with pytest.raises(ValueError, match=r"no \.json file"):
        results.write(tmp_path)
    (tmp_path / "results").mkdir()
    small = made(methods=("msaf", "sum"), conditions=())
    (tmp_path / "results" / "utd.json").write_text(json.dumps(small))
    (tmp_path / "results" / "utd.md").write_text("Of two hands.\n")
    text = results.write(tmp_path).read_text()
    assert (
        "## UTD & MHAD\n\nOf two hands.\n\n```sh\nmake results/utd.json DATA=...\n```\n\nDoes fusing pay here?" in text
    )
    plots = re.findall(r"\]\((.*?)\)", text)
    assert plots == ["plots/utd-accuracy.png", "plots/utd-cost.png"]
    assert all((tmp_path / "docs" / plot).read_bytes().startswith(b"\x89PNG") for plot in plots)
    (tmp_path / "results" / "utd.json").write_text("{}")
    with pytest.raises(ValueError, match="has no 'data'"):
        results.write(tmp_path)
