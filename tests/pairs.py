"""Grids of settings of which the default run takes the part in which every setting occurs."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def every(n: int, *axes: Iterable[Any]) -> list[Any]:
    """
    Make the points of a grid, for ``pytest.mark.parametrize``.

    By default every ``n``-th point of each diagonal runs, so that every value of each axis that is at least as long as
    ``n`` values of another occurs. The others are marked ``slow``.

    :param n: 1 for the whole grid
    :param axes: The values of each argument; a tuple among the values of an axis stands for several arguments
    """
    points = []
    for numbered in itertools.product(*(enumerate(axis) for axis in axes)):
        values = [part for _, value in numbered for part in (value if isinstance(value, tuple) else (value,))]
        marks = [] if sum(i for i, _ in numbered) % n == 0 else [pytest.mark.slow]
        points.append(pytest.param(*values, marks=marks))
    return points
