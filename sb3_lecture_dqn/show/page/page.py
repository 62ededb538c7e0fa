"""The page as a file: its template, style and scripts with the data of one or two runs."""

import html
import json
import pathlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sb3_lecture_dqn
from sb3_lecture_dqn.saving.files import written_whole
from sb3_lecture_dqn.show.page.run_data import run_data
from sb3_lecture_dqn.show.page.runs import Source, open_run

FORMAT = 1
_HERE = pathlib.Path(__file__).parent
#: A place in the template that is filled: by the data, the title, or a file beside the template
_PLACE = re.compile(r"\{\{([a-z_]+(?:\.(?:js|css))?)\}\}")


def write_page(runs: Any, out: str | pathlib.Path) -> pathlib.Path:
    """
    Write a page that shows how one agent learned, or two side by side: one HTML file without a server or a network.

    The page shows the world with the agent driving in it, a slider over the training, the action values beside the
    exact optimal ones, curves, the memory, and updates in numbers. A run that was recorded by
    :class:`LecturePageCallback` has a moment for every test and copy of the target network. A run with checkpoints has
    one for each of them, and a model, or a run with only ``model.zip``, has one.

    :param runs: A run or a sequence of one or two: the folder of a run, the file of a model, or a model of this package
    :param out: The file, ``.html``; an older one is replaced
    :return: The file
    :raises ValueError: If there are more than two runs, or runs of different environments; or if an action value of no
        moment is finite
    :raises NotTabularError: If an environment is not tabular; the message says why
    :raises FileNotFoundError: If a folder has no recording, no checkpoints and no ``model.zip``
    """
    given = [runs] if isinstance(runs, str | pathlib.Path) or not isinstance(runs, Sequence) else list(runs)
    if not 1 <= len(given) <= 2:
        raise ValueError(f"runs: a page shows one run, or two side by side, not {len(given)}")
    path = pathlib.Path(out)
    if path.suffix not in (".html", ".htm"):
        path = path.with_name(f"{path.name}.html")
    if path.is_dir():
        raise ValueError(f"out={str(out)!r} is a folder: give the name of a file")
    data = page_data([open_run(run) for run in given])
    with written_whole(path, "html") as file:
        file.write(page_text(data).encode())
    return path


def page_data(sources: Sequence[Source]) -> dict[str, Any]:
    """
    Compute the data of a page.

    :param sources: One or two runs
    :return: JSON
    :raises ValueError: If the runs are of different environments
    """
    for source in sources[1:]:
        if not sources[0].world.is_like(source.world):
            names = [source.world.looks["env_id"] for source in sources]
            raise ValueError(
                f"runs: {sources[0].name} and {source.name} are of different environments ({' and '.join(names)}, with "
                "different tables): a page compares runs of one"
            )
    return {
        "format": FORMAT,
        "version": sb3_lecture_dqn.__version__,
        "created": f"{datetime.now():%Y-%m-%d %H:%M}",
        "runs": [run_data(source) for source in sources],
    }


def page_text(data: dict[str, Any]) -> str:
    """
    Put data into the template, and the files beside the template where it names them.

    :param data: What :func:`page_data` returned
    :return: HTML
    """
    runs = data["runs"]
    title = html.escape(f"{runs[0]['env_id']}: {' | '.join(run['name'] for run in runs)}")

    def filled(match: re.Match[str]) -> str:
        name = match[1]
        if name == "title":
            return title
        if name == "data":
            # Within a script, HTML knows no escapes: "</" would end it, and "<!--" would begin a comment.
            text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
            return text.replace("<", "\\u003c")
        return _text_of(name)

    return _PLACE.sub(filled, _text_of("template.html"))


def _text_of(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
