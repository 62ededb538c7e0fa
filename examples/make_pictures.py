"""
Make every picture of the README and of the guide anew, by one command.

    python examples/make_pictures.py                       # some minutes: the lecture's run, 3 seeds
    python examples/make_pictures.py --only taxi ladder    # some of them

``taxi`` is the video and the value map of an agent with the recommended settings, ``curves`` the learning curves of the
lecture's runs, ``page`` the screenshots of the page of a run, ``tensorboard`` those of TensorBoard (all with Debian's
Chromium and Playwright; extra ``dev``). These are trained here, by the README's commands. The trainings of the others
take up to hours, so they are drawn again from their stored results: ``ladder`` (``lecture_ladder.py``), ``study``
(``ablate``) and ``large_world`` (``large_world.py``).
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture_dqn import LectureDQN, LectureTensorBoardCallback, exact_test, study
from sb3_lecture_dqn.cli import main as command

EXAMPLES = Path(__file__).resolve().parent
#: Keep Chromium off the internet
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                  "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # fmt: skip


def sb3_lecture_dqn(*words: object) -> None:
    """Run a command."""
    if (code := command([str(word) for word in words])) != 0:
        raise SystemExit(code)


def script(name: str, *words: object) -> None:
    """Run another script of this folder."""
    subprocess.run([sys.executable, EXAMPLES / name, *map(str, words)], check=True)


class Runs:
    """
    The runs of which several pictures are made, each trained once.

    :param folder: Where they go
    :param episodes: Episodes of the lecture's runs
    :param seeds: Number of the lecture's runs
    """

    def __init__(self, folder: Path, episodes: int, seeds: int) -> None:
        self.folder, self.episodes, self.seeds = folder, episodes, seeds
        self.lecture, self.tuned = cache(self._lecture), cache(self._tuned)

    def _lecture(self) -> Path:
        for seed in range(self.seeds):
            sb3_lecture_dqn(
                "train", "--episodes", self.episodes, "--seed", seed, "--quiet", "--out", self.folder / "lecture"
            )
        return self.folder / "lecture"

    def _tuned(self) -> Path:
        folder = self.folder / "tuned"
        model = LectureDQN.tuned("Taxi-v3", use_masking=True, seed=0, tensorboard_log=str(folder))
        model.learn(callback=LectureTensorBoardCallback())
        print(exact_test(model))
        model.save(folder / "model")
        return folder


def taxi(runs: Runs, out: Path) -> None:
    """The video of an agent, and its value map as TensorBoard has it."""
    folder = runs.tuned()
    sb3_lecture_dqn(
        "watch", folder / "model.zip", "--episodes", 1, "--seed", 3, "--fps", 2, "--out", out / "images/taxi.gif"
    )
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    values = EventAccumulator(str(run), size_guidance={"images": 0}).Reload().Images("values/learned")
    (out / "images/values.png").write_bytes(values[-1].encoded_image_string)


def curves(runs: Runs, out: Path) -> None:
    """The learning curves of the lecture's runs."""
    sb3_lecture_dqn("plot", runs.lecture(), "--out", out / "images/curves.png")


def ladder(runs: Runs, out: Path) -> None:
    """The lecture's ladder, from its stored tests."""
    stored = EXAMPLES / "results/ladder.json"
    if not stored.exists():
        print(f"Not made: {stored} is not there; `python examples/lecture_ladder.py --seeds 5` trains for it")
        return
    (out / "results/ladder.json").exists() or shutil.copy(stored, out / "results")
    script("lecture_ladder.py", "--redraw", "--out", out / "results")


def lecture_study(runs: Runs, out: Path) -> None:
    """The report of the lecture's two switches, from its stored table."""
    stored = EXAMPLES / "results/lecture_study"
    if not stored.exists():
        print(f"Not made: {stored} is not there; `sb3-lecture-dqn ablate --out {stored}` trains for it")
        return
    figure = study.report.draw(study.read_rows(stored))
    figure.savefig(out / "results/lecture_study.png", dpi=120)


def large_world(runs: Runs, out: Path) -> None:
    """The large world, from its stored runs."""
    (out / "guide/large_world.json").exists() or shutil.copy(EXAMPLES / "guide/large_world.json", out / "guide")
    script("large_world.py", "--out", out / "guide")


def page(runs: Runs, out: Path) -> None:
    """Screenshots of the page of the lecture's run, on a computer and on a phone."""
    script("make_page_pictures.py", "--episodes", runs.episodes, "--out", out / "images")


def tensorboard(runs: Runs, out: Path) -> None:
    """Screenshots of TensorBoard: the lecture's curves, and the projector, coloured by the optimal action."""
    first = sorted(path for path in runs.lecture().iterdir() if path.is_dir())[0]
    with _tensorboard(first.parent) as address, _page(1500, 480) as page:
        page.goto(f"{address}/?darkMode=false#scalars&tagFilter=%5E(Reward%7CSteps%7CSolved)%24&_smoothingWeight=0")
        page.get_by_text("tag: Solved").first.wait_for()
        page.wait_for_timeout(3000)
        page.screenshot(path=out / "images/tensorboard.png")
    with _tensorboard(runs.tuned()) as address, _page(1400, 857) as page:
        page.goto(f"{address}/?darkMode=false#projector")
        projector = page.frame_locator("iframe").frame_locator("iframe")
        projector.get_by_text("tensors found").wait_for()
        projector.get_by_text("Points: 400").wait_for()
        page.wait_for_timeout(4000)
        page.screenshot(path=out / "images/tensorboard_projector.png")


@contextmanager
def _tensorboard(logdir: Path) -> Iterator[str]:
    """Run a TensorBoard, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", logdir.name, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words],
        cwd=logdir.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                if urllib.request.urlopen(f"{address}/data/runs", timeout=60).read() != b"[]":
                    break
            except OSError:
                pass
            if process.poll() is not None:
                break
            time.sleep(0.5)
        else:
            raise SystemExit("TensorBoard has not loaded the runs in two minutes")
        if process.poll() is not None:
            raise SystemExit(f"TensorBoard has ended with code {process.returncode}")
        time.sleep(3)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _page(width: int, height: int) -> Iterator[Any]:
    """Open a page of Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("screenshots need Chromium: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(180_000)  # of a busy machine
        yield page
        browser.close()


#: How the pictures are made, and their files
PICTURES: dict[str, tuple[Callable[[Runs, Path], None], tuple[str, ...]]] = {
    "taxi": (taxi, ("images/taxi.gif", "images/values.png")),
    "curves": (curves, ("images/curves.png",)),
    "ladder": (ladder, ("results/ladder.png",)),
    "study": (lecture_study, ("results/lecture_study.png",)),
    "large_world": (large_world, ("guide/large_world.png",)),
    "page": (page, ("images/page.png", "images/page_phone.png")),
    "tensorboard": (tensorboard, ("images/tensorboard.png", "images/tensorboard_projector.png")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES), help="some of the pictures")
    parser.add_argument("--episodes", type=int, default=5000, help="of the lecture's runs (default: 5000)")
    parser.add_argument("--seeds", type=int, default=3, help="of the lecture's runs (default: 3)")
    parser.add_argument("--out", type=Path, default=EXAMPLES, help="where `images`, `results` and `guide` are")
    args = parser.parse_args()
    for name in ("images", "results", "guide"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), args.episodes, args.seeds)
        for name in args.only:
            make, files = PICTURES[name]
            began = time.time_ns()
            make(runs, args.out)
            made = [
                file for file in files if (args.out / file).exists() and (args.out / file).stat().st_mtime_ns >= began
            ]
            print(f"Done: {name}: {', '.join(made) or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()
