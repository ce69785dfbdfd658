"""`msafusion prepare` and `msafusion verify`: options of each data set, what is printed, and the status."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from msafusion import cli
from msafusion.data.datasets import DATASETS, Dataset
from msafusion.data.media import WHOLE, Extracted, Extractor
from msafusion.data.preparation.raw import RawItem
from msafusion.failures import DataError


@dataclass(frozen=True)
class Numbers(Extractor):
    """A sequence (time, 2) of an .npy file."""

    scale: float = 1.0

    layout = "sequence"
    channels = 2

    def __call__(self, file, *, span=WHOLE, companion=None):
        if file.stat().st_size == 6:
            raise KeyboardInterrupt
        self.probe(file)
        return Extracted(np.load(file) * self.scale)

    def probe(self, file):
        try:
            return len(np.load(file)) / 2
        except ValueError:
            raise DataError(f"'{file}' is no array; save it again.") from None


class Files(Dataset):
    """A folder of .npy files.

    Args:
        root: the folder.
        scale: what the numbers are multiplied by.
    """

    reading = ("scale",)

    def __init__(self, root: Path, scale: float = 1.0, fold: int = 1) -> None:
        self.root, self.scale = root, scale
        self.extraction = {"numbers": Numbers(scale)}

    def items(self):
        return [RawItem(f.stem, 0.5, "g", {"numbers": f}) for f in sorted(self.root.glob("*.npy"))]

    def missing(self):
        return [f"no '{self.root / name}'" for name in ("p.npy", "q.npy") if not (self.root / name).exists()]


@pytest.fixture(autouse=True)
def _command(monkeypatch):
    monkeypatch.setitem(DATASETS, "Files", Files)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in "pqr":
        np.save(folder / f"{name}.npy", np.ones((4, 2)))
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments):
        """Status, or the line of the error, and what was printed."""
        monkeypatch.setattr(sys, "argv", ["msafusion", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize(("options", "value"), [(["Files"], 1), (["Files", "--scale", "3"], 3)])
def test_prepare_takes_the_options_of_the_data_set(command, source, tmp_path, options, value):
    name, *options = options
    status, text = command("prepare", name, source, tmp_path / "out", *options)
    assert status == 0
    assert "prepared" in text
    assert np.load(tmp_path / "out" / "numbers" / "p.npy").max() == value
    assert json.loads((tmp_path / "out" / "report.json").read_text())["prepared"] == 3


def test_a_failed_file_makes_the_status_non_zero(command, source, tmp_path):
    (source / "q.npy").write_bytes(b"text")
    status, text = command("prepare", "Files", source, tmp_path / "out")
    assert "1 sample failed" in str(status)
    assert f"\n{tmp_path}/out:\n" in f"\n{text}"
    assert f"'{source}/q.npy' is no array; save it again." in text
    assert len((tmp_path / "out" / "samples.csv").read_text().splitlines()) == 3


def test_ctrl_c_says_how_to_go_on(command, source, tmp_path):
    (source / "q.npy").write_bytes(b"ctrl-c")
    status, text = command("prepare", "Files", source, tmp_path / "out")
    assert status == 130
    assert f"'{tmp_path}/out'; run the same command again" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "no data set, expected one of MOSEI, MOSI, Manifest"),
        (["prepare", "files"], "unknown data set 'files'; did you mean 'Files'?"),
        (["verify", "ravdess"], "unknown data set 'ravdess'; did you mean 'RAVDESS'?"),
        (["plot", "utd_mhad"], "unknown data set 'utd_mhad'; did you mean 'UTDMHAD'?"),
        (["prepare", "Arrays", "a.npz", "OUT"], "Arrays has no raw files"),
        (["prepare", "Files", "nowhere", "OUT", "--fold", "2"], "unknown option --fold"),
        (["prepare", "Files", "nowhere"], "target"),
        (["prepare", "Files", "nowhere", "OUT"], "no sample of Files in 'nowhere'"),
        (["prepare", "Files", "nowhere", "OUT", "--scale", "big"], "scale"),
        (["prepare", "Files", "nowhere", "OUT", "--workers", "0"], "workers is 0"),
        (["prepare", "Files", "nowhere", "OUT", "--engine", "spark"], "engine"),
    ],
)
def test_mistakes_end_in_one_line(command, tmp_path, arguments, message):
    status, _ = command(*(str(tmp_path / "out") if word == "OUT" else word for word in arguments))
    assert message in str(status)
    assert "\n" not in str(status)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("prepare", "--help"), ("prepare", "Files", "--help"), ("verify", "--help")])
def test_help_names_data_sets_and_their_options(command, arguments):
    status, text = command(*arguments)
    assert status == 0
    assert "RAVDESS" in text or "what the numbers are multiplied by" in text


def test_verify_names_every_file(command, source, tmp_path):
    status, text = command("verify", "Files", source)
    assert status == 0
    assert "decoded only at their start; --thorough" in text
    assert text.endswith("\nsamples: 3\nnumbers: 3\nbroken: 0\nmissing: 0\nskipped: 0\n")
    (source / "q.npy").unlink()
    for number in range(22):
        (source / f"x{number}.npy").write_bytes(b"text")
    status, text = command("verify", "Files", source, "--out", tmp_path / "found.json")
    assert f"22 broken, 1 missing; see '{tmp_path}/found.json'." in str(status)
    assert f"no '{source}/q.npy'" in text
    assert text.count("is no array") == 20
    assert "and 2 more" in text
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["ok"], len(found["broken"]), found["present"]) == (False, 22, {"samples": 24, "numbers": 2})


def test_verify_reads_prepared_folders(command, source, tmp_path):
    command("prepare", "Files", source, tmp_path / "out")
    assert command("verify", "Files", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "numbers" / "p.npy").unlink()
    status, text = command("verify", "Files", tmp_path / "out")
    assert "1 broken, 0 missing; see above." in str(status)
    assert "numbers/p.npy" in text


def test_a_thorough_look_reads_files_whole_and_writes_nothing(command, source):
    np.save(source / "q.npy", np.full((4, 2), np.nan))
    (source / "r.npy").write_bytes(b"text")
    assert "1 broken" in str(command("verify", "Files", source)[0])
    status, text = command("verify", "Files", source, "--thorough")
    assert "2 broken" in str(status)
    assert "--thorough" not in text
    assert re.search(r"sample 'q': '.*q\.npy': stream 'numbers' holds NaN", text)
    assert {file.name for file in source.iterdir()} == {"p.npy", "q.npy", "r.npy"}


def test_verifying_tells_how_far_it_is_off_a_terminal(command, source, tmp_path, monkeypatch):
    monkeypatch.setattr("msafusion.data.preparation.progress.SECONDS_BETWEEN_LINES", 0)
    command("prepare", "Files", source, tmp_path / "out")
    assert "verifying: 3/3" in command("verify", "Files", tmp_path / "out")[1]
