"""Pictures, videos, plots, TensorBoard, and the page."""

from typing import TYPE_CHECKING, Any

# Most of this room does without PyTorch, which the page needs: it is imported when it is used.
if TYPE_CHECKING:
    from sb3_lecture_dqn.show.page.page import write_page as write_page
else:

    def __getattr__(name: str) -> Any:
        """Import :func:`write_page`."""
        if name == "write_page":
            from sb3_lecture_dqn.show.page.page import write_page

            return write_page
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
