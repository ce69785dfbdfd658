"""Data sets: readers of the formats in which people have them, each with its protocol.

Add a file with a `Dataset` and a line to `DATASETS`: every command then takes its class name and its options.
"""

from msafusion.data.dataset import Dataset
from msafusion.data.datasets.arrays import Arrays
from msafusion.data.datasets.manifest import Manifest
from msafusion.data.datasets.mosei import MOSEI, MOSI
from msafusion.data.datasets.ntu_rgbd import NTURGBD
from msafusion.data.datasets.ravdess import RAVDESS
from msafusion.data.datasets.smartwatch_exercises import SmartwatchExercises
from msafusion.data.datasets.utd_mhad import UTDMHAD

DATASETS: dict[str, type[Dataset]] = {
    "Arrays": Arrays,
    "MOSEI": MOSEI,
    "MOSI": MOSI,
    "Manifest": Manifest,
    "NTURGBD": NTURGBD,
    "RAVDESS": RAVDESS,
    "SmartwatchExercises": SmartwatchExercises,
    "UTDMHAD": UTDMHAD,
}
"""Name -> data set."""

__all__ = [
    "DATASETS",
    "MOSEI",
    "MOSI",
    "NTURGBD",
    "RAVDESS",
    "UTDMHAD",
    "Arrays",
    "Dataset",
    "Manifest",
    "SmartwatchExercises",
]
