"""
Check the exercises: ``python examples/exercises/check.py [FILE] [--language ko]``.

FILE has the filled-in functions, ``exercises.py`` by default. Every exercise gets one line, with a hint if it is not
right yet. In a notebook, ``check = checker("en")`` makes the function that checks one exercise.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the graders are here, and lecture_loop.py is in the folder above

from graders import GRADERS, Mistake
from hints import LANGUAGES, words

POINTS = 2  # of each exercise


class NotYet(AssertionError):
    """An answer that is not right yet. Notebooks show the message alone, and nbgrader gives no points."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def grade(exercise: str, function: Callable[..., Any]) -> Mistake | None:
    """
    Grade an answer.

    :param exercise: Name of the exercise
    :param function: The student's function
    :return: What is wrong, None if nothing is
    """
    try:
        GRADERS[exercise](function)
    except Mistake as mistake:
        return mistake
    return None


def hint(language: str, exercise: str, mistake: Mistake) -> str:
    """Return the words for a mistake."""
    return words(language, mistake.key, exercise, **{name: _brief(value) for name, value in mistake.details.items()})


def _brief(value: Any) -> Any:
    """Shorten what a message shows of an answer. Numbers stay numbers, for the message to format."""
    if isinstance(value, int | float):
        return value
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."


def checker(language: str) -> Callable[[Callable[..., Any]], None]:
    """
    Make the function that checks an exercise in a notebook.

    :param language: "en" or "ko"
    :return: A function that takes the student's function, whose name is that of the exercise. It raises
        :class:`NotYet` with a hint if the answer is not right
    """

    def check(function: Callable[..., Any]) -> None:
        exercise = function.__name__
        if exercise not in GRADERS:
            raise NotYet(words(language, "unknown", exercise, known=", ".join(GRADERS)))
        mistake = grade(exercise, function)
        if mistake is not None:
            raise NotYet(words(language, "not_yet", exercise, hint=hint(language, exercise, mistake)))
        print(words(language, "right", exercise, points=POINTS))

    return check


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise SystemExit(f"check.py: there is no file {path}")
    spec = importlib.util.spec_from_file_location("answers", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"check.py: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Check a file. Return the exit code: 0 if all answers are right."""
    parser = argparse.ArgumentParser(description="Check the exercises, with a hint for each that is not right yet.")
    default = HERE / "exercises.py"
    parser.add_argument("file", nargs="?", type=Path, default=default, metavar="FILE", help="the filled-in exercises")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="language of the hints")
    parser.add_argument("--exercise", choices=GRADERS, action="append", help="check this exercise only")
    args = parser.parse_args()
    answers, exercises, right = _load(args.file), args.exercise or list(GRADERS), 0
    for exercise in exercises:
        function = getattr(answers, exercise, None)
        if function is None:
            print(words(args.language, "missing", exercise, file=args.file.name))
            continue
        mistake = grade(exercise, function)
        if mistake is None:
            right += 1
            print(words(args.language, "right", exercise, points=POINTS))
        else:
            print(words(args.language, "not_yet", exercise, hint=hint(args.language, exercise, mistake)))
    print(words(args.language, "total", points=POINTS * right, total=POINTS * len(exercises)))
    return int(right < len(exercises))


if __name__ == "__main__":
    sys.exit(main())
