"""The raw files of a recording, and how its name on the command line or in a table leads to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from msafusion.data.datasets.manifest_table import LANDMARKS
from msafusion.data.media import Extractor
from msafusion.data.media.container import SOUNDS, VIDEOS
from msafusion.failures import DataError
from msafusion.streams import nearest


@dataclass(frozen=True)
class Recording:
    """The raw files of one recording.

    Attributes:
        name: as results show it.
        files: stream -> its file; streams that are not named are absent.
        companions: stream -> a file that helps to read it.
        warnings: what is known to be missing already.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.predict import Recording
        >>> recording = Recording("take 1", {"video": Path("take1.mp4"), "audio": Path("take1.wav")})
        >>> sorted(recording.files)
        ['audio', 'video']
    """

    name: str
    files: Mapping[str, Path]
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, file: Path, extraction: Mapping[str, Extractor], streams: Sequence[str]) -> "Recording":
        """A single file: every stream that can be read from a file with its ending.

        An `.npz` holds an array for each stream under its name.

        Args:
            file: the file.
            extraction: stream -> how it is read; streams without are read as arrays.
            streams: of the model.

        Raises:
            DataError: no such file, an ending that no stream is read from, or one that leaves open which stream it is.
        """
        if not file.is_file():
            raise DataError(f"no file '{file}'; check the path.")
        suffix = file.suffix.lower()
        if suffix == ".npz":
            stored = _keys(file)
            if keys := [name for name in streams if name in stored]:
                lacking = tuple(f"no {name} in '{file.name}'" for name in streams if name not in keys)
                return cls(str(file), {key: Path(f"{file}#{key}") for key in keys}, warnings=lacking)
            raise DataError(
                f"'{file}' holds the arrays {', '.join(stored)}, expected {' or '.join(streams)}; store them under "
                "the streams' names."
            )
        able = [name for name in streams if suffix in suffixes(name, extraction)]
        if not able:
            known = sorted({suffix for name in streams for suffix in suffixes(name, extraction)} | {".npz"})
            raise DataError(f"'{file}' ends in '{suffix}', expected {' '.join(known)}; convert it.")
        if suffix in (*VIDEOS, *SOUNDS):
            lacking = tuple(f"no {name}: it is not read from {suffix} files" for name in streams if name not in able)
            return cls(str(file), dict.fromkeys(able, file), warnings=lacking)
        if len(able) > 1:  # other files hold one stream
            able = _readable(file, able, extraction)
        lacking = tuple(f"no {name}: '{file.name}' holds {able[0]}" for name in streams if name not in able)
        return cls(str(file), {able[0]: file}, warnings=lacking)

    @classmethod
    def named(
        cls, name: str, files: Mapping[str, Path], extraction: Mapping[str, Extractor], streams: Sequence[str]
    ) -> "Recording":
        """A recording whose files are named one by one.

        Args:
            name: of the recording.
            files: `file` (all streams that it holds) or stream -> file, and `<stream>_landmarks`, a file that helps to
                read the stream.
            extraction: stream -> how it is read; streams without are read as arrays.
            streams: of the model.

        Raises:
            DataError: an unknown stream, no file, a file beside streams; or see `of_file`.
        """
        own = dict(files)
        whole = own.pop("file", None)
        companions = {stream: own.pop(stream + LANDMARKS) for stream in streams if stream + LANDMARKS in own}
        if unknown := [stream for stream in own if stream not in streams]:
            raise DataError(f"'{name}' names the unknown stream '{unknown[0]}'; {nearest(unknown[0], streams)}.")
        if bool(own) == (whole is not None):
            what = "a file beside streams" if own else "no file"
            raise DataError(f"'{name}' names {what}, expected file, or some of {', '.join(streams)}; correct it.")
        if whole is not None:
            return replace(cls.of_file(whole, extraction, streams), name=name, companions=companions)
        lacking = tuple(f"no {stream}: no file is given for it" for stream in streams if stream not in own)
        return cls(name, own, companions, lacking)


def suffixes(stream: str, extraction: Mapping[str, Extractor]) -> tuple[str, ...]:
    """Endings of the files from which a stream is read."""
    return extraction[stream].suffixes if stream in extraction else (".npy",)


def _keys(file: Path) -> list[str]:
    """Names of the arrays in an `.npz`."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return list(archive.files)
    except Exception as error:  # zipfile, zlib and numpy have their own
        raise DataError(
            f"'{file}' cannot be read as arrays ({' '.join(str(error).split())[:80]}); write it again."
        ) from None


def _readable(file: Path, streams: Sequence[str], extraction: Mapping[str, Extractor]) -> list[str]:
    """The one stream that a file holds."""
    able, problems = [], []
    for name in streams:
        try:
            if name in extraction:
                extraction[name].probe(file)
            able.append(name)
        except DataError as error:
            problems.append(error)
    if not able:
        raise problems[0]
    if len(able) > 1:
        raise DataError(
            f"'{file}' may be {' or '.join(able)}; say which in a manifest or on standard input: "
            f'{{"{able[0]}": "{file.name}"}}.'
        )
    return able
