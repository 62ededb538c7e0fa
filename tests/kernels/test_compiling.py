"""The cache of the compiled loops: damaged, out of date, or impossible to write."""

import os
import pickle
import runpy
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("numba")
import numba
from numba.core.caching import IndexDataCacheFile

from sb3_lecture_dqn.kernels import compiling

DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:100],
    "cut at the end": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "garbage": lambda content: bytes(range(256)) * (len(content) // 256 + 1),
    "a bit": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "another version": lambda content: pickle.dumps("0.1") + content[20:],
    "another object": lambda content: pickle.dumps(("no", "cache")),
}
# An index with one of these can look like the index of another version.
READABLE = {"a bit", "another version", "another object"}


class Caller:
    """
    A compiled function that calls one of another file, in a folder of its own.

    :param folder: For the two files
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / "caller.py").write_text(
            "from callee import _number\nfrom sb3_lecture_dqn.kernels.compiling import entry\n\n"
            "@entry\ndef number():\n    return _number()\n"
        )
        self.write(1)

    def write(self, number):
        (self.folder / "callee.py").write_text(
            f"from sb3_lecture_dqn.kernels.compiling import jit\n\n@jit\ndef _number():\n    return {number}\n"
        )

    def load(self):
        """The function, as a new process has it."""
        sys.modules.pop("callee", None)
        compiling._stamp_of.cache_clear()
        return runpy.run_path(str(self.folder / "caller.py"))["number"]


@pytest.fixture
def caller(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_printed", set())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    yield Caller(tmp_path)
    sys.modules.pop("callee", None)
    compiling._stamp_of.cache_clear()


def hits(function):
    return sum(function.stats.cache_hits.values())


def test_an_edit_in_one_file_of_kernels_is_seen_by_those_that_call_it(caller):
    """Numba's own cache looks at a function's own file only, and would go on with what the other file was."""
    results = []
    for number in (1, 1, 2):
        caller.write(number)
        function = caller.load()
        results.append((function(), hits(function)))
    assert results == [(1, 0), (1, 1), (2, 0)]


def damage_cache(caller, suffix, damage):
    """Compile the functions, change all files with a suffix, and load the functions again."""
    assert caller.load()() == 1
    files = list((caller.folder / "cache").rglob(f"*.{suffix}"))
    assert len(files) == 2  # of each function
    for file in files:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    function = caller.load()
    assert function() == 1
    assert hits(function) == 0


def assert_is_read(caller, capsys):
    function = caller.load()
    assert function() == 1
    assert hits(function) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [*(("nbc", damage) for damage in DAMAGES), *(("nbi", damage) for damage in DAMAGES if damage not in READABLE)],
)
def test_a_damaged_cache_is_rebuilt_with_one_line_that_says_so(suffix, damage, caller, capsys):
    """Numba keeps an index and the code of each function."""
    damage_cache(caller, suffix, damage)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(caller.folder / "cache") in line
    assert "is damaged" in line
    assert line.endswith("is rebuilt")
    assert_is_read(caller, capsys)


@pytest.mark.parametrize("damage", ["another version", "another object"])
def test_an_index_of_another_version_is_rebuilt_without_a_word(damage, caller, capsys):
    damage_cache(caller, "nbi", damage)
    assert capsys.readouterr().err == ""
    assert_is_read(caller, capsys)


def test_a_cache_that_cannot_be_written_is_left_with_a_line_that_says_so(caller, monkeypatch, capsys):
    """Where the folder is there, but no file can be written, as on a full disk."""

    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", full)
    assert caller.load()() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line
    assert "No space left" in line


@pytest.mark.parametrize("blocked", ["the folder asked for", "every folder"])
def test_a_cache_folder_that_cannot_be_made_breaks_nothing(blocked, caller, monkeypatch):
    """A folder under a regular file cannot be made by anyone, not even by a superuser, whom permissions do not stop."""
    missing = str(caller.folder / "caller.py" / "folder")
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", missing)
    if blocked == "every folder":
        (caller.folder / "__pycache__").touch()
        for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.setenv(name, missing)
    function = caller.load()
    assert function() == 1
    assert function._cache.cache_path == (None if blocked == "every folder" else str(caller.folder / "__pycache__"))


# The same with the whole package, in processes of their own


def python(code, **environment):
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return subprocess.run(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train_without_a_cache(tmp_path, blocked):
    """
    In a fresh process, where neither beside the package nor in the home folder a cache folder can be made.

    A folder under a regular file cannot be made by anyone, not even by a superuser, whom permissions do not stop.
    """
    (tmp_path / "file").touch()
    missing = str(tmp_path / "file" / "folder")
    environment = {"HOME": missing, "XDG_CACHE_HOME": missing, "LOCALAPPDATA": missing, "PYTHONDONTWRITEBYTECODE": "1"}
    environment["NUMBA_CACHE_DIR"] = missing if blocked == "the folder asked for" else ""  # "": none is asked for
    return python(
        f"""
        import os, pathlib, shutil, sys
        if {blocked != "the folder asked for"}:
            import importlib.util
            package = pathlib.Path(importlib.util.find_spec("sb3_lecture_dqn").origin).parent
            copy = pathlib.Path({str(tmp_path)!r}) / "copy"
            shutil.copytree(package, copy / "sb3_lecture_dqn", ignore=shutil.ignore_patterns("__pycache__"))
            (copy / "sb3_lecture_dqn" / "kernels" / "__pycache__").touch()
            sys.path.insert(0, str(copy))
        from sb3_lecture_dqn import LectureDQN
        from sb3_lecture_dqn.kernels import networks as kernels
        model = LectureDQN("Taxi-v3", engine="numba", seed=0).learn(20)
        print(model.engine_in_use, model._n_updates, kernels.greedy_actions._cache.cache_path)
        """,
        **environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("blocked", ["the folder asked for", "every folder"])
def test_updates_are_compiled_without_a_cache_folder(blocked, tmp_path):
    result = train_without_a_cache(tmp_path, blocked)
    assert result.returncode == 0, result.stderr
    engine, n_updates, folder = result.stdout.split()
    assert (engine, n_updates) == ("numba", "100")
    assert (folder == "None") == (blocked == "every folder")


# A learning rate that is a function makes training go step by step: the compilation of the whole loop takes its time.
ACT = """
    import numpy as np
    from sb3_lecture_dqn import LectureDQN
    rate = lambda remaining: 1e-3
    model = LectureDQN("Taxi-v3", learning_rate=rate, engine="numba", gradient_steps=0, seed=0).learn(20)
    print(model.num_timesteps, model._engine.greedy_actions(np.arange(5)))
    """


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory):
    """A cache as greedy actions and the memory fill it; the compilation of an update takes its time."""
    folder = tmp_path_factory.mktemp("cache")
    result = python(ACT, NUMBA_CACHE_DIR=str(folder))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return folder, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_loop_is_rebuilt_with_one_line_that_says_so(damage, filled_cache, tmp_path):
    source, expected = filled_cache
    folder = tmp_path / "cache"
    shutil.copytree(source, folder)
    note = folder / "a file of the user's.nbi"
    note.write_text("not numba's")
    # The index of one function, of the next what it was compiled to, and so on.
    indices = sorted(file for file in folder.rglob("*.nbi") if file != note)
    assert len(indices) > 1
    for i, index in enumerate(indices):
        for file in [index] if i % 2 else index.parent.glob(index.stem + ".*.nbc"):
            file.write_bytes(DAMAGES[damage](file.read_bytes()))
    result = python(ACT, NUMBA_CACHE_DIR=str(folder))
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected
    (line,) = result.stderr.splitlines()
    assert str(folder) in line
    assert "is damaged" in line
    assert line.endswith("is rebuilt")
    assert note.read_text() == "not numba's"
    if damage == "empty":
        again = python(ACT, NUMBA_CACHE_DIR=str(folder))
        assert (again.stdout, again.stderr) == (expected, "")
