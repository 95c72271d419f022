"""Chapter *BCT*: upgrades with the influence loss, and with its baselines."""
