"""Arrays and images as streams: `x.npy`, `x.npz#key`, `.png`, `.jpg`."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np

from msafusion.data.checks import as_float32, check_finite
from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span
from msafusion.data.media.timeline import middles, part, resample
from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError
from msafusion.files.numpy_file import open_npz, read_npy
from msafusion.files.reading import check_size, reading

ARRAYS = (".npy", ".npz")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
FEW_LEVELS = 64
"""Of 256; a picture of 16-bit grey with fewer looks dark, as its values mean something else (depth, 12 bits)."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What a picture may be in truth, whatever its name says; Pillow hands others to programs such as Ghostscript."""


def split_key(file: Path | str) -> tuple[Path, str]:
    """The file and the key of `x.npz#key`; any other file, and no key."""
    match = re.fullmatch(r"(.*\.npz)#([^/\\]*)", str(file), re.IGNORECASE | re.DOTALL)
    return (Path(match[1]), match[2]) if match else (Path(file), "")


def read_array(file: Path) -> np.ndarray:
    """The array in `x.npy`, in `x.npz#key`, or the only one in `x.npz`.

    Raises:
        DataError: no such file or key, a broken file, a pickle, NaN or infinity.
    """
    path, key = split_key(file)
    with reading(path, "an array", "write it again"):
        if path.suffix.lower() == ".npz":
            with open_npz(path) as arrays:
                names = list(arrays)
                key = names[0] if not key and len(names) == 1 else key
                if key not in names:
                    raise DataError(
                        f"'{path}' holds the arrays {', '.join(names)[:200]}, expected '{key or 'one, or #key'}'; "
                        "correct the part after #."
                    )
                values = arrays[key]()
        else:
            with path.open("rb") as opened:
                values = read_npy(opened, path.stat().st_size, f"'{path}'")
    if values.dtype.kind not in "biuf":
        raise DataError(f"'{file}' holds {values.dtype}, expected numbers; write it again.")
    check_finite(values, f"'{file}'", "clean the data")
    return values


def _narrowed(values: np.ndarray, file: Path) -> np.ndarray:
    """In float32 where it holds all digits, or there were no more; else in float64, for what lies far from zero.

    Raises:
        DataError: a value is too large for float32, in which networks compute.
    """
    single = as_float32(values)
    if not np.isfinite(single).all():
        largest = float(np.abs(values.astype(np.float64)).max())
        raise DataError(f"'{file}' holds {largest:.3g}, which is too large for float32; scale the values.")
    exact = values.astype(np.float64)
    return single if values.dtype.itemsize < 4 or np.array_equal(single, exact) else exact


def _frames_first(values: np.ndarray) -> np.ndarray | None:
    """A uint8 video as (channels, time, height, width); None: it is none."""
    if values.dtype != np.uint8:
        return None
    if values.ndim == 3:  # (time, height, width)
        return values[None]
    if values.ndim == 4 and values.shape[-1] in (1, 3):
        return values.transpose(3, 0, 1, 2)
    return values if values.ndim == 4 and len(values) in (1, 3) else None


def _picture(values: np.ndarray) -> np.ndarray | None:
    """A uint8 picture as (channels, height, width); None: it is none."""
    if values.dtype != np.uint8 or values.ndim != 3:
        return None
    if values.shape[-1] in (1, 3):
        return values.transpose(2, 0, 1)
    return values if len(values) in (1, 3) else None


