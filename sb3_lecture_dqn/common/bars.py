"""The progress bar of all commands."""

from typing import Any

from tqdm import tqdm

#: Columns that stay free at the right, so that the ``^C`` of a terminal does not break the line
_ROOM = 3


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """
    A progress bar that adapts to the width of the terminal.

    :param kwargs: Passed to tqdm
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, dynamic_ncols=True, **kwargs)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm draws the bar from."""
        drawn: dict[str, Any] = super().format_dict
        if drawn["ncols"]:
            drawn["ncols"] = max(drawn["ncols"] - _ROOM, 1)
        return drawn
