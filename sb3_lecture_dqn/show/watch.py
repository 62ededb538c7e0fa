"""Watching greedy episodes: a video with the action values beside the picture, or text in a terminal."""

import math
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture_dqn.common.bars import Bar
from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.headless import without_screen
from sb3_lecture_dqn.common.observations import batch_of_one
from sb3_lecture_dqn.envs.grids import GridLayout, grid_layout
from sb3_lecture_dqn.envs.masks import INFO_KEY, ActionMaskInfo
from sb3_lecture_dqn.evaluation.values import action_values
from sb3_lecture_dqn.show import pictures

VIDEO_SUFFIXES = (".gif", ".mp4")
_CLEAR_SCREEN = "\x1b[2J\x1b[H"
_BAR = 32
#: Pictures that the colours of a GIF are chosen by
_IN_PALETTE = 8
#: Taxi's stops, in the colours of its picture
_STOPS = {"R": "R (red)", "G": "G (green)", "Y": "Y (yellow)", "B": "B (blue)"}


class Moment(NamedTuple):
    """
    A state of an episode.

    :param episode: Number of the episode, from 1
    :param step: Number of steps before the state
    :param render: The environment's rendering of the state
    :param values: Action values of the state, NaN for invalid actions, shape ``(A,)``; ``None`` after the last step
    :param action: The next action, ``None`` after the last step
    :param total_reward: Sum of the rewards before the state
    :param where: The state in words; empty if the package does not know the environment
    :param ending: How the episode ended, in words; empty before its end
    """

    episode: int
    step: int
    render: Any
    values: np.ndarray | None
    action: int | None
    total_reward: float
    where: str = ""
    ending: str = ""

    @property
    def title(self) -> str:
        """The line of text above the picture."""
        return f"episode {self.episode}, step {self.step}, reward {self.total_reward:g}"


def greedy_episodes(model: BaseAlgorithm, env: gym.Env, n_episodes: int, seed: int | None = None) -> Iterator[Moment]:
    """
    Run a model greedily.

    :param model: A DQN or QR-DQN of SB3, sb3-contrib or this package
    :param env: An environment with a step limit and a render mode
    :param n_episodes: Number of episodes
    :param seed: Seed of the environment
    :return: A moment before every step, and a moment after the last step of each episode
    :raises ValueError: If ``n_episodes`` is below 1, or the model needs masks and the environment offers none
    """
    check_number("n_episodes", n_episodes, 1, integer=True)
    layout = grid_layout(env)
    masking = getattr(model, "use_masking", False)
    if masking and is_masking_supported(env):
        env = ActionMaskInfo(env)
    for episode in range(1, n_episodes + 1):
        obs, info = env.reset(seed=seed if episode == 1 else None)
        step, total, has_ended = 0, 0.0, False
        while not has_ended:
            batch = batch_of_one(obs)
            masks = {"action_masks": _mask(info)[None]} if masking else {}
            action = int(model.predict(batch, deterministic=True, **masks)[0].item())  # type: ignore[arg-type]
            values = action_values(model, batch)[0]
            values[np.isnan(values)] = np.inf  # a network that has diverged
            if masking:  # values of invalid actions are untrained
                values = np.where(_mask(info), values, np.nan)
            yield Moment(episode, step, env.render(), values, action, total, _where(env, layout))
            obs, reward, terminated, truncated, info = env.step(action)
            step, total, has_ended = step + 1, total + float(reward), terminated or truncated
        ending = _ending(env, layout, float(reward), step, terminated)
        yield Moment(episode, step, env.render(), None, None, total, _where(env, layout), ending)


def _where(env: gym.Env, layout: GridLayout | None) -> str:
    """Name the passenger's place and the destination, or the cell."""
    if layout is None:
        return ""
    state: int = int(env.unwrapped.s)  # type: ignore[attr-defined]
    entries = {name: column[state] for name, column in layout.columns.items()}
    if "passenger" in entries:
        passenger, destination = (entries[name] for name in ("passenger", "destination"))
        at = f"at {_STOPS.get(passenger, passenger)}" if passenger != "in taxi" else "in the taxi"
        return f"passenger {at}, to {_STOPS.get(destination, destination)}"
    return f"row {entries['row'] + 1}, column {entries['column'] + 1}"


