"""Examples, of which the tests and the benchmarks import the lecture's loop."""
