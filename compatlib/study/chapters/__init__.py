"""The chapters, a package each, alike inside: `plan` (its cases and grids), `tables`, `figures`."""
