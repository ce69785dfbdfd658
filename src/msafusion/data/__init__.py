"""Data sets: readers of the formats in which people have them, each with its protocol.

Add a file with a `DataSource` and a line to `DATASETS`; `msafusion train --data <class name>` then takes its options.
"""

from msafusion.data.arrays import Arrays
from msafusion.data.mosei import MOSEI
from msafusion.data.ntu_rgbd import NTURGBD
from msafusion.data.ravdess import RAVDESS
from msafusion.data.watch import Watch
from msafusion.samples import DataSource

DATASETS: dict[str, type[DataSource]] = {
    "Arrays": Arrays,
    "MOSEI": MOSEI,
    "NTURGBD": NTURGBD,
    "RAVDESS": RAVDESS,
    "Watch": Watch,
}
"""Name -> data set."""

__all__ = ["DATASETS", "MOSEI", "NTURGBD", "RAVDESS", "Arrays", "Watch"]
