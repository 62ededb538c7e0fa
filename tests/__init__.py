"""The suite mirrors the package: one file per room."""
