"""Chapter *SFSC*: one training of several compatible sub-models, its halves and its baselines."""
