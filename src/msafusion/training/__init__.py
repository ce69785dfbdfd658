"""Training: the Lightning module, the two-stage recipe, metrics and logs. Needs the extra `train`."""
