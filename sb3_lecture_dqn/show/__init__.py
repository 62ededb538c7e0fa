"""What people look at: pictures, films, plots and TensorBoard."""
