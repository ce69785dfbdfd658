"""From raw files to prepared folders: what is found (`raw`), the work (`preparing`), the result (`prepared`)."""

from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.preparing import PrepareReport, prepare, prepare_cached
from msafusion.data.preparation.raw import RawItem, Verification

__all__ = ["PrepareReport", "PreparedFolder", "RawItem", "Verification", "prepare", "prepare_cached"]