@dataclass(frozen=True)
class StoredArray(Extractor):
    """An array that somebody has stored.

    uint8 with three axes is a picture, a map (channels, height, width), where the last or first axis is 1 or 3, and
    else a grey video (time, height, width); with four axes of which the last or first is 1 or 3 it is a video (time,
    height, width, channels) or (channels, time, height, width). Other arrays of two axes are sequences (time,
    channels), or (channels, time) where `time_axis` is 1; all others are maps (channels, ...). Grey videos that may
    have 1 or 3 frames need `kind_of: video`.

    Attributes:
        kind_of: layout that the array must have.
        num_channels: that it must have.
        num_steps: time steps: frames evenly spaced, sequences resampled linearly; None: as many as there are, which a
            video must have in common with all others.
        rate: time steps per second; None: unknown, and any span is the whole.
        time_axis: axis of a stored sequence along which time runs: 0 for (time, channels), 1 for (channels, time).

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.media import Span, StoredArray
        >>> motion = StoredArray("sequence", num_channels=3, num_steps=20, rate=50.0)
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.random.randn(100, 3))
        ...     motion(Path(folder, "a.npy"), span=Span(0.5, seconds=1.0)).values.shape
        (20, 3)
    """

    suffixes: ClassVar = ARRAYS
    kind_of: Layout
    num_channels: int
    num_steps: int | None = None
    rate: float | None = None
    time_axis: int = 0

    def __post_init__(self) -> None:
        if self.time_axis not in (0, 1) or (self.time_axis and self.kind_of != "sequence"):
            raise TypeError(
                f"time_axis is {self.time_axis!r} for a {self.kind_of}, expected 0, or 0 or 1 of a sequence"
            )

    @classmethod
    def like(
        cls,
        file: Path,
        num_steps: int | None = None,
        rate: float | None = None,
        kind_of: Layout | None = None,
        time_axis: int = 0,
    ) -> "StoredArray":
        """For files as this one is.

        Args:
            file: an array.
            num_steps: see the class.
            rate: see the class.
            kind_of: layout of the arrays; None: by this one's type and shape.
            time_axis: see the class.

        Raises:
            DataError: it cannot be read, or not in that layout.
            TypeError: the layout or the time axis is unknown, or time_axis is 1 for what is no sequence.
        """
        if kind_of not in (None, *get_args(Layout)):
            raise TypeError(f"kind_of is '{kind_of}', expected {', '.join(get_args(Layout))}")
        values = read_array(file)
        video, picture = _frames_first(values), _picture(values)
        if kind_of is None and picture is None and video is not None:
            kind_of = "video"
        if kind_of is None:
            kind_of = "sequence" if values.ndim == 2 else "map"
        if values.ndim == 0:
            raise DataError(f"'{file}' holds one number, expected an array; store (channels,) or more.")
        if kind_of == "map":
            return cls("map", len(values if picture is None else picture), time_axis=time_axis)
        if kind_of == "sequence" and values.ndim == 2:
            return cls("sequence", values.shape[0 if time_axis == 1 else 1], num_steps, rate, time_axis)
        if kind_of == "video" and video is not None:
            return cls("video", len(video), video.shape[1] if num_steps is None else num_steps, rate, time_axis)
        wanted = "(time, channels)" if kind_of == "sequence" else "uint8 (time, height, width), or with 1 or 3 channels"
        raise DataError(f"'{file}' is {values.dtype} {values.shape}, expected {wanted}; correct it, or kind_of.")

    @property
    def layout(self) -> Layout:
        """As `kind_of` says."""
        return self.kind_of

    @property
    def channels(self) -> int:
        """As `num_channels` says."""
        return self.num_channels

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The array in its layout; see `Extractor`."""
        values = read_array(file)
        if self.kind_of == "video":
            video = _frames_first(values)
            if video is None or len(video) != self.num_channels or not video.shape[1]:
                raise self._misfit(file, values, f"uint8 (time, height, width, {self.num_channels})")
            values = self._cut(file, video.swapaxes(0, 1), span).swapaxes(0, 1)
            if self.num_steps is not None and values.shape[1] != self.num_steps:
                values = values[:, middles(values.shape[1], self.num_steps)]
        elif self.kind_of == "sequence":
            if values.ndim != 2 or values.shape[1 - self.time_axis] != self.num_channels or not values.size:
                wanted = f"({self.num_channels}, time)" if self.time_axis else f"(time, {self.num_channels})"
                raise self._misfit(file, values, wanted)
            values = self._cut(file, _narrowed(values.T if self.time_axis else values, file), span)
            values = values if self.num_steps is None else resample(values, self.num_steps)
        else:
            picture = _picture(values)
            if picture is not None and len(picture) == self.num_channels:
                values = picture
            if values.ndim == 0 or len(values) != self.num_channels:
                raise self._misfit(file, values, f"({self.num_channels}, ...)")
            values = values if values.dtype == np.uint8 else _narrowed(values, file)
        return Extracted(np.ascontiguousarray(values))

    def _misfit(self, file: Path, values: np.ndarray, wanted: str) -> DataError:
        return DataError(f"'{file}' is {values.dtype} {values.shape}, expected {wanted}; correct it.")

    def _cut(self, file: Path, values: np.ndarray, span: Span) -> np.ndarray:
        return values if self.rate is None else values[part(span, len(values), self.rate, file)]

    def probe(self, file: Path) -> float | None:
        """Reads the array; its duration where `rate` is known."""
        values = read_array(file)
        video = _frames_first(values) if self.kind_of == "video" else None
        axis = min(self.time_axis, values.ndim - 1)
        steps = video.shape[1] if video is not None else values.shape[axis]
        return None if self.rate is None or self.kind_of == "map" else steps / self.rate


@dataclass(frozen=True)
class ImageFile(Extractor):
    """A picture as a map, uint8 RGB (3, size, size), turned as its metadata say.

    What is transparent is shown before black. Of 16-bit grey the upper 8 bits count; 32-bit pictures have no known
    white and are refused.

    Attributes:
        size: height and width (pixels) to which it is resized.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> from msafusion.data.media import ImageFile
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("RGB", (64, 48)).save(f"{folder}/a.png")
        ...     ImageFile(size=32)(Path(folder, "a.png")).values.shape
        (3, 32, 32)
    """

    suffixes: ClassVar = IMAGES
    size: int = 224

    @property
    def layout(self) -> Layout:
        """A map."""
        return "map"

    @property
    def channels(self) -> int:
        """Red, green, blue."""
        return 3

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The picture; see `Extractor`."""
        from PIL import Image, ImageOps

        with reading(file, "a picture", "replace it"), Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            check_size(
                width * height * len(image.getbands()), file.stat().st_size, f"'{file}', {width} x {height} pixels,"
            )
            upright = _rgb(ImageOps.exif_transpose(image), file).resize((self.size, self.size))
            several = False
            with suppress(Exception):  # the first is read; what follows may be broken
                several = getattr(image, "is_animated", False)
            notes = ["holds several pictures, of which the first is read"] if several else []
            if image.mode.startswith("I;16") and (largest := int(np.asarray(image).max())) < FEW_LEVELS << 8:
                levels = f"{(largest >> 8) + 1} of 256 levels are left"
                notes.append(f"16-bit grey up to {largest} of 65535: {levels}; scale it, or store it as .npy")
        return Extracted(np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1)), notes)

    def probe(self, file: Path) -> None:
        """Reads the picture."""
        self(file)


def _rgb(image: Any, file: Path) -> Any:
    """A Pillow image in 8-bit RGB; its own conversion would clip 16-bit grey at 255."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"'{file}' is a picture of 32-bit grey, expected 8 or 16 bits; save it as one, or as .npy.")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "black"), above)
    return image.convert("RGB")
