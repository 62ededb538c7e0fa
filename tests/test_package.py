"""The package that users get: built, checked, and installed without the repository."""

import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import venv
import zipfile

import pytest

import sb3_lecture_dqn
from sb3_lecture_dqn.registration import VARIANTS

ROOT = pathlib.Path(__file__).parent.parent

QUICK_USE = """
from sb3_lecture_dqn import LectureDQN, LectureTestCallback, __file__ as where

assert "site-packages" in where, where
model = LectureDQN("Taxi-v3", seed=0)
model.learn(total_episodes=3, callback=LectureTestCallback(n_test_episodes=2))
model.save("taxi")
model = LectureDQN.load("taxi")
model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0).learn(100)
"""


def run(*words, folder, **environment):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_importing_the_package_changes_nothing_but_gymnasiums_registry(tmp_path):
    """In a new process that has imported all modules of gymnasium, SB3, sb3-contrib and RL Zoo."""
    said = run(sys.executable, "-W", "ignore", ROOT / "tests" / "import_leaves_no_trace.py", folder=tmp_path)
    seen = json.loads(said.splitlines()[-1])
    assert seen.pop("n") > 5000, "attributes of modules and of their classes"
    ours = {"Taxi-v3", *VARIANTS}
    assert set(seen.pop("ids")) in (ours, ours - {"Taxi-v3"})
    assert seen == {"replaced": [], "added": [], "process": [], "registry": []}


@pytest.mark.parametrize("address", ["https://example.org/owner/name", ""])
def test_links_of_the_readme_work_where_the_package_is_shown(address):
    """They lead into the repository if its address is known; otherwise only those to other places are left."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = runpy.run_path(str(ROOT / "hatch_build.py"))["outside_the_repository"](text, address)
    before, after = (re.findall(r"\]\(([^)]+)\)", each) for each in (text, shown))
    relative = [link for link in before if "://" not in link]
    assert len(relative) > 20
    assert [link for link in after if "://" not in link] == []
    assert len(after) == len(before) - (0 if address else len(relative))
    for link in relative if address else []:
        kind = "raw" if link.endswith((".png", ".gif")) else "blob"
        assert f"({address}/{kind}/HEAD/{link})" in shown
    plain = [re.sub(r"!?\[([^\]]*)\]\([^)]*\)", "", each) for each in (text, shown)]
    assert address == "" or plain[0] == plain[1], "nothing but links changes"


@pytest.mark.slow
def test_the_built_package_installs_and_works_outside_the_repository(tmp_path):
    """A path file lets the new environment see the packages of this one, but not the repository."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", folder=ROOT)
    (wheel,), (sdist,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    assert sb3_lecture_dqn.__version__ in wheel.name
    assert sb3_lecture_dqn.__version__ in sdist.name
    said = run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, folder=tmp_path)
    assert said.count("PASSED") == 2
    names = zipfile.ZipFile(wheel).namelist()
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sb3_lecture_dqn").rglob("*.*")
        if "__pycache__" not in path.parts
    }
    assert package == {name for name in names if ".dist-info/" not in name}

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, folder=tmp_path)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    visible = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(visible))
    run(python, "-c", QUICK_USE, folder=tmp_path, PYTHONPATH="")
    run(tmp_path / "venv" / "bin" / "sb3-lecture-dqn", "--version", folder=tmp_path, PYTHONPATH="")


@pytest.mark.slow
def test_a_users_script_is_typed(tmp_path):
    """With mypy's own settings: ours are stricter in places and more lenient in others."""
    script = ROOT / "tests" / "user_script.py"
    (tmp_path / "mypy.ini").write_text("[mypy]\n")
    checked = ["mypy", "--strict", "--config-file", "mypy.ini", "--cache-dir", "cache", script]
    run(sys.executable, "-m", *checked, folder=tmp_path, MYPYPATH=str(ROOT))
    wrong = tmp_path / "wrong.py"
    wrong.write_text(script.read_text().replace("total_episodes=5", 'total_episodes="five"'))
    with pytest.raises(AssertionError, match=r'incompatible type "str"|total_episodes.*"five"'):
        run(sys.executable, "-m", *checked[:-1], wrong, folder=tmp_path, MYPYPATH=str(ROOT))
