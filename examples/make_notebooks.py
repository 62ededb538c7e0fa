"""
Make ``lecture_walkthrough.ipynb`` and ``lecture_walkthrough_ko.ipynb`` from their source, with the outputs of a run.

    python examples/make_notebooks.py

A cell of the source begins with a line ``# %% en`` or ``# %% ko`` (text in English or Korean, in comments) or ``# %%``
(code of both notebooks). The last cell, ``# %% words``, has the English words of the code and the Korean ones.
"""

import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parent
SOURCE = EXAMPLES / "lecture_walkthrough.py"
NOTEBOOKS = {"en": EXAMPLES / "lecture_walkthrough.ipynb", "ko": EXAMPLES / "lecture_walkthrough_ko.ipynb"}
TIMEOUT = 300


def build(language: str) -> nbformat.NotebookNode:
    """
    Make a notebook from the source.

    :param language: "en" or "ko"
    :return: The notebook, without outputs
    """
    _, *cells, words = re.split(r"^# %%", SOURCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    translations = [line.removeprefix("# ").split(" => ") for line in words.splitlines()[1:]]
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in cells:
        kind, _, content = cell.partition("\n")
        if not kind:
            if language == "ko":
                for english, korean in translations:
                    content = content.replace(english, korean)
            notebook.cells.append(nbformat.v4.new_code_cell(content.strip()))
        elif kind.strip() == language:
            text = re.sub("^# ?", "", content, flags=re.MULTILINE)
            notebook.cells.append(nbformat.v4.new_markdown_cell(text.strip()))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same in every run
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """
    Run a notebook in a fresh kernel.

    :param notebook: The notebook, which gets the outputs
    :param folder: Working folder of the kernel
    :return: The notebook
    :raises nbclient.exceptions.CellExecutionError: If a cell fails
    """
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=TIMEOUT, resources=resources, coalesce_streams=True)
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times
        if cell.cell_type == "code":  # whether something was compiled depends on earlier runs
            cell.outputs = [output for output in cell.outputs if "compiling the training loop" not in str(output)]
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def main() -> None:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures without a window
    for language, path in NOTEBOOKS.items():
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(build(language), Path(folder))
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
