"""What the tests of files share."""

import contextlib
import sys

_unpickled: list[str] = []
sys.addaudithook(lambda event, args: _unpickled.append(".".join(args)) if event == "pickle.find_class" else None)


@contextlib.contextmanager
def no_unpickling():
    """Python itself says of every name that is looked up for a pickle."""
    before = len(_unpickled)
    yield
    assert _unpickled[before:] == []
