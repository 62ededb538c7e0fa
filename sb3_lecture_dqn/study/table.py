"""The table of a study's results, in a file of SQLite."""

import json
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from sb3_lecture_dqn.common.checks import check_choice, check_number, parse_frequency, shown
from sb3_lecture_dqn.study.plan import MAX_TRIALS, Trial
from sb3_lecture_dqn.study.trial import FIGURES, Row

FILE = "results.sqlite"
#: Columns that a trial fills, with their types
_RESULTS = {
    "timesteps": "INTEGER",
    "episodes": "INTEGER",
    "mean_reward": "REAL",
    "mean_steps": "REAL",
    "mean_penalties": "REAL",
    "success_rate": "REAL",
    "optimality": "REAL",
    "n_test_episodes": "INTEGER",
    "exact": "INTEGER",
    "weights_sha256": "TEXT",
    "curve": "TEXT",
}
#: Version of the table; files of 1.0, which do not say theirs, have version 1
SCHEMA_VERSION = 1
#: The version that added a column to the table, for the columns that version 1 has not
_ADDED_IN: dict[str, int] = {}

#: Columns that a trial that is done may leave empty: not every task has the number, or not every version the column
_MAY_BE_MISSING = {"optimality", *_ADDED_IN}


def _results_of(version: int) -> dict[str, str]:
    return {name: kind for name, kind in _RESULTS.items() if _ADDED_IN.get(name, 1) <= version}


def _table_of(version: int) -> str:
    """The SQL that makes the table of a version."""
    return f"""
CREATE TABLE trials (
    task TEXT NOT NULL, setting TEXT NOT NULL, seed INTEGER NOT NULL,
    definition TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', error TEXT,
    {", ".join(f"{name} {kind}" for name, kind in _results_of(version).items())},
    PRIMARY KEY (task, setting, seed)
)
"""


#: Most letters of a text and most numbers of a curve in a file of others
_MAX_TEXT, _MAX_POINTS = 2**20, 2**16
#: Most that a number there may be: the sums and squares of larger ones are no numbers
_LARGEST = 1e30


class ResultTable:
    """
    One row for every trial: ``waiting``, ``done`` with its results, or ``failed`` with its error.

    Every change is on the disk when a call returns, and others can read at any time. One process writes.

    :param folder: The study's folder, which is made
    :raises OSError: In every call, if the file cannot be read or written
    """

    def __init__(self, folder: str | pathlib.Path) -> None:
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._connected() as connection:
            if _is_empty(connection):
                _make_table(connection)
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
        Keep the study to this process, also from others that would run it.

        :return: A context; the lock ends with the process, however that ends
        :raises ValueError: If another process has it
        """
        file = self.folder / "lock.sqlite"
        try:
            with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as lock:
                lock.execute("BEGIN EXCLUSIVE")
                yield
        except sqlite3.Error as error:
            if str(error) != "database is locked":
                raise OSError(f"{file}: {error}") from error
            raise ValueError(f"folder={str(self.folder)!r}: another process runs this study ({error})") from error

    def add(self, trials: Iterable[Trial]) -> None:
        """
        Add trials that are not there yet.

        :param trials: The trials
        :raises ValueError: If the table has one of the same task, setting and seed that is otherwise not the same
        """
        with self._connected() as connection:
            for trial in trials:
                connection.execute(
                    "INSERT OR IGNORE INTO trials (task, setting, seed, definition) VALUES (?, ?, ?, ?)",
                    (*trial.key, trial.definition),
                )
                (there,) = connection.execute(
                    "SELECT definition FROM trials WHERE (task, setting, seed) = (?, ?, ?)", trial.key
                ).fetchone()
                if there != trial.definition:
                    raise ValueError(
                        f"folder={str(self.folder)!r} has results of another trial {trial}; choose another folder or "
                        f"another name for the setting. There: {there}; now: {trial.definition}"
                    )

    def unfinished(self, trials: Iterable[Trial]) -> list[Trial]:
        """
        What is left to do.

        :param trials: The trials
        :return: Those that are not done, also if they have failed
        """
        with self._connected() as connection:
            done = set(connection.execute("SELECT task, setting, seed FROM trials WHERE state = 'done'"))
        return [trial for trial in trials if trial.key not in done]

    def record(self, trial: Trial, row: Row) -> None:
        """
        Write what came of a trial.

        :param trial: The trial
        :param row: What :func:`study.trial.attempt` returned
        """
        if unknown := row.keys() - _RESULTS.keys() - {"error"}:  # names would be read as SQL
            raise ValueError(f"{trial}: its result has {', '.join(map(repr, sorted(unknown)))}, which is no column")
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

        :return: All rows, in the order in which the trials were added; curves as tables of columns
        """
        return read_rows(self.folder)


