"""Plain reference loops that the package is tested against."""
