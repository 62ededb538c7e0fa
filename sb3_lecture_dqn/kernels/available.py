"""Whether numba can be used here."""

from importlib import import_module
from importlib.util import find_spec


def why_no_numba() -> str | None:
    """
    Why nothing can be compiled here.

    :return: The reason, ``None`` if numba is there and works. It does not with a NumPy that is newer than it knows
    """
    if find_spec("numba") is None:
        return "numba is not installed (pip install 'sb3-lecture-dqn[fast]')"
    try:
        import_module("numba")
    except Exception as error:  # whatever it is, PyTorch can do without
        return f"numba cannot be imported: {error}"
    return None
