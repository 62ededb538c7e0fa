"""Replacing an attribute of another package for a while."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """
    Within this context, replace an attribute.

    :param owner: The module or class that has the attribute itself, not through a base class
    :param name: Name of the attribute
    :param value: Its value within the context
    """
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
