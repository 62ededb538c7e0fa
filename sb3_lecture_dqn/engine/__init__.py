"""What computes the updates: PyTorch, and compiled loops that mean the same."""
