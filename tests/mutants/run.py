"""
Make each mistake of ``mutants.py`` in a copy of the package, and see whether its tests notice: ``make mutants``.

``python tests/mutants/run.py WORD ...`` tries those with one of the words in their names. A mistake that no test
notices has survived: a test is missing. Tests that fail without any mistake notice nothing, so they are run first.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.mutants.mutants import MUTANTS, Mutant  # noqa: E402

#: Seconds for the tests of a mutant. One that makes a loop endless is noticed by this
TIMEOUT = 600
_COPIED = ("sb3_lecture_dqn", "tests", "examples", "pyproject.toml", "README.md")


def copy_of_the_repository(folder: Path) -> Path:
    """Copy what tests need into a new folder."""
    copy = folder / "repository"
    copy.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def run_tests(copy: Path, tests: tuple[str, ...], cache: Path, timeout: float) -> str | None:
    """
    Run tests until one fails.

    :param copy: The copy of the repository
    :param tests: What ``pytest`` is called with
    :param cache: Folder for compiled code
    :param timeout: Seconds
    :return: What failed, ``None`` if all tests pass
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",  # a changed file may have the size and the second of the one before
        "NUMBA_CACHE_DIR": str(cache),
        "OMP_NUM_THREADS": "1",
        "HYPOTHESIS_PROFILE": "mutants",
    }
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"no end after {timeout:.0f} s"
    if process.returncode == 0:
        return None
    if process.returncode not in (1, 2):  # 1: a test has failed; 2: a module of tests cannot be imported
        if process.returncode > 0:
            raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{said}")
        return f"the process ends by {signal.Signals(-process.returncode).name}"
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return failed[0] if failed else said.strip().splitlines()[-1]


def try_mutant(mutant: Mutant, copy: Path, caches: Path, timeout: float) -> str | None:
    """Make a mistake in the copy, run its tests and undo it; returns what :func:`run_tests` does."""
    file = copy / "sb3_lecture_dqn" / mutant.file
    source = file.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise RuntimeError(f"{mutant.file} has {source.count(mutant.old)} times {mutant.old!r}, not once")
    # Compiled code is found by a checksum of all kernels.
    is_kernel = mutant.file.startswith("kernels/")
    cache = Path(tempfile.mkdtemp(dir=caches)) if is_kernel else caches / "unchanged"
    file.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return run_tests(copy, mutant.tests, cache, timeout)
    finally:
        file.write_text(source, encoding="utf-8")
        if is_kernel:
            shutil.rmtree(cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in their names")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for the tests of a mutant")
    args = parser.parse_args()
    chosen = {
        name: mutant for name, mutant in MUTANTS.items() if not args.words or any(word in name for word in args.words)
    }
    if not chosen:
        parser.error(f"no mutant has one of the words {args.words} in its name")
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy, caches = copy_of_the_repository(Path(folder)), Path(folder) / "caches"
        caches.mkdir()
        tests = tuple(dict.fromkeys(test for mutant in chosen.values() for test in mutant.tests))
        if (failed := run_tests(copy, tests, caches / "unchanged", 10 * args.timeout)) is not None:
            sys.exit(f"without any mistake: {failed}")
        for name, mutant in chosen.items():
            started = time.monotonic()
            noticed = try_mutant(mutant, copy, caches, args.timeout)
            if noticed is None:
                survived.append(name)
            verdict = "SURVIVED" if noticed is None else "killed  "
            print(f"{verdict} {name} ({time.monotonic() - started:.0f} s): {noticed or mutant.tests}", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutants are killed, {len(survived)} survive")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
