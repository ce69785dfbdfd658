"""Pictures of samples: what is drawn, and what is said where nothing can be."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from msafusion.commands.plot import run_plot
from msafusion.data.media import WHOLE, Extracted, Extractor
from msafusion.data.preparation.prepared import write_prepared
from msafusion.data.preparation.raw import RawItem, RawReader
from msafusion.failures import DataError
from msafusion.plots import plot_item, plot_prepared, plot_sample

RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (3, 20, 12, 16), dtype=np.uint8)


def rows(figure):
    return [row._suptitle.get_text() for row in figure.subfigs]


def shown(row):
    return [axes for axes in row.axes if axes.get_visible()]


def test_rows_by_layout():
    streams = {
        "video": VIDEO,
        "skeleton": RNG.normal(size=(30, 60)),
        "inertial": RNG.normal(size=(40, 6)).astype(np.float32),
        "bodies": RNG.normal(size=(3, 5, 25, 2)),
        "audio": RNG.normal(size=(13, 50)),
        "text": RNG.normal(size=100),
    }
    layouts = {"skeleton": "sequence", "inertial": "sequence"}
    figure = plot_sample(streams, layouts=layouts, title="a", rates={"video": 10.0, "inertial": 50.0})
    assert rows(figure)[0] == "video: video, uint8 3 x 20 x 12 x 16"
    assert rows(figure)[2] == "inertial: sequence, float32 40 x 6"
    video, skeleton, inertial, bodies, audio, text = figure.subfigs
    assert [axes.get_xlabel() for axes in video.axes][:2] == ["0.00 s", "0.30 s"]
    assert len(shown(video)) == len(shown(skeleton)) == 8
    assert len(shown(bodies)) == 5
    assert len(skeleton.axes[0].lines) == 19
    assert len(bodies.axes[0].lines) == 2 * 24
    np.testing.assert_array_equal(video.axes[7].images[0].get_array(), VIDEO[:, 19].transpose(1, 2, 0))
    assert len(inertial.axes[0].lines) == 6
    np.testing.assert_allclose(inertial.axes[0].lines[2].get_ydata(), streams["inertial"][:, 2])
    assert inertial.axes[0].get_xlabel() == "time (s)"
    assert inertial.axes[0].lines[0].get_xdata()[-1] == pytest.approx(39 / 50)
    np.testing.assert_array_equal(audio.axes[0].images[0].get_array(), streams["audio"])
    assert audio.axes[0].get_xlabel() == "time step"
    assert len(text.axes[0].patches) == 100


def test_absent_body_and_short_or_grey_video():
    bodies = RNG.normal(size=(3, 3, 25, 2))
    bodies[..., 1] = 0
    figure = plot_sample({"skeleton": bodies, "depth": VIDEO[:1, :1]})
    assert len(figure.subfigs[0].axes[0].lines) == 24
    assert len(shown(figure.subfigs[1])) == 1
    assert plot_sample({"skeleton": 0 * bodies}).subfigs[0].axes[0].lines[:] == []


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="got no stream"):
        plot_sample({})
    with pytest.raises(ValueError, match=r"stream 'audio' has shape \(13, 0\)"):
        plot_sample({"audio": np.zeros((13, 0))})


@pytest.fixture
def prepared(tmp_path):
    row = {"id": "v$_$1", "label": 1, "group": "7"}
    arrays = {"video": VIDEO[:, :2], "audio": RNG.normal(size=(50, 13)).astype(np.float32)}
    write_prepared(tmp_path / "prepared", "ravdess", ["sad", "happy"], {"video": 3, "audio": 13}, [(row, arrays)])
    return tmp_path / "prepared"


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_prepared_sample_becomes_a_picture(prepared, tmp_path, ending, magic):
    file = tmp_path / f"a.{ending}"
    plot_prepared(prepared, "v$_$1", file)
    assert file.read_bytes().startswith(magic)
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "prepared"]


def test_layouts_are_those_of_the_folder(prepared, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("msafusion.plots._save", lambda figure, file: drawn.append(figure))
    plot_prepared(prepared, "v$_$1", tmp_path / "a.png")
    assert rows(drawn[0])[1] == "audio: sequence, float32 50 x 13"
    assert drawn[0]._suptitle.get_text() == "v$_$1: 'happy', group 7"
    info = json.loads((prepared / "info.json").read_text())
    info["layouts"] = {"video": "map", "audio": "sequence"}
    (prepared / "info.json").write_text(json.dumps(info))
    plot_prepared(prepared, "v$_$1", tmp_path / "a.png")
    assert rows(drawn[1])[0].startswith("video: map")


def test_command(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_plot([str(prepared), "v$_$1"])
    assert (tmp_path / "v$_$1.png").stat().st_size > 10_000
    assert "drawn in" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no sample 'v\$_\$2' in .*did you mean 'v\$_\$1'"):
        run_plot([str(prepared), "v$_$2"])
    with pytest.raises(ValueError, match=r"'a.jpeg'.* .png, .pdf, .svg"):
        run_plot([str(prepared), "v$_$1", "--out", "a.jpeg"])
    with pytest.raises(ValueError, match="no folder 'nowhere'"):
        run_plot([str(prepared), "v$_$1", "--out", "nowhere/a.png"])
    with pytest.raises(DataError, match=r"no info.json in"):
        run_plot([str(tmp_path), "v$_$1"])
    (prepared / "audio/v$_$1.npy").unlink()
    with pytest.raises(DataError, match=r"no file '.*v\$_\$1.npy', expected a stored array"):
        run_plot([str(prepared), "v$_$1"])
    (prepared / "info.json").write_text("[]")
    with pytest.raises(DataError, match=r"info\.json' cannot be read"):
        run_plot([str(prepared), "v$_$1"])


@dataclass(frozen=True)
class Waveform(Extractor):
    """A stored waveform (1, time)."""

    layout = "map"
    channels = 1

    def __call__(self, file, *, span=WHOLE, companion=None):
        return Extracted(np.load(file), ["it hums"])

    def probe(self, file):
        return None


class Hums(RawReader):
    """A folder of waveforms."""

    dataset = "hums"

    def __init__(self, source: Path) -> None:
        self.source, self.classes, self.extraction = source, [], {"sound": Waveform()}

    def items(self):
        return [RawItem(file.stem, 0.5, "me", {"sound": file}) for file in sorted(self.source.glob("*.npy"))]

    def missing(self):
        return []


def test_raw_sample(tmp_path, monkeypatch):
    np.save(tmp_path / "one.npy", RNG.normal(size=(1, 30)))
    plot_item(Hums(tmp_path), "one", tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5_000
    drawn = []
    monkeypatch.setattr("msafusion.plots._save", lambda figure, file: drawn.append(figure))
    plot_item(Hums(tmp_path), "one", tmp_path / "one.png")
    assert drawn[0]._suptitle.get_text() == "one: label 0.5, group me\nsound: it hums"
    with pytest.raises(ValueError, match=r"no sample 'ones' in .*did you mean 'one'"):
        plot_item(Hums(tmp_path), "ones", tmp_path / "one.png")
