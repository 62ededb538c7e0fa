"""Progress bars, in a terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import pytest

from tests.forked import Forked

TRAINING = """
import sys
from sb3_lecture_dqn.cli import main
sys.exit(main(["train", "--env", "FrozenLake-v1", "--engine", "torch", "--test-episodes", "1", "--out", sys.argv[1],
               "--checkpoint-freq", sys.argv[2], *sys.argv[3:]]))
"""


def screen(output, columns):
    """Return the lines that a terminal shows after some output, without the spaces at their ends."""
    lines, row, column = [""], 0, 0
    for letter in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output):
        if letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
        else:
            if column == columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = f"{lines[row]:<{column}}"[:column] + letter + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]


def test_the_screen_wraps_and_overwrites():
    assert screen("abc\rd\nefg\r\n", 80) == ["dbc", " efg", ""]
    assert screen("abcd\r\nx", 3) == ["abc", "d", "x"]


def train_in_a_terminal(columns, folder, *options, seconds=120):
    """Train in a terminal until the first test is shown, press Ctrl-C, and return what the screen shows at the end."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    training = Forked(
        TRAINING, folder, *options, folder=folder, environment={"TERM": "xterm"}, terminal=os.ttyname(inside)
    )
    output, pressed, deadline = b"", False, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                output += os.read(terminal, 4096)
            except OSError:  # the process has ended
                break
            if inside is not None:  # the process has opened it
                os.close(inside)
                inside = None
        # A bar, whatever else has come with it in one piece
        if not pressed and re.search(rb"Episode 1,.*/s\]", output, re.DOTALL):
            os.write(terminal, b"\x03")
            pressed = True
    os.close(terminal)
    return training.wait(), screen(output.decode(), columns)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")
@pytest.mark.parametrize(
    ("columns", "options"), [(70, ["50"]), pytest.param(100, ["0", "--timesteps", "1000000"], marks=pytest.mark.slow)]
)
def test_a_bar_ends_once_after_ctrl_c(columns, options, tmp_path):
    """Budgets in episodes and in steps have the same bar, and the terminal's ``^C`` fits beside it."""
    code, lines = train_in_a_terminal(columns, tmp_path, *options)
    assert code == 130, lines
    bars = [line for line in lines if re.search(r"\d+%\|", line)]
    (end,) = [i for i, line in enumerate(lines) if line.startswith("Interrupted after")]
    assert len(bars) == 1, lines
    assert bars == [lines[end - 1]]
    assert re.search(r"((step|episode)/s|s/(step|episode))\](\^C)?$", bars[0])
    assert not any(line.startswith("C") and not line.startswith("Curves") for line in lines)
