"""Engines that compute the gradient updates: PyTorch, and compiled loops with the same results."""
