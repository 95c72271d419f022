"""Chapter *FCT*: galleries transformed to the new model's space, and backfilled in FastFill's order."""
