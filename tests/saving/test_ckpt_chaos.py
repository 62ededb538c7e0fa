"""A run that is killed at any change of a file goes on from its newest whole checkpoint, and ends as it would have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [["torch"], ["numba", "--step-by-step"], ["numba"]], ids=" ".join)
def test_killed_at_every_change_of_a_file(engine, tmp_path):
    """
    Before the change, with the new file cut in half, and with the loss of all that was not flushed to the disk.

    ``ckpt-chaos`` also tells whether the newest whole checkpoint was taken.
    """
    options = ["--modes", "before,torn,unsynced", "--max-points", "99", "--work", tmp_path / "work"]
    options += ["--checkpoint-glob", "{out}/checkpoints/checkpoint_*_steps.zip", "--result-file", "{out}/result.txt"]
    options += ["--step-regex", r"resumed from step (\d+)", "--fail-on", "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK"]
    command = [sys.executable, ROOT / "tests" / "saving" / "checkpointed_run.py", "{out}", *engine]
    done = subprocess.run(
        [str(word) for word in (sys.executable, "-m", "ckpt_chaos", "run", *options, "--", *command)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    n_passed = int(done.stdout.rsplit("PASS: ", 1)[1])
    assert n_passed > 20, done.stdout
