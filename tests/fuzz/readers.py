"""Every reader of foreign bytes that docs/security.md lists, with a valid miniature of what it reads."""

import functools
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import miniatures as mini
import numpy as np
import pyarrow
import pyarrow.parquet
import saved_models
import scipy.io
import torch
from safetensors.numpy import save_file

from msafusion import FusedNetwork
from msafusion.checkpoints.weights import read_weights
from msafusion.commands.recipe_options import parse_recipe, train_parser
from msafusion.compare.config import Method
from msafusion.compare.folder import _check_recipe
from msafusion.compare.jobs import Job
from msafusion.data.datasets.arrays import Arrays
from msafusion.data.datasets.mosei import MOSEI
from msafusion.data.datasets.mosei_raw import read_folds
from msafusion.data.datasets.ntu_rgbd import _read_list
from msafusion.data.datasets.table_file import read_manifest
from msafusion.data.datasets.unpickle import load_plain_npy
from msafusion.data.download.downloading import _earlier
from msafusion.data.download.unpack import is_unpacked, unpack
from msafusion.data.media import Frames, ImageFile, Mfcc
from msafusion.data.media.matlab import read_variable
from msafusion.data.media.skeleton import NtuSkeleton
from msafusion.data.media.stored import read_array
from msafusion.data.preparation.journal import Journal, read_settings
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.predict.inputs import recordings
from msafusion.predict.model import TrainedModel, load
from msafusion.predict.prediction import Failed
from msafusion.training.stage import _read_checkpoint


