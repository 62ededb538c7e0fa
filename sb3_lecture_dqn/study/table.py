"""The table of a study's results, in a file of SQLite."""

import json
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from filelock import FileLock, Timeout

from sb3_lecture_dqn.common.checks import check_choice, check_number, parse_frequency, shown
from sb3_lecture_dqn.study.plan import MAX_TRIALS, Trial
from sb3_lecture_dqn.study.trial import TEST_FIELDS, Row

FILE = "results.sqlite"
#: Columns that a trial fills, with their types
_RESULTS = {
    "timesteps": "INTEGER",
    "episodes": "INTEGER",
    **dict.fromkeys(TEST_FIELDS, "REAL"),
    "n_test_episodes": "INTEGER",
    "exact": "INTEGER",
    "weights_sha256": "TEXT",
    "curve": "TEXT",
}
#: The version of the table that added a column; version 1 has the columns that are not listed
_ADDED_IN = dict(TEST_FIELDS)
#: Version of the table. Files of version 1.0 of this package do not say theirs, and have version 1
SCHEMA_VERSION = max(_ADDED_IN.values())
#: Columns that a finished trial may leave empty: only tabular tasks have an optimality, old files lack later columns
_MAY_BE_MISSING = {"optimality", *(name for name, version in _ADDED_IN.items() if version > 1)}


def _results_of(version: int) -> dict[str, str]:
    return {name: kind for name, kind in _RESULTS.items() if _ADDED_IN.get(name, 1) <= version}


def _table_of(version: int) -> str:
    """Return the SQL that makes the table of a version."""
    return f"""
CREATE TABLE trials (
    task TEXT NOT NULL, setting TEXT NOT NULL, seed INTEGER NOT NULL,
    definition TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', error TEXT,
    {", ".join(f"{name} {kind}" for name, kind in _results_of(version).items())},
    PRIMARY KEY (task, setting, seed)
)
"""


#: Most letters of a text and most points of a curve in a file
_MAX_TEXT, _MAX_POINTS = 2**20, 2**16
#: Largest number in a file: the square of a larger number may be infinite
_LARGEST = 1e30


class ResultTable:
    """
    A table with a row for every trial: ``waiting``, ``done`` with its results, or ``failed`` with its error.

    Every change is on the disk when a call returns. One process writes; others may read at any time.

    :param folder: The study's folder, which is made if it does not exist
    :raises OSError: In every call, if the file cannot be read or written
    """

    def __init__(self, folder: str | pathlib.Path) -> None:
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._connected() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
                connection.execute(_table_of(SCHEMA_VERSION))
            version = _checked_version(connection)
            if version < SCHEMA_VERSION:
                _upgrade(connection, version)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        file = self.folder / FILE
        with _errors_named(file), closing(sqlite3.connect(file, timeout=60)) as connection, connection:
            yield connection

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Within this context, no other process can run the study.

        :return: A context. The lock also ends with the process
        :raises ValueError: If another process has the lock
        """
        try:
            with FileLock(self.folder / "lock", timeout=0):
                yield
        except Timeout as error:
            raise ValueError(f"folder={str(self.folder)!r}: another process runs this study") from error

    def add(self, trials: Iterable[Trial]) -> None:
        """
        Add trials that the table does not have yet.

        :param trials: The trials
        :raises ValueError: If the table has another trial with the same task, setting and seed
        """
        with self._connected() as connection:
            for trial in trials:
                connection.execute(
                    "INSERT OR IGNORE INTO trials (task, setting, seed, definition) VALUES (?, ?, ?, ?)",
                    (*trial.key, trial.definition),
                )
                (definition,) = connection.execute(
                    "SELECT definition FROM trials WHERE (task, setting, seed) = (?, ?, ?)", trial.key
                ).fetchone()
                if definition != trial.definition:
                    raise ValueError(
                        f"folder={str(self.folder)!r} has results of another trial {trial}; choose another folder or "
                        f"another name for the setting. In the folder: {definition}; now: {trial.definition}"
                    )

    def unfinished(self, trials: Iterable[Trial]) -> list[Trial]:
        """
        Select the trials that still have to run.

        :param trials: The trials
        :return: The waiting and the failed trials
        """
        with self._connected() as connection:
            done = set(connection.execute("SELECT task, setting, seed FROM trials WHERE state = 'done'"))
        return [trial for trial in trials if trial.key not in done]

    def record(self, trial: Trial, row: Row) -> None:
        """
        Write the result of a trial.

        :param trial: The trial
        :param row: The row that :func:`study.trial.attempt` returned
        """
        if unknown := row.keys() - _RESULTS.keys() - {"error"}:  # the names become SQL
            raise ValueError(f"{trial}: its result has {', '.join(map(repr, sorted(unknown)))}, which is not a column")
        columns = {"state": "failed" if "error" in row else "done", "error": None, **row}
        if "curve" in columns:
            columns["curve"] = json.dumps(columns["curve"])
        words = ", ".join(f"{name} = ?" for name in columns)
        with self._connected() as connection:
            connection.execute(
                f"UPDATE trials SET {words} WHERE (task, setting, seed) = (?, ?, ?)", (*columns.values(), *trial.key)
            )

    def rows(self) -> list[dict[str, Any]]:
        """
        Read the table.

        :return: All rows, in the order in which the trials were added. Curves are dictionaries of columns
        """
        return read_rows(self.folder)


@contextmanager
def _errors_named(file: pathlib.Path) -> Iterator[None]:
    """Within this context, raise errors of SQLite as ``OSError`` with the name of the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"{file}: {error}") from error


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Convert the table of an older version to this version, within the open transaction."""
    columns = "task, setting, seed, definition, state, error, " + ", ".join(_results_of(version))
    rows = connection.execute(f"SELECT {columns} FROM trials ORDER BY rowid").fetchall()
    connection.execute("DROP TABLE trials")
    connection.execute(_table_of(SCHEMA_VERSION))
    connection.executemany(f"INSERT INTO trials ({columns}) VALUES ({', '.join('?' * len(columns.split()))})", rows)


def _checked_version(connection: sqlite3.Connection) -> int:
    """
    Check that a file has the table of a known version and nothing else.

    A hostile file may have an endless view instead, columns computed by expressions, or triggers.

    :param connection: A connection to the file
    :return: The version of the table
    :raises sqlite3.DatabaseError: If the file has anything else, or the table of a later version
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    version = version or 1
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"its table has version {version}, and this package reads versions up to {SCHEMA_VERSION}"
        )
    table = _table_of(version).split()
    entries = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 2").fetchall()
    if [(kind, name) for kind, name, _ in entries] != [("table", "trials")] or entries[0][2].split() != table:
        names = ", ".join(f"{kind} {name!r}" for kind, name, _ in entries) or "no table"
        raise sqlite3.DatabaseError(f"it is not a table of a study: it has {shown(names, 200)}")
    return version


