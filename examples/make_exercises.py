"""
Make the exercises from their one source, ``exercises/source.py``.

    python examples/make_exercises.py                     # the notebooks and files in examples/exercises
    python examples/make_exercises.py --teacher FOLDER    # notebooks with solutions, for nbgrader's folder source/

The cells have nbgrader's metadata. Between the markers of a solution a student's file has nbgrader's own stub.
"""

import argparse
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

try:
    import nbformat
except ImportError:
    raise SystemExit("make_exercises.py needs nbformat: pip install nbformat") from None

FOLDER = Path(__file__).resolve().parent / "exercises"
SOURCE = FOLDER / "source.py"
NOTEBOOKS = {"en": FOLDER / "exercises.ipynb", "ko": FOLDER / "exercises_ko.ipynb"}
FILES = {"en": FOLDER / "exercises.py", "ko": FOLDER / "exercises_ko.py"}
SOLUTIONS = FOLDER / "solutions.py"
POINTS = 2  # of each exercise, as in check.py
SCHEMA_VERSION = 3  # of nbgrader's metadata
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION$", re.MULTILINE | re.DOTALL)


@dataclass
class Cell:
    """A cell of the source: its kind ("en", "ko", "setup", "solve" or "check"), the exercise, and the text."""

    kind: str
    name: str
    text: str


def read_source() -> list[Cell]:
    """Read the cells of the source."""
    _, *cells = re.split(r"^# %% ", SOURCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for cell in cells:
        title, _, text = cell.partition("\n")
        kind, _, name = title.partition(" ")
        found.append(Cell(kind, name, text.strip("\n")))
    return found


def blank(code: str) -> str:
    """Put nbgrader's stub in the place of the solution."""
    return SOLUTION.sub(lambda match: textwrap.indent(STUB, match[1]), code)


def solved(code: str) -> str:
    """Leave the solution and remove its markers."""
    return SOLUTION.sub(lambda match: match[2].rstrip("\n"), code)


def as_it_is(code: str) -> str:
    """Leave solution and markers, which nbgrader looks for in the teacher's notebook."""
    return code


def notebook(language: str, fill: object = blank) -> nbformat.NotebookNode:
    """
    Make a notebook.

    :param language: "en" or "ko"
    :param fill: What to do with the solutions: :func:`blank`, :func:`solved` or :func:`as_it_is`
    :return: The notebook, without outputs
    """
    book = nbformat.v4.new_notebook()
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book.metadata.language_info = {"name": "python"}
    n_texts = 0
    for cell in read_source():
        if cell.kind in NOTEBOOKS:
            if cell.kind != language:
                continue
            n_texts += 1
            text = re.sub("^# ?", "", cell.text, flags=re.MULTILINE)
            made, mark = nbformat.v4.new_markdown_cell(text), _mark(f"text_{n_texts}", locked=True)
        elif cell.kind == "solve":
            made, mark = nbformat.v4.new_code_cell(fill(cell.text)), _mark(cell.name, solution=True)
        elif cell.kind == "check":
            made = nbformat.v4.new_code_cell(cell.text)
            mark = _mark(f"check_{cell.name}", grade=True, locked=True, points=POINTS)
        else:
            made = nbformat.v4.new_code_cell(cell.text.replace("LANGUAGE", language))
            mark = _mark("setup", locked=True)
        made.metadata.nbgrader, made.id = mark, mark["grade_id"]
        book.cells.append(made)
    return book


def _mark(grade_id: str, *, grade: bool = False, solution: bool = False, locked: bool = False, points: int = 0) -> dict:
    """Make nbgrader's metadata of a cell. Only cells with a grade have points."""
    mark = {
        "grade": grade,
        "grade_id": grade_id,
        "locked": locked,
        "schema_version": SCHEMA_VERSION,
        "solution": solution,
        "task": False,
    }
    return {**mark, "points": points} if grade else mark


def python_file(language: str, fill: object = blank) -> str:
    """Make the exercises as a Python file, with the texts as comments."""
    parts, n_texts = [], 0
    for cell in read_source():
        if cell.kind == language:
            n_texts += 1
            if n_texts > 1:  # the first text is about the notebook
                parts.append("\n\n" + cell.text)
        elif cell.kind == "solve":
            parts.append(fill(cell.text))
    intro = {
        "en": "Seven exercises. Fill them in, then: python examples/exercises/check.py",
        "ko": "연습 문제 일곱 개. 채운 다음: "
        "python examples/exercises/check.py examples/exercises/exercises_ko.py --language ko",
    }[language]
    title = "The solutions of the exercises." if fill is solved else intro
    return f'"""{title}"""\n\nimport torch\n' + "\n".join(parts) + "\n"


def made_files() -> dict[Path, str]:
    """Make the texts of all files, by path."""
    files = {path: nbformat.writes(notebook(language)) + "\n" for language, path in NOTEBOOKS.items()}
    files |= {path: python_file(language) for language, path in FILES.items()}
    return {**files, SOLUTIONS: python_file("en", solved)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the exercises from their source.")
    parser.add_argument("--teacher", type=Path, metavar="FOLDER", help="write notebooks with solutions there instead")
    args = parser.parse_args()
    files = made_files()
    if args.teacher is not None:
        args.teacher.mkdir(parents=True, exist_ok=True)
        files = {
            args.teacher / path.name: nbformat.writes(notebook(language, as_it_is)) + "\n"
            for language, path in NOTEBOOKS.items()
        }
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
