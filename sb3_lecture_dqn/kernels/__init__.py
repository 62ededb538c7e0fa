"""
Compiled loops: arrays and numbers in, arrays and numbers out. Only :mod:`available` and :mod:`kinds` import no numba.
"""
