import json
import math

from msafusion.files.json_file import write_json


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_what_is_not_defined_is_null_and_every_name_is_json(tmp_path):
    file = tmp_path / "metrics.json"
    write_json(file, {"pearson": math.nan, "rows": [{"r2": (-math.inf, 1.5)}], "name": "donn\udce9es é"})
    assert json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse) == {
        "pearson": None,
        "rows": [{"r2": [None, 1.5]}],
        "name": "donn\udce9es é",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
