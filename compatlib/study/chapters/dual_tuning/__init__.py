"""Chapter *Dual-Tuning*: alignment to old prototypes, and each model through the other's classifier."""
