"""
Loops compiled by numba. They take and return only arrays and numbers.

:mod:`available` and :mod:`kinds` can be imported without numba.
"""
