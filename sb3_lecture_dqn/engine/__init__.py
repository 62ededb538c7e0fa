"""What computes: PyTorch for any network, compiled loops for those they know."""