@contextmanager
def _errors_named(file: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"{file}: {error}") from error


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _make_table(connection: sqlite3.Connection) -> None:
    connection.execute(_table_of(SCHEMA_VERSION))


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Make the table of an older version one of this version, in the transaction that is open."""
    columns = "task, setting, seed, definition, state, error, " + ", ".join(_results_of(version))
    rows = connection.execute(f"SELECT {columns} FROM trials ORDER BY rowid").fetchall()
    connection.execute("DROP TABLE trials")
    _make_table(connection)
    connection.executemany(f"INSERT INTO trials ({columns}) VALUES ({', '.join('?' * len(columns.split()))})", rows)


def _checked_version(connection: sqlite3.Connection) -> int:
    """
    Check that there is the table of a version and nothing else. In its place there could be a view that never ends, in
    its columns an expression of any size, and beside it triggers.

    :param connection: The file, open
    :return: The version of the table
    :raises sqlite3.DatabaseError: If there is anything else, or the table of a later version
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    version = version or 1
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"its table has version {version}, and this package reads versions up to {SCHEMA_VERSION}"
        )
    table = _table_of(version).split()
    found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 2").fetchall()
    if [(kind, name) for kind, name, _ in found] != [("table", "trials")] or found[0][2].split() != table:
        what = ", ".join(f"{kind} {name!r}" for kind, name, _ in found) or "nothing"
        raise sqlite3.DatabaseError(f"it is no table of a study: it has {shown(what, 200)} of its own making")
    return version


def read_rows(folder: str | pathlib.Path) -> list[dict[str, Any]]:
    """
    Read the results of a study, also of one that somebody else has made, without writing to its folder.

    :param folder: Its folder
    :return: See :meth:`ResultTable.rows`
    :raises FileNotFoundError: If there is none
    :raises OSError: If the file cannot be read, or is no table of a study
    :raises ValueError: If a row is not one of a study; the message says which
    """
    file = pathlib.Path(folder) / FILE
    if not file.is_file():
        raise FileNotFoundError(f"{str(folder)!r} is no folder of a study: it has no {FILE}")
    # Read-only: a journal beside the file, which is rolled back before writing, can name other files to be removed
    address = f"{file.resolve().as_uri()}?mode=ro"
    found: list[dict[str, Any]] = []
    with _errors_named(file), closing(sqlite3.connect(address, uri=True, timeout=60)) as connection:
        if hasattr(connection, "setlimit"):  # Python 3.11
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_TEXT)
        later = _RESULTS.keys() - _results_of(_checked_version(connection)).keys()
        connection.row_factory = sqlite3.Row
        left = 2 * file.stat().st_size + _MAX_TEXT  # pages of a file may be in each other, again and again
        for row in connection.execute("SELECT * FROM trials ORDER BY rowid"):
            left -= sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if left < 0 or len(found) == MAX_TRIALS:
                raise sqlite3.DatabaseError(
                    f"it has more than {MAX_TRIALS} rows, or larger ones than there is room for"
                )
            found.append({**dict(row), **dict.fromkeys(later)})
    for number, row in enumerate(found, 1):
        try:
            _check_row(row)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: row {number} is none of a study: {shown(str(error), 300)}") from error
    return found


def _check_row(row: dict[str, Any]) -> None:
    """
    Check a row, and read what it has as JSON.

    :raises ValueError: If it is not one that a study writes
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
    columns = {"episodes", "timesteps", *FIGURES}
    if not isinstance(curve, dict) or not columns <= curve.keys():
        raise ValueError(f"curve must be a table with {', '.join(sorted(columns))}")
    n_points = len(curve["episodes"]) if isinstance(curve["episodes"], list) else -1
    for name, values in curve.items():
        if not isinstance(values, list) or not len(values) == n_points <= _MAX_POINTS:
            raise ValueError(f"curve: {name!r} must be a list, as long as the others and of {_MAX_POINTS} at most")
        for value in values:
            if value is not None or name != "optimality":
                check_number(f"curve: {name}", value, -_LARGEST, _LARGEST)
    return curve
