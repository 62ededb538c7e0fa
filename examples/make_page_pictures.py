"""
Make the pictures of the page in the README, and measure the page, in Chromium.

    python examples/make_page_pictures.py            # the lecture's run, 5000 episodes

It needs the system's Chromium and Python's ``playwright`` (extra ``dev``). It prints the size of the page, when it
first shows something, when it can be used, and how many frames a second it shows while the slider is dragged.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from sb3_lecture_dqn import LectureDQN, LecturePageCallback, show

IMAGES = Path(__file__).resolve().parent / "images"
# The pictures: size of the window, pixels per point, language and theme
PICTURES = {"page.png": (1400, 900, 1, "lang=en&theme=light"), "page_phone.png": (390, 844, 2, "lang=ko&theme=dark")}
# A start of the longest way that ends well
LONGEST = """() => {
    const [run] = page.runs;
    const steps = (start) => {
        const { success, steps } = page.episode(start, run.nMoments - 1);
        return success ? steps : 0;
    };
    return [...run.starts].reduce((longest, start) => (steps(start) > steps(longest) ? start : longest));
}"""


def open_page(browser: Any, file: Path, words: str, width: int, height: int, scale: int = 1) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=scale, reduced_motion="reduce"
    )
    page: Page = context.new_page()
    page.set_default_timeout(180_000)  # of a busy machine
    page.goto(f"{file.as_uri()}#{words}")
    page.wait_for_selector("#main:not([hidden])")
    return page


def take_pictures(browser: Any, file: Path, out: Path) -> None:
    """Take pictures of a long way with the passenger, and of a start that the agent fails."""
    for name, (width, height, scale, words) in PICTURES.items():
        page = open_page(browser, file, words, width, height, scale)
        if name == "page.png":
            page.evaluate("start => page.view.setStart(start)", page.evaluate(LONGEST))
            for _ in range(100):
                if page.locator(".agent.full").count():
                    break
                page.keyboard.press("ArrowRight")
            for _ in range(5):
                page.keyboard.press("ArrowRight")
        else:
            for _ in range(8):
                page.keyboard.press("f")
            for _ in range(12):
                page.keyboard.press("ArrowRight")
        page.wait_for_timeout(500)
        page.screenshot(path=out / name)
        print(f"Picture: {name}, {(out / name).stat().st_size / 1e3:.0f} kB")


def measure(browser: Any, file: Path) -> None:
    """Drag the slider from the end to the beginning, and count frames."""
    page = open_page(browser, file, "lang=en&theme=light", 1400, 900)
    ready = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.wait_for_timeout(1000)
    page.evaluate(
        """() => {
            window.frames_ = [];
            const note = (time) => { window.frames_.push(time); requestAnimationFrame(note); };
            requestAnimationFrame(note);
        }"""
    )
    box = page.locator("#slider").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 9, y)
    page.mouse.down()
    page.evaluate("() => { window.frames_ = []; }")
    for k in range(300):
        page.mouse.move(box["x"] + 9 + (box["width"] - 18) * (1 - k / 300), y)
    times = page.evaluate("window.frames_")
    page.mouse.up()
    rate = 1000 * (len(times) - 1) / (times[-1] - times[0])
    n = int(page.locator("#slider").get_attribute("max") or 0) + 1
    print(f"Page: {file.stat().st_size / 1e6:.2f} MB, first paint after {paint:.0f} ms, ready after {ready:.0f} ms,")
    print(f"{rate:.0f} frames a second while the slider is dragged over {n} moments")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=5000, help="of the lecture's run (default: 5000)")
    parser.add_argument("--out", type=Path, default=IMAGES)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "lecture"
        run.mkdir()
        model = LectureDQN("Taxi-v3", seed=0)
        model.learn(total_episodes=args.episodes, callback=LecturePageCallback(run))
        model.save(run / "model.zip")
        file = show.write_page(run, Path(folder) / "page.html")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            take_pictures(browser, file, args.out)
            measure(browser, file)
            browser.close()


if __name__ == "__main__":
    main()
