"""What the parts of a fused network cost."""

from msafusion.summary.measure import PartSummary, summarise

__all__ = ["PartSummary", "summarise"]
