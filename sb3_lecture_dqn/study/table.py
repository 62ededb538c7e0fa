"""The table of a study's results, in a file of SQLite."""

import json
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from sb3_lecture_dqn.study.plan import Trial
from sb3_lecture_dqn.study.trial import Row

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
_CREATE = f"""
CREATE TABLE IF NOT EXISTS trials (
    task TEXT NOT NULL, setting TEXT NOT NULL, seed INTEGER NOT NULL,
    definition TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', error TEXT,
    {", ".join(f"{name} {kind}" for name, kind in _RESULTS.items())},
    PRIMARY KEY (task, setting, seed)
)
"""


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
            connection.execute(_CREATE)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.folder / FILE, timeout=60)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise OSError(f"{self.folder / FILE}: {error}") from error

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
        with self._connected() as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute("SELECT * FROM trials ORDER BY rowid")]
        for row in found:
            row["curve"] = None if row["curve"] is None else json.loads(row["curve"])
            row["exact"] = None if row["exact"] is None else bool(row["exact"])
        return found


def read_rows(folder: str | pathlib.Path) -> list[dict[str, Any]]:
    """
    Read the results of a study.

    :param folder: Its folder
    :return: See :meth:`ResultTable.rows`
    :raises FileNotFoundError: If there is none
    """
    if not (pathlib.Path(folder) / FILE).is_file():
        raise FileNotFoundError(f"{str(folder)!r} is no folder of a study: it has no {FILE}")
    return ResultTable(folder).rows()
