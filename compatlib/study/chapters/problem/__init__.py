"""Chapter *the problem*: models trained apart cannot meet."""