def _ending(env: gym.Env, layout: GridLayout | None, reward: float, step: int, terminated: bool) -> str:
    """Tell how an episode ended."""
    if not terminated:
        return f"not finished: stopped\nafter {step} steps"
    what = "ended"
    if layout is not None:
        state: int = int(env.unwrapped.s)  # type: ignore[attr-defined]
        cells = layout.columns.get("cell")  # Taxi has none, and ends in a delivery only
        what = "delivered" if cells is None else {"G": "goal reached", "H": "fell into a hole"}.get(cells[state], what)
    return f"{what}, {reward:+g}"


def _mask(info: dict[str, Any]) -> np.ndarray:
    if INFO_KEY not in info:
        raise ValueError(
            "env: the model was trained with use_masking=True, and the environment has neither action_masks() nor "
            f"info[{INFO_KEY!r}]"
        )
    return np.asarray(info[INFO_KEY], dtype=bool)


def record(
    model: BaseAlgorithm,
    env: gym.Env,
    path: str | pathlib.Path,
    n_episodes: int = 1,
    fps: int = 4,
    seed: int | None = None,
    progress: bool = False,
) -> int:
    """
    Record greedy episodes as a video, with the environment's picture and the action values beside it.

    :param model: A DQN or QR-DQN of SB3, sb3-contrib or this package
    :param env: An environment with a step limit and the ``render_mode`` ``"rgb_array"``
    :param path: File of the video, ``.gif`` or ``.mp4``
    :param n_episodes: Number of episodes
    :param fps: Pictures per second
    :param seed: Seed of the environment
    :param progress: Whether to show a progress bar
    :return: The number of pictures: one before every step, and one after the last step of each episode
    :raises ImportError: If matplotlib or imageio is not installed
    :raises ValueError: If the path ends in neither ``.gif`` nor ``.mp4``, or the environment renders no pictures
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"path={str(path)!r} must end in one of {', '.join(VIDEO_SUFFIXES)}")
    check_number("fps", fps, 1, integer=True)
    if env.render_mode != "rgb_array":
        raise ValueError(f"env: its render_mode is {env.render_mode!r}, a video needs 'rgb_array'")
    pictures.require_viz("a video")
    is_gif = path.suffix.lower() == ".gif"
    if not is_gif:
        try:
            import imageio.v2 as imageio
        except ImportError as error:
            raise ImportError("a video needs imageio: pip install 'sb3-lecture-dqn[viz]'") from error

    names = action_names(env)
    with without_screen():
        moments = list(greedy_episodes(model, env, n_episodes, seed))
    low, high = _scale(moments)
    room = 0.05 * (high - low)
    bars = pictures.ActionBars(names, (low - room, high + room), _has_masks(moments))
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = (_frame(moment, bars) for moment in Bar(moments, unit="picture", leave=False, disable=not progress))
    if is_gif:
        _write_gif(path, frames, _palette(moments, bars), fps)
    else:
        video: Any = imageio.get_writer(path, fps=fps, macro_block_size=2, codec="libx264", quality=8)
        with video:
            for frame in frames:
                video.append_data(frame)
    return len(moments)


def _palette(moments: Sequence[Moment], bars: pictures.ActionBars) -> Any:
    """Choose the colours of a GIF by some of its pictures: for each picture, it would take longer than all else."""
    from PIL import Image

    some = [moments[i] for i in sorted({*np.linspace(0, len(moments) - 1, _IN_PALETTE).astype(int).tolist()})]
    return Image.fromarray(np.concatenate([_frame(moment, bars)[::2, ::2] for moment in some])).quantize(256)


def _write_gif(path: pathlib.Path, frames: Iterator[np.ndarray], palette: Any, fps: int) -> None:
    from PIL import Image

    no_dots = Image.Dither.NONE
    images = (Image.fromarray(frame).quantize(palette=palette, dither=no_dots) for frame in frames)
    next(images).save(path, save_all=True, append_images=images, duration=1000 / fps, loop=0, optimize=False)


def _scale(moments: Sequence[Moment]) -> tuple[float, float]:
    """Return the lowest and the highest finite value of all moments, or zero if it is lower or higher."""
    values = np.concatenate([[0.0], *(moment.values for moment in moments if moment.values is not None)])
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + 1.0)


def _has_masks(moments: Sequence[Moment]) -> bool:
    return any(moment.values is not None and np.isnan(moment.values).any() for moment in moments)


def _frame(moment: Moment, bars: pictures.ActionBars) -> np.ndarray:
    values = None if moment.values is None else np.clip(moment.values, *bars.limits)
    picture = bars.draw(values, moment.action, [moment.title, moment.where], moment.ending)
    height = max(len(moment.render), len(picture))
    width = moment.render.shape[1] + picture.shape[1]
    # MP4's usual format needs even numbers of pixels.
    frame = np.full((height + height % 2, width + width % 2, 3), 255, np.uint8)
    frame[: len(moment.render), : moment.render.shape[1]] = moment.render
    frame[: len(picture), moment.render.shape[1] :][:, : picture.shape[1]] = picture
    return frame


def show(model: BaseAlgorithm, env: gym.Env, n_episodes: int = 1, fps: int = 4, seed: int | None = None) -> None:
    """
    Print greedy episodes as text. In a terminal, each state replaces the last.

    :param model: A DQN or QR-DQN of SB3, sb3-contrib or this package
    :param env: An environment with a step limit and the ``render_mode`` ``"ansi"``
    :param n_episodes: Number of episodes
    :param fps: Pictures per second in a terminal
    :param seed: Seed of the environment
    :raises ValueError: If the environment does not render text
    """
    check_number("fps", fps, 1, integer=True)
    if env.render_mode != "ansi":
        raise ValueError(f"env: its render_mode is {env.render_mode!r}, a terminal needs 'ansi'")
    names = action_names(env)
    in_terminal = sys.stdout.isatty()
    moments = list(greedy_episodes(model, env, n_episodes, seed))
    scale = _scale(moments)
    for moment in moments:
        where = f"{moment.where}\n" if moment.where else ""
        print(f"{_CLEAR_SCREEN if in_terminal else ''}{moment.title}\n{where}{moment.render}", end="")
        if moment.values is not None:
            print(_text_bars(moment.values, moment.action, names, scale))
        else:
            print(moment.ending.replace("\n", " "))
        if in_terminal:
            sys.stdout.flush()
            time.sleep(1 / fps)


def _text_bars(values: np.ndarray, action: int | None, names: Sequence[str], scale: tuple[float, float]) -> str:
    """Draw bars that begin at zero, negative ones to the left, below a line that tells the axis."""
    low, high = scale
    width = max(map(len, names))
    left = round(-low / (high - low) * _BAR)
    lines = [f"action values; bars begin at | (0), on an axis from {low:.4g} to {high:.4g}"]
    for index, (name, value) in enumerate(zip(names, values.tolist(), strict=True)):
        if math.isnan(value):
            lines.append(f"  {name:<{width}}  (not valid)")
            continue
        length = round(abs(min(max(value, low), high)) / (high - low) * _BAR)
        bar = ("#" * length).rjust(left) + "|" if value < 0 else " " * left + "|" + "#" * length
        lines.append(f"{'>' if index == action else ' '} {name:<{width}} {value:8.3f} {bar}")
    return "\n".join(lines)


def action_names(env: gym.Env) -> Sequence[str]:
    """
    Return the names of an environment's actions.

    :param env: An environment with ``Discrete`` actions
    :return: A name for every action; its number if the package knows no name
    """
    layout = grid_layout(env)
    return [str(action) for action in range(env.action_space.n)] if layout is None else layout.action_names  # type: ignore[attr-defined]
