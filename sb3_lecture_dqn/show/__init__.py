"""Pictures, videos, plots and TensorBoard."""
