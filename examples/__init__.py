"""Examples. Tests and benchmarks import the lecture's loop from here."""
