"""Every reader of foreign bytes, with a valid miniature of what it reads."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import raw_media
import raw_mosei
import raw_ntu
import saved_models
import scipy.io
import torch
from PIL import Image
from safetensors.numpy import save_file

from msafusion.checkpoints.weights import read_weights
from msafusion.data.arrays import Arrays
from msafusion.data.mosei_csd import CmuSdkFiles
from msafusion.data.mosei_pickles import SentimentPickle
from msafusion.data.table_file import read_manifest
from msafusion.data.unpickle import load_plain_npy
from msafusion.download.unpack import unpack
from msafusion.media import Frames, ImageFile, Mfcc
from msafusion.media.matlab import read_variable
from msafusion.media.skeleton import NtuSkeleton
from msafusion.media.stored import read_array
from msafusion.predict.model import load
from msafusion.preparation.prepared import PreparedFolder
from msafusion.preparation.writing import write_prepared

CHANCE = np.random.default_rng(0)


@dataclass(frozen=True)
class Reader:
    """How a miniature is written into a folder (it gives the file that is damaged), and read."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]


def _saved(name: str, save: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = folder / name
        save(file)
        return file

    return write


def _arrays() -> dict[str, np.ndarray]:
    return {
        "text": CHANCE.normal(size=(12, 5, 3)).astype(np.float32),
        "label": np.arange(12) % 2,
        "split": np.repeat([0, 0, 1, 2], 3),
    }


def _h5(file: Path) -> None:
    with h5py.File(file, "w") as opened:
        for name, values in _arrays().items():
            opened.create_dataset(name, data=values, compression="gzip" if values.ndim > 1 else None)


def _read_arrays(file: Path) -> None:
    splits = Arrays(file).splits()
    for part in (splits.train, splits.valid, splits.test):
        part[0]


def _pickled(file: Path) -> None:
    parts = ("train", "valid", "test")
    splits = {part: raw_mosei.mmsa_split([f"{part}{n}" for n in range(2)], widths=(4, 3, 2)) for part in parts}
    raw_mosei.write_pickle(file, splits)


def _read_pickle(file: Path) -> None:
    reader = SentimentPickle(file)
    for item in reader.items():
        reader.read(item)


def _sdk(role: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        videos = {f"video{n}": raw_mosei.one_video(n) for n in range(4)}
        for video in videos.values():
            features, intervals = video["words"]
            video["vectors"] = (CHANCE.normal(size=(len(features), 300)).astype(np.float32), intervals)
        raw_mosei.write_sdk(folder, videos, {**raw_mosei.NAMES, "vectors": "vectors.csd"})
        return folder / raw_mosei.NAMES[role]

    return write


def _read_sdk(file: Path) -> None:
    reader = CmuSdkFiles(file.parent, text_model=None)
    for item in reader.items()[:2]:
        reader.read(item)


def _table() -> dict[str, list[str]]:
    return {"id": [f"n{n}" for n in range(20)], "label": ["a", "b"] * 10, "file": [f"{n}.npy" for n in range(20)]}


def _csv(file: Path) -> None:
    table = _table()
    rows = [",".join(table), *map(",".join, zip(*table.values(), strict=True))]
    file.write_text("\n".join(rows) + "\n")


def _picture(file: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(CHANCE.integers(0, 255, (24, 32, 3), np.uint8)).save(file, exif=exif)


def _zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(4):
            archive.writestr(f"folder/{n}.txt", f"{n}" * 100)


def _tar(file: Path) -> None:
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
        for n in range(4):
            info = tarfile.TarInfo(f"folder/{n}.txt")
            info.size = 100
            archive.addfile(info, io.BytesIO(b"x" * 100))


def _prepared(folder: Path) -> Path:
    words = np.ones((4, 2), np.float32)
    samples = [({"id": f"s{n}", "label": n % 2, "group": "g"}, {"words": words}) for n in range(4)]
    write_prepared(folder, "toys", ["calm", "happy"], {"words": 2}, samples, {"words": "sequence"})
    return folder / "info.json"


def _read_prepared(file: Path) -> None:
    root = file.parent if (file.parent / "info.json").is_file() else file.parent.parent
    folder = PreparedFolder(root, "toys")
    folder.check_files()
    folder.samples(folder.rows)[0]


def _model(write: Callable[[Path], Any], name: str) -> Callable[[Path], Path]:
    def written(folder: Path) -> Path:
        write(folder)
        return next(folder.rglob(name))

    return written


def _wav(file: Path) -> None:
    raw_media.write_wav(file, np.sin(np.arange(8000) / 20).astype(np.float32), 8000)


def _video(file: Path) -> None:
    sound = (np.sin(np.arange(16000) / 20).astype(np.float32), 16000)
    raw_media.write_video(file, CHANCE.integers(0, 255, (12, 3)), sound=sound)


def _body(file: Path) -> None:
    raw_ntu.write_skeleton(file, [{"1": joints} for joints in raw_ntu.moving_body(6)])


def _objects(file: Path) -> None:
    np.save(file, np.array({"x": [np.arange(3.0)], "names": ["a", "b"]}, dtype=object), allow_pickle=True)


frames = Frames(num_frames=4, size=16, face="none")
sound = Mfcc(rate=8000, offset=0.0, seconds=None)
weights = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}
READERS: dict[str, Reader] = {
    "pickle": Reader(_saved("x.pkl", _pickled), _read_pickle),
    "pickled_npy": Reader(_saved("x.npy", _objects), load_plain_npy),
    "npy": Reader(_saved("x.npy", lambda file: np.save(file, CHANCE.normal(size=(6, 4)))), read_array),
    "npz": Reader(_saved("x.npz", lambda file: np.savez_compressed(file, a=CHANCE.normal(size=(6, 4)))), read_array),
    "arrays_npz": Reader(_saved("x.npz", lambda file: np.savez(file, **_arrays())), _read_arrays),
    "arrays_h5": Reader(_saved("x.h5", _h5), _read_arrays),
    "arrays_safe": Reader(_saved("x.safetensors", lambda file: save_file(_arrays(), file)), _read_arrays),
    "csd_labels": Reader(_sdk("labels"), _read_sdk),
    "csd_audio": Reader(_sdk("audio"), _read_sdk),
    "csv": Reader(_saved("x.csv", _csv), read_manifest),
    "parquet": Reader(
        _saved("x.parquet", lambda file: pyarrow.parquet.write_table(pyarrow.table(_table()), file)), read_manifest
    ),
    "mat": Reader(
        _saved("x.mat", lambda file: scipy.io.savemat(file, {"d_iner": np.ones((9, 6))}, do_compression=True)),
        lambda file: read_variable(file, "d_iner", (None, 6), "g"),
    ),
    "skeleton": Reader(_saved("x.skeleton", _body), NtuSkeleton()),
    **{f"picture_{k}": Reader(_saved(f"x.{k}", _picture), ImageFile(16)) for k in ("png", "jpg", "webp", "tif")},
    "sound_wav": Reader(_saved("x.wav", _wav), sound),
    **{f"video_{k}": Reader(_saved(f"x.{k}", _video), frames) for k in ("mp4", "avi", "mkv")},
    "sound_mp4": Reader(_saved("x.mp4", _video), sound),
    "weights_pth": Reader(_saved("x.pth", lambda file: torch.save(weights, file)), read_weights),
    "weights_old": Reader(
        _saved("x.pth", lambda file: torch.save(weights, file, _use_new_zipfile_serialization=False)), read_weights
    ),
    "weights_safe": Reader(
        _saved("x.safetensors", lambda file: save_file({"a": np.ones((3, 4), np.float32)}, file)), read_weights
    ),
    "zip": Reader(_saved("x.zip", _zip), lambda file: unpack(file, file.parent / "out")),
    "tar": Reader(_saved("x.tar", _tar), lambda file: unpack(file, file.parent / "out")),
    "tgz": Reader(_saved("x.tgz", _tar), lambda file: unpack(file, file.parent / "out")),
    "prepared_info": Reader(_prepared, _read_prepared),
    "prepared_table": Reader(lambda folder: _prepared(folder).with_name("samples.csv"), _read_prepared),
    "prepared_array": Reader(lambda folder: _prepared(folder).parent / "words" / "s0.npy", _read_prepared),
    "model_config": Reader(_model(saved_models.write_signal_model, "config.json"), lambda file: load(file.parent)),
    "model_windows": Reader(_model(saved_models.write_window_model, "config.json"), lambda file: load(file.parent)),
    "model_weights": Reader(_model(saved_models.write_signal_model, "*.safetensors"), lambda file: load(file.parent)),
}
