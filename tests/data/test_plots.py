"""Pictures of samples: what is drawn, and what is said where nothing can be."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from msafusion.commands.plot import run_plot
from msafusion.data.datasets import RAVDESS, Dataset
from msafusion.data.media import WHOLE, Extracted, Extractor
from msafusion.data.plots import plot_sample, save_figure
from msafusion.data.preparation.prepared import write_prepared
from msafusion.data.preparation.raw import RawItem
from msafusion.failures import DataError

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
    layouts = {"video": "video", "audio": "sequence"}
    channels = {"video": 3, "audio": 13}
    write_prepared(tmp_path / "prepared", "RAVDESS", ["sad", "happy"], channels, [(row, arrays)], layouts)
    return tmp_path / "prepared"


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_figure_becomes_a_picture(tmp_path, ending, magic):
    file = tmp_path / f"a.{ending}"
    save_figure(plot_sample({"audio": np.ones((13, 4))}), file)
    assert file.read_bytes().startswith(magic)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_layouts_are_those_of_the_folder(prepared):
    data = RAVDESS(prepared)
    figure = data.plot(data.sample("v$_$1"))
    assert rows(figure)[1] == "audio: sequence, float32 50 x 13"
    assert figure._suptitle.get_text() == "v$_$1: 'happy', group 7"


def test_command(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["RAVDESS", str(prepared), "v$_$1"]
    run_plot(given)
    assert (tmp_path / "v$_$1.png").stat().st_size > 10_000
    assert "drawn in" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no sample 'v\$_\$2' in .*did you mean 'v\$_\$1'"):
        run_plot([*given[:2], "v$_$2"])
    with pytest.raises(ValueError, match=r"'a.jpeg'.* .png, .pdf, .svg"):
        run_plot([*given, "--out", "a.jpeg"])
    with pytest.raises(ValueError, match="no folder 'nowhere'"):
        run_plot([*given, "--out", "nowhere/a.png"])
    with pytest.raises(DataError, match=r"no clip of RAVDESS in"):
        run_plot(["RAVDESS", str(tmp_path), "v$_$1"])
    (prepared / "audio/v$_$1.npy").unlink()
    with pytest.raises(DataError, match=r"no file '.*v\$_\$1.npy', expected the audio of sample"):
        run_plot(given)
    (prepared / "info.json").write_text("[]")
    with pytest.raises(DataError, match=r"info\.json' cannot be read"):
        run_plot(given)


@dataclass(frozen=True)
class Waveform(Extractor):
    """A stored waveform (1, time)."""

    layout = "map"
    channels = 1

    def __call__(self, file, *, span=WHOLE, companion=None):
        return Extracted(np.load(file), ["it hums"])

    def probe(self, file):
        return None


class Hums(Dataset):
    """A folder of waveforms."""

    def __init__(self, root: Path) -> None:
        self.root, self.extraction = root, {"sound": Waveform()}

    def items(self):
        return [RawItem(file.stem, 0.5, "me", {"sound": file}) for file in sorted(self.root.glob("*.npy"))]


def test_raw_sample(tmp_path, caplog):
    np.save(tmp_path / "one.npy", RNG.normal(size=(1, 30)))
    data = Hums(tmp_path)
    figure = data.plot(data.sample("one"))
    assert rows(figure) == ["sound: map, float64 1 x 30"]
    assert figure._suptitle.get_text() == "one: label 0.5, group me"
    assert "sample 'one': sound: it hums" in caplog.text
    with pytest.raises(ValueError, match=r"no sample 'ones' in .*did you mean 'one'"):
        data.sample("ones")