def read_rows(folder: str | pathlib.Path) -> list[dict[str, Any]]:
    """
    Read the results of a study without writing to its folder. The study may come from somebody else.

    :param folder: The study's folder
    :return: See :meth:`ResultTable.rows`
    :raises FileNotFoundError: If the folder has no study
    :raises OSError: If the file cannot be read, or is not a table of a study
    :raises ValueError: If a row has a value that no study writes; the message says which row
    """
    file = pathlib.Path(folder) / FILE
    if not file.is_file():
        raise FileNotFoundError(f"{str(folder)!r} is not the folder of a study: it has no {FILE}")
    # Read-only: SQLite rolls back a journal beside the file before writing, and a journal can name files to remove
    address = f"{file.resolve().as_uri()}?mode=ro"
    rows: list[dict[str, Any]] = []
    with _errors_named(file), closing(sqlite3.connect(address, uri=True, timeout=60)) as connection:
        if hasattr(connection, "setlimit"):  # Python 3.11
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_TEXT)
        later = _RESULTS.keys() - _results_of(_checked_version(connection)).keys()
        connection.row_factory = sqlite3.Row
        bytes_left = 2 * file.stat().st_size + _MAX_TEXT  # the rows of a hostile file may share their pages
        for row in connection.execute("SELECT * FROM trials ORDER BY rowid"):
            bytes_left -= sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if bytes_left < 0 or len(rows) == MAX_TRIALS:
                raise sqlite3.DatabaseError(f"it has more than {MAX_TRIALS} rows, or its rows are larger than the file")
            rows.append({**dict(row), **dict.fromkeys(later)})
    for number, row in enumerate(rows, 1):
        try:
            _check_row(row)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: no study writes row {number}: {shown(str(error), 300)}") from error
    return rows


def _check_row(row: dict[str, Any]) -> None:
    """
    Check a row, and parse its JSON.

    :raises ValueError: If no study writes the row
    """
    for name in ("task", "setting", "definition", "state"):
        if not isinstance(row[name], str):
            raise ValueError(f"{name}={row[name]!r} must be text")
    for name in ("task", "setting"):
        if not row[name].isprintable() or not 0 < len(row[name]) <= 200:
            raise ValueError(f"{name}={row[name]!r} must be text in one line of at most 200 letters")
    check_choice("state", row["state"], ("waiting", "done", "failed"))
    if row["state"] == "failed" and not isinstance(row["error"], str):
        raise ValueError(f"error={row['error']!r} must be text")
    definition = json.loads(row["definition"])
    if not isinstance(definition, dict):
        raise ValueError("definition must be a table")
    parse_frequency("test_freq", definition.get("test_freq", 0))
    check_number("seed", row["seed"], 0, 2**32 - 1, integer=True)
    done = row["state"] == "done"
    for name, kind in _RESULTS.items():
        if kind == "TEXT" or (row[name] is None and (not done or name in _MAY_BE_MISSING)):
            continue
        check_number(name, row[name], -_LARGEST, _LARGEST, integer=kind == "INTEGER")
    row["exact"] = None if row["exact"] is None else bool(row["exact"])
    if row["curve"] is not None or done:
        row["curve"] = _checked_curve(json.loads(row["curve"] or "null"))


def _checked_curve(curve: Any) -> dict[str, list[float | None]]:
    columns = {"episodes", "timesteps", *(name for name, version in TEST_FIELDS.items() if version == 1)}
    if not isinstance(curve, dict) or not columns <= curve.keys():
        raise ValueError(f"curve must be a table with {', '.join(sorted(columns))}")
    n_points = len(curve["episodes"]) if isinstance(curve["episodes"], list) else -1
    for name, values in curve.items():
        if not isinstance(values, list) or not len(values) == n_points <= _MAX_POINTS:
            raise ValueError(f"curve: {name!r} must be a list as long as the other columns, and at most {_MAX_POINTS}")
        for value in values:
            if value is not None or name != "optimality":
                check_number(f"curve: {name}", value, -_LARGEST, _LARGEST)
    return curve
