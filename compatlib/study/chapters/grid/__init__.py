"""Grids over what other chapters measure; the only chapter that is made of others."""
