"""The check whether numba can be used."""

from importlib import import_module
from importlib.util import find_spec


def why_no_numba() -> str | None:
    """
    Explain why numba cannot be used, for example because NumPy is newer than numba supports.

    :return: The reason; ``None`` if numba can be imported
    """
    if find_spec("numba") is None:
        return "numba is not installed (pip install 'sb3-lecture-dqn[fast]')"
    try:
        import_module("numba")
    except Exception as error:  # of any kind, since PyTorch can train without numba
        return f"numba cannot be imported: {error}"
    return None
