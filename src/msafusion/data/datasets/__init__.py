"""Data sets: readers of the formats in which people have them, each with its protocol.

Add a file with a `DataSource` and a line to `DATASETS`: `msafusion train --data <class name>` then takes its options.
For raw files add a `RawReader` and a line to `READERS`: `msafusion prepare <name>` and `msafusion verify <name>`.
"""

from collections.abc import Callable

from msafusion.data.datasets.arrays import Arrays
from msafusion.data.datasets.manifest import Manifest, ManifestFiles
from msafusion.data.datasets.mosei import MOSEI, mosei_reader, mosi_reader
from msafusion.data.datasets.ntu_rgbd import NTURGBD, NtuFiles
from msafusion.data.datasets.ravdess import RAVDESS
from msafusion.data.datasets.ravdess_files import RavdessFiles
from msafusion.data.datasets.smartwatch_exercises import SmartwatchExercises
from msafusion.data.datasets.utd_mhad import UTDMHAD, UtdMhadFiles
from msafusion.data.preparation import RawReader
from msafusion.data.samples import DataSource

DATASETS: dict[str, type[DataSource]] = {
    "Arrays": Arrays,
    "MOSEI": MOSEI,
    "Manifest": Manifest,
    "NTURGBD": NTURGBD,
    "RAVDESS": RAVDESS,
    "UTDMHAD": UTDMHAD,
    "SmartwatchExercises": SmartwatchExercises,
}
"""Name -> data set."""

READERS: dict[str, Callable[..., RawReader]] = {
    "manifest": ManifestFiles,
    "mosei": mosei_reader,
    "mosi": mosi_reader,
    "ntu_rgbd": NtuFiles,
    "ravdess": RavdessFiles,
    "utd_mhad": UtdMhadFiles,
}
"""Name -> reader of raw files; its first parameter is their folder or file."""

__all__ = ["DATASETS", "MOSEI", "NTURGBD", "RAVDESS", "READERS", "UTDMHAD", "Arrays", "Manifest", "SmartwatchExercises"]
