"""Environments: made by id, as tables, on arrays, and with masks of valid actions."""
