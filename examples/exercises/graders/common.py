"""What all graders share: calls of a student's function, and the search for the mistake that explains its answers."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

Function = Callable[..., Any]


class Mistake(Exception):
    """
    What is wrong with an answer.

    :param key: The key of the hint, see ``hints.py``
    :param details: What the text of the hint mentions
    """

    def __init__(self, key: str, **details: Any) -> None:
        super().__init__(key)
        self.key = key
        self.details = details


def call(function: Function, *args: Any) -> Any:
    """Call a student's function. Raise a :class:`Mistake` if it is not filled in or fails."""
    try:
        return function(*args)
    except Mistake:
        raise
    except Exception as error:
        line, innermost = _line_of(function, error), traceback.extract_tb(error.__traceback__)[-1]
        # PyTorch raises this error too, such as for 1 - terminated.
        is_own = line == innermost and "NotImplementedError" in (line.line or "NotImplementedError")
        if isinstance(error, NotImplementedError) and is_own:
            raise Mistake("blank") from None
        raise Mistake("crash", error=f"{type(error).__name__}: {error}", line=line.line or line.name) from error


def _line_of(function: Function, error: Exception) -> traceback.FrameSummary:
    """Find the last line in the student's file or cell that led to an error. Below it there are only libraries."""
    lines = traceback.extract_tb(error.__traceback__)
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    return next((line for line in reversed(lines) if line.filename == file), lines[-1])


def call_for_answer(function: Function, *args: Any) -> Any:
    """Call a function whose answer must not be None."""
    answer = call(function, *args)
    if answer is None:
        raise Mistake("nothing")
    return answer


def recognise(answers: Sequence[Any], wrong: dict[str, Function], same: Function, answer_of: Function) -> str | None:
    """
    Find the mistake that gives these answers in all cases. A mistake that gives an error is not the one.

    The same mistake made in another way has its own key: that of the hint, a comma, and what is different.
    """
    for key, variant in wrong.items():
        try:
            if all(same(answer, answer_of(variant, case)) for case, answer in enumerate(answers)):
                return key
        except (Mistake, RuntimeError, IndexError, ValueError):
            continue
    return None


def compare(answers: Sequence[Any], right: Function, wrong: dict[str, Function], same: Function, cases: Sequence[Any],
            answer_of: Function | None = None) -> None:  # fmt: skip
    """
    Compare a function's answers with the right ones. Raise a :class:`Mistake` with the hint that fits.

    :param answers: Its answers, one for each case
    :param right: The right function
    :param wrong: Functions with a mistake, by the key of the hint, see :func:`recognise`
    :param same: Compares two answers
    :param cases: The arguments of each case
    :param answer_of: Gives the answer of a function in a case, by its number; by default it calls the function
    """
    if answer_of is None:

        def answer_of(function: Function, case: int) -> Any:
            return function(*cases[case])

    for case, answer in enumerate(answers):
        expected = answer_of(right, case)
        if not same(answer, expected):
            key = recognise(answers, wrong, same, answer_of) or "wrong"
            raise Mistake(key.partition(",")[0], case=cases[case], given=answer, expected=expected)
