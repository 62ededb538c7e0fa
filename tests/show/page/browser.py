"""Chromium for the tests of the page: pages opened from their file, with all they say and ask for written down."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


def launch(playwright: Any) -> Any:
    """Start the system's Chromium."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def need_chromium() -> None:
    """Skip the test if there is no Chromium; `.ci/run`, which installs it, says that this may not be."""
    if not Path(CHROMIUM).exists():
        say = pytest.fail if os.environ.get("CHROMIUM_IS_NEEDED") else pytest.skip
        say("there is no chromium: apt-get install chromium")


class Opener:
    """
    Opens pages, and keeps what they print and ask for.

    :param browser: Chromium
    """

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.contexts: list[Any] = []

    def __call__(
        self, file: Path, words: str = "lang=en&theme=light", size: tuple[int, int] = (1400, 900), **more: Any
    ):
        """
        Open a file.

        :param file: The page
        :param words: What follows # in the address
        :param size: Width and height of the window
        :param more: For the context, such as ``color_scheme``
        :return: Playwright's page, once the data are read or refused
        """
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, **{"reduced_motion": "reduce", **more}
        )
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{file.as_uri()}#{words}")
        page.wait_for_selector("#main:not([hidden]), #message:not([hidden])")
        return page

    def close(self) -> None:
        """Close the pages, and check that nothing failed and no request left the file."""
        for context in self.contexts:
            context.close()
        assert self.faults == []
        assert [url for url in self.requests if not re.match(r"file:///[^#]*\.html|data:", url)] == []
