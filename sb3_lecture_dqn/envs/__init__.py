"""Environments: made by id, tables of transitions, stepping on arrays, and masks of valid actions."""
