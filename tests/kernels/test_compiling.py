"""The cache of the compiled loops: damaged, out of date, or impossible to write."""

import os
import pickle
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("numba")


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


def train_without_a_cache(tmp_path, blocked, gradient_steps):
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
        from sb3_lecture_dqn.kernels import updates as kernels
        model = LectureDQN("Taxi-v3", engine="numba", gradient_steps={gradient_steps}, seed=0).learn(20)
        print(model.engine_in_use, model._n_updates, kernels.greedy_actions._cache.cache_path)
        """,
        **environment,
    )


@pytest.mark.parametrize("blocked", ["the folder asked for", "every folder"])
def test_a_cache_folder_that_cannot_be_made_breaks_nothing(blocked, tmp_path):
    """Greedy actions and the memory, as the compilation of an update takes its time."""
    result = train_without_a_cache(tmp_path, blocked, gradient_steps=0)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("numba 0 ")
    if blocked == "every folder":
        assert result.stdout.split()[-1] == "None"


@pytest.mark.slow
def test_updates_are_compiled_without_a_cache_folder(tmp_path):
    result = train_without_a_cache(tmp_path, "every folder", gradient_steps=5)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["numba", "100", "None"]


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

ACT = """
    import numpy as np
    from sb3_lecture_dqn import LectureDQN
    model = LectureDQN("Taxi-v3", engine="numba", gradient_steps=0, seed=0).learn(20)
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


@pytest.mark.parametrize(
    "damage", [name if i % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(DAMAGES)]
)
def test_a_damaged_cache_is_rebuilt_with_one_line_that_says_so(damage, filled_cache, tmp_path):
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


def test_a_cache_that_cannot_be_written_is_left_with_a_line_that_says_so(tmp_path):
    """Where the folder is there, but no file can be written, as on a full disk."""
    result = python(
        """
        import numba, sys
        from sb3_lecture_dqn.kernels import updates as kernels
        from numba.core.caching import IndexDataCacheFile
        def full(self, path):
            raise OSError(28, "No space left on device")
        IndexDataCacheFile._open_for_write = full
        """
        + ACT.replace("\n    ", "\n        "),
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert "cannot be written" in line
    assert "No space left" in line


def test_an_edit_in_one_file_of_kernels_is_seen_by_those_that_call_it(tmp_path):
    """Numba's own cache looks at a function's own file only, and would go on with what the other file was."""
    (tmp_path / "caller.py").write_text(
        "from callee import _number\nfrom sb3_lecture_dqn.kernels.compiling import jit\n\n"
        "@jit\ndef number():\n    return _number()\n"
    )
    printed = []
    for number in (1, 1, 2):
        (tmp_path / "callee.py").write_text(
            f"from sb3_lecture_dqn.kernels.compiling import jit\n\n@jit\ndef _number():\n    return {number}\n"
        )
        result = python(
            f"""
            import sys
            sys.path.insert(0, {str(tmp_path)!r})
            from caller import number
            print(number(), sum(number.stats.cache_hits.values()))
            """,
            PYTHONDONTWRITEBYTECODE="1",
            NUMBA_CACHE_DIR=str(tmp_path / "cache"),
        )
        assert result.returncode == 0, result.stderr
        printed.append(result.stdout.split())
    assert printed == [["1", "0"], ["1", "1"], ["2", "0"]]