@dataclass(frozen=True)
class Reader:
    """How a miniature is written into a folder (it gives the file that is damaged), and read."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]


def _read_fused(file: Path) -> None:
    net = FusedNetwork.from_pretrained(file.parent, networks=mini.fused_parts())
    net({name: torch.ones(2, 3) for name in "ab"})


def _read_arrays(file: Path) -> None:
    splits = Arrays(file).splits()
    for part in (splits.train, splits.valid, splits.test):
        part[0]


def _read_pickle(file: Path) -> None:
    reader = MOSEI(file)
    for item in reader.items():
        reader.read(item)


def _read_sdk(file: Path) -> None:
    reader = MOSEI(file.parent, text_model="none")
    for item in reader.items()[:2]:
        reader.read(item)


def _read_prepared(file: Path) -> None:
    root = file.parent if (file.parent / "info.json").is_file() else file.parent.parent
    folder = PreparedFolder(root, "toys")
    folder.check_files()
    folder.samples(folder.rows)[0]


def _read_journal(file: Path) -> None:
    journal = Journal(file.parent, io.StringIO())
    journal.has({"id": "s0", "files": {"words": ["a.npy", 100, 1]}, "row": {"label": 0}}, {"words": 2})
    journal.clear()


def _read_face(file: Path) -> None:
    Frames(num_frames=4, size=16, face="crop")(file.with_suffix(".avi"), companion=file)


@functools.cache
def _signal_model() -> TrainedModel:
    with tempfile.TemporaryDirectory() as folder:
        saved_models.write_signal_model(Path(folder))
        return load(folder)


def _read_lines(file: Path) -> None:
    """What goes beyond one line has a traceback; others belong to the lines, not to the file."""
    with file.open(encoding="utf-8", errors="surrogateescape") as opened:  # as the command does
        for made in recordings(["-"], _signal_model(), opened):
            if isinstance(made, Failed) and made.trace:
                raise AssertionError(made.trace)


LINES = '{"id": "a", "motion": "x.npy", "sound": "y.npy"}\n"z.npz"\n{"file": "z.npz"}\n' * 3
frames = Frames(num_frames=4, size=16, face="none")
sound = Mfcc(rate=8000, offset=0.0, seconds=None)
weights = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}
SETTINGS = {
    "dataset": "toys",
    "source": "/raw",
    "settings": {"a": 1},
    "streams": {"words": 2},
    "layouts": {},
    "versions": {},
}
RUN = [{"seed": 0, "fusion": "sum", "valid": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}]
READERS: dict[str, Reader] = {
    "recipe": Reader(
        mini.saved("x.yaml", mini.recipe), lambda file: parse_recipe(train_parser(), ["--config", str(file)])
    ),
    "checkpoint": Reader(mini.saved("last.ckpt", mini.checkpoint), _read_checkpoint),
    "settings": Reader(mini.saved("settings.json", mini.as_json(SETTINGS)), lambda file: read_settings(file.parent)),
    "journal": Reader(mini.saved("journal.jsonl", mini.journal), _read_journal),
    "compare_recipe": Reader(
        mini.saved("recipe.json", mini.as_json({"data": "x", "seeds": [1, 2], "multimodal": {"epochs": 1}})),
        lambda file: _check_recipe(file.parent, {"data": "x", "seeds": [1, 2], "multimodal": {"epochs": 1}}),
    ),
    "compare_run": Reader(
        lambda folder: mini.saved("runs/sum-0.json", lambda file: (file.parent.mkdir(), mini.as_json(RUN)(file)))(
            folder
        ),
        lambda file: Job(0, Method("sum", "sum", {})).rows(file.parent.parent),
    ),
    "downloads": Reader(
        mini.saved("x.json", mini.as_json({"files": {"a.zip": {"url": "x", "checksum": "0"}}})), _earlier
    ),
    "unpacked": Reader(
        mini.saved(".a.zip.unpacked", mini.as_json({"a/b.txt": 3})), lambda file: is_unpacked("a.zip", file.parent)
    ),
    "folds_json": Reader(mini.saved("folds.json", mini.as_json(mini.FOLDS)), read_folds),
    "folds_py": Reader(mini.saved("folds.py", mini.folds_py), read_folds),
    "bad_skeletons": Reader(
        mini.saved("x.txt", lambda file: file.write_text("S001C001P001R001A001\nS001C002P001R001A002\n")), _read_list
    ),
    "lines": Reader(mini.saved("x.jsonl", lambda file: file.write_text(LINES)), _read_lines),
    "pickle": Reader(mini.saved("x.pkl", mini.pickled), _read_pickle),
    "pickled_npy": Reader(mini.saved("x.npy", mini.objects), load_plain_npy),
    "npy": Reader(mini.saved("x.npy", lambda file: np.save(file, mini.CHANCE.normal(size=(6, 4)))), read_array),
    "npz": Reader(
        mini.saved("x.npz", lambda file: np.savez_compressed(file, a=mini.CHANCE.normal(size=(6, 4)))), read_array
    ),
    "arrays_npz": Reader(mini.saved("x.npz", lambda file: np.savez(file, **mini.arrays())), _read_arrays),
    "arrays_h5": Reader(mini.saved("x.h5", mini.h5), _read_arrays),
    "names_h5": Reader(mini.saved("x.h5", mini.h5_of_names), _read_arrays),
    "arrays_safe": Reader(mini.saved("x.safetensors", lambda file: save_file(mini.arrays(), file)), _read_arrays),
    "csd_labels": Reader(mini.sdk("labels"), _read_sdk),
    "csd_audio": Reader(mini.sdk("audio"), _read_sdk),
    "csv": Reader(mini.saved("x.csv", mini.csv), read_manifest),
    "parquet": Reader(
        mini.saved("x.parquet", lambda file: pyarrow.parquet.write_table(pyarrow.table(mini.table()), file)),
        read_manifest,
    ),
    "mat": Reader(
        mini.saved("x.mat", lambda file: scipy.io.savemat(file, {"d_iner": np.ones((9, 6))}, do_compression=True)),
        lambda file: read_variable(file, "d_iner", (None, 6), "g"),
    ),
    "skeleton": Reader(mini.saved("x.skeleton", mini.body), NtuSkeleton()),
    "landmarks": Reader(mini.landmarks, _read_face),
    **{
        f"picture_{kind}": Reader(mini.saved(f"x.{kind}", mini.picture), ImageFile(16))
        for kind in ("png", "jpg", "webp", "tif", "bmp")
    },
    **{
        f"picture_{kind}": Reader(mini.saved("x.png", mini.disguised_picture(kind)), ImageFile(16))
        for kind in ("gif", "ppm")
    },
    **{
        f"video_{kind}": Reader(mini.saved(f"x.{kind}", mini.video), frames)
        for kind in ("mp4", "mov", "avi", "mkv", "webm", "mpg")
    },
    "sound_mp4": Reader(mini.saved("x.mp4", mini.video), sound),
    "sound_wav": Reader(mini.saved("x.wav", mini.wav()), sound),
    "sound_adpcm": Reader(mini.saved("x.wav", mini.wav("adpcm_ms")), sound),
    "sound_flac": Reader(mini.saved("x.flac", mini.wav("flac")), sound),
    "sound_mp3": Reader(mini.saved("x.mp3", mini.wav("libmp3lame", 16000)), sound),
    "sound_ogg": Reader(mini.saved("x.ogg", mini.wav("libopus", 16000, 6)), sound),
    "sound_aac": Reader(mini.saved("x.aac", mini.wav("aac")), sound),
    "sound_m4a": Reader(mini.saved("x.m4a", mini.wav("aac")), sound),
    "weights_pth": Reader(mini.saved("x.pth", lambda file: torch.save(weights, file)), read_weights),
    "weights_old": Reader(
        mini.saved("x.pth", lambda file: torch.save(weights, file, _use_new_zipfile_serialization=False)), read_weights
    ),
    "weights_safe": Reader(
        mini.saved("x.safetensors", lambda file: save_file({"a": np.ones((3, 4), np.float32)}, file)), read_weights
    ),
    "zip": Reader(mini.saved("x.zip", mini.archive_zip), lambda file: unpack(file, file.parent / "out")),
    "tar": Reader(mini.saved("x.tar", mini.archive_tar), lambda file: unpack(file, file.parent / "out")),
    "tgz": Reader(mini.saved("x.tgz", mini.archive_tar), lambda file: unpack(file, file.parent / "out")),
    "prepared_info": Reader(mini.prepared, _read_prepared),
    "prepared_table": Reader(lambda folder: mini.prepared(folder).with_name("samples.csv"), _read_prepared),
    "prepared_array": Reader(lambda folder: mini.prepared(folder).parent / "words" / "s0.npy", _read_prepared),
    "model_config": Reader(mini.within(saved_models.write_signal_model, "config.json"), lambda file: load(file.parent)),
    "fused_config": Reader(mini.within(mini.fused, "config.json"), _read_fused),
    "fused_weights": Reader(mini.within(mini.fused, "*.safetensors"), _read_fused),
    "model_windows": Reader(
        mini.within(saved_models.write_window_model, "config.json"), lambda file: load(file.parent)
    ),
    "model_weights": Reader(
        mini.within(saved_models.write_signal_model, "*.safetensors"), lambda file: load(file.parent)
    ),
}
