"""Rows of results in CSV files, and tables of them in Markdown."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read rows; none if there is no file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(file: Path, fields: Iterable[str], rows: list[dict[str, Any]]) -> None:
    """Write rows in place of those in a file."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(about: str, titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table, with words about it before."""
    body = "".join(f"| {' | '.join(cells)} |\n" for cells in (titles, *lines))
    head, rest = body.split("\n", 1)
    return f"{about}\n\n{head}\n|{'---|' * len(titles)}\n{rest}"
