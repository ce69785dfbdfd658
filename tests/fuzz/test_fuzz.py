import pytest
from fuzzer import FAILURES, fuzz
from readers import READERS


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_no_damaged_file_gets_beyond_one_line(name, tmp_path):
    counts = fuzz(name, 200, tmp_path / "failed", seed=1)
    said = [file.read_text()[-300:] for file in sorted((tmp_path / "failed").glob("*.txt"))[:3]]
    assert not any(counts[kind] for kind in FAILURES), (counts, said)
    assert counts["accepted"] + counts["line"] == 200


@pytest.mark.parametrize("name", ["pickle", "npz", "tgz", "skeleton"])
def test_a_few_damaged_files(name, tmp_path):
    counts = fuzz(name, 8, tmp_path / "failed")
    assert counts["accepted"] + counts["line"] == 8, list(tmp_path.glob("failed/*"))
