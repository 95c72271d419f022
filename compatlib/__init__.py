"""Compatible representation learning: five papers as one importable library and the study that reproduces them."""
