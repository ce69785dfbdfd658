"""Valid miniatures of the files that readers of foreign bytes read."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faces
import h5py
import lightning
import numpy as np
import raw_media
import raw_mosei
import raw_ntu
import torch
from PIL import Image
from torch import nn

from msafusion import FusionPoint, fuse
from msafusion.data.preparation.writing import write_prepared

CHANCE = np.random.default_rng(0)
TONE = np.sin(np.arange(8000) / 20).astype(np.float32)


def saved(name: str, save: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Writes a file of that name into a folder."""

    def write(folder: Path) -> Path:
        file = folder / name
        save(file)
        return file

    return write


def fused_parts() -> dict[str, nn.Module]:
    """Small networks, as their user builds them."""
    return {name: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for name in "ab"}


def fused(folder: Path) -> None:
    """A saved fused network."""
    example = {name: torch.ones(2, 3) for name in "ab"}
    point = FusionPoint({"a": "0", "b": "0"}, block_channels=4)
    fuse(fused_parts(), point, head="concat", num_outputs=2, example=example).save_pretrained(folder)


def within(write: Callable[[Path], Any], name: str) -> Callable[[Path], Path]:
    """Writes a whole folder, of which one file is damaged."""

    def written(folder: Path) -> Path:
        write(folder)
        return next(folder.rglob(name))

    return written


def as_json(content: Any) -> Callable[[Path], Any]:
    return lambda file: file.write_text(json.dumps(content, indent=1))


def arrays() -> dict[str, np.ndarray]:
    return {
        "text": CHANCE.normal(size=(12, 5, 3)).astype(np.float32),
        "label": np.arange(12) % 2,
        "split": np.repeat([0, 0, 1, 2], 3),
    }


def h5(file: Path) -> None:
    with h5py.File(file, "w") as opened:
        for name, values in arrays().items():
            opened.create_dataset(name, data=values, compression="gzip" if values.ndim > 1 else None)


def h5_of_names(file: Path) -> None:
    with h5py.File(file, "w") as opened:
        opened["text"] = arrays()["text"]
        opened["label"] = np.array(["calm", "happy"] * 6, object)
        opened["split"] = np.repeat(["train", "train", "valid", "test"], 3).astype("S5")


def pickled(file: Path) -> None:
    parts = ("train", "valid", "test")
    splits = {part: raw_mosei.mmsa_split([f"{part}{n}" for n in range(2)], widths=(4, 3, 2)) for part in parts}
    raw_mosei.write_pickle(file, splits)


def objects(file: Path) -> None:
    np.save(file, np.array({"x": [np.arange(3.0)], "names": ["a", "b"]}, dtype=object), allow_pickle=True)


def sdk(role: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        videos = {f"video{n}": raw_mosei.one_video(n) for n in range(4)}
        for video in videos.values():
            features, intervals = video["words"]
            video["vectors"] = (CHANCE.normal(size=(len(features), 300)).astype(np.float32), intervals)
        raw_mosei.write_sdk(folder, videos, {**raw_mosei.NAMES, "vectors": "vectors.csd"})
        return folder / raw_mosei.NAMES[role]

    return write


FOLDS = {"train": ["a1", "a2", "a3"], "valid": ["b1"], "test": ["c1[0]", "c2"]}


def folds_py(file: Path) -> None:
    file.write_text("".join(f"standard_{name}_fold = {listed!r}\n" for name, listed in FOLDS.items()))


def table() -> dict[str, list[str]]:
    return {"id": [f"n{n}" for n in range(20)], "label": ["a", "b"] * 10, "file": [f"{n}.npy" for n in range(20)]}


def csv(file: Path) -> None:
    columns = table()
    rows = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    file.write_text("\n".join(rows) + "\n")


def picture(file: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"exif": exif} if file.suffix in (".png", ".jpg", ".webp", ".tif") else {}
    Image.fromarray(CHANCE.integers(0, 255, (24, 32, 3), np.uint8)).save(file, **more)


def disguised_picture(kind: str) -> Callable[[Path], None]:
    """In another format than its name says, as Pillow looks at the content."""
    return lambda file: Image.fromarray(CHANCE.integers(0, 255, (24, 32, 3), np.uint8)).save(file, kind)


def landmarks(folder: Path) -> Path:
    """A table of landmarks beside its video."""
    raw_media.write_video(folder / "x.avi", CHANCE.integers(0, 255, (12, 3)))
    stamps = np.arange(12) / 25
    return faces.write_landmarks(folder / "x.csv", stamps, np.tile([10.0, 10.0, 40.0, 40.0], (12, 1)))


def archive_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(4):
            archive.writestr(f"folder/{n}.txt", f"{n}" * 100)


def archive_tar(file: Path) -> None:
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
        for n in range(4):
            info = tarfile.TarInfo(f"folder/{n}.txt")
            info.size = 100
            archive.addfile(info, io.BytesIO(b"x" * 100))


def prepared(folder: Path) -> Path:
    words = np.ones((4, 2), np.float32)
    samples = [({"id": f"s{n}", "label": n % 2, "group": "g"}, {"words": words}) for n in range(4)]
    write_prepared(folder, "toys", ["calm", "happy"], {"words": 2}, samples, {"words": "sequence"})
    return folder / "info.json"


def journal(file: Path) -> None:
    entry = {"files": {"words": ["a.npy", 100, 1]}, "row": {"label": 0}, "arrays": {"words": {"bytes": 10}}}
    file.write_text("".join(json.dumps({"id": f"s{n}", **entry, "notes": []}) + "\n" for n in range(3)))


def recipe(file: Path) -> None:
    file.write_text(
        "data:\n  class_path: Arrays\n  init_args: {root: x.npz}\n"
        "network:\n  class_path: SmallCNN\n  init_args: {fusion: msaf, widths: [8, 8, 8]}\n"
        "multimodal: {epochs: 2, learning_rate: 1.0e-3, fusion_learning_rate: 3.0e-3}\nseed: 3\n"
        "trainer: &t {accelerator: cpu}\n"
    )


def checkpoint(file: Path) -> None:
    """As Lightning writes it."""

    class Task(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(3, 2)

        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            return self.network(batch).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters())

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(torch.ones(2, 3))  # pyright: ignore[reportArgumentType]

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(Task())
    trainer.save_checkpoint(file)


def wav(codec: str = "pcm_s16le", rate: int = 8000, times: int = 1) -> Callable[[Path], Any]:
    """Sound of a second or less, so many times."""
    return lambda file: raw_media.write_wav(file, np.tile(TONE, times), rate, codec)


def video(file: Path) -> None:
    raw_media.write_video(file, CHANCE.integers(0, 255, (12, 3)), sound=(np.tile(TONE, 2), 16000))


def body(file: Path) -> None:
    raw_ntu.write_skeleton(file, [{"1": joints} for joints in raw_ntu.moving_body(6)])
