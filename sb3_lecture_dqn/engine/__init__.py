"""Engines that compute the gradient updates: PyTorch, and compiled loops whose results differ by rounding."""
