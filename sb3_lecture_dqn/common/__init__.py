"""The ground that the other rooms stand on: memories, layers, wrappers, checks and seeds."""
