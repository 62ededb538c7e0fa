"""What a study runs: tasks × settings × seeds."""

import difflib
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import quote

import gymnasium as gym

from sb3_lecture_dqn.common.checks import check_choice, check_number, parse_frequency
from sb3_lecture_dqn.common.user_yaml import read_yaml_file
from sb3_lecture_dqn.envs.make import check_env_id, id_step_limit

LECTURE_ALGORITHMS = ("lecture_dqn", "lecture_qrdqn")
#: The peers: SB3's DQN and sb3-contrib's QR-DQN as they are
STOCK_ALGORITHMS = ("dqn", "qrdqn")
ALGORITHMS = (*LECTURE_ALGORITHMS, *STOCK_ALGORITHMS)
#: Most trials of a study
MAX_TRIALS = 100_000
_SETTING_NAME = re.compile(r"[^\x00-\x1f|]{1,60}")


@dataclass(frozen=True)
class Trial:
    """
    One training run of a study: all that decides its result.

    :param task: Id of the environment
    :param setting: Name of the setting
    :param seed: Seed of the model
    :param algorithm: One of :data:`ALGORITHMS`
    :param keywords: Arguments of the algorithm's constructor, as JSON has them
    :param episodes: Budget in episodes, ``None`` if there is one in timesteps
    :param timesteps: Budget in environment steps, ``None`` if there is one in episodes
    :param test_freq: See :class:`LectureTestCallback`
    :param n_test_episodes: Episodes of a test, where the task is not tabular
    :param max_episode_steps: Step limit of an episode, ``None`` for none
    """

    task: str
    setting: str
    seed: int
    algorithm: str
    keywords: dict[str, Any]
    episodes: int | None
    timesteps: int | None
    test_freq: tuple[int, str]
    n_test_episodes: int
    max_episode_steps: int | None

    @property
    def key(self) -> tuple[str, str, int]:
        """By which it is known in its study."""
        return self.task, self.setting, self.seed

    @property
    def definition(self) -> str:
        """All of it as JSON; the same for the same trial."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def folder_name(self) -> str:
        """Says the key, and differs for trials of one key that are not the same."""
        # Cut, because names of files have at most 255 bytes, and of one letter `quote` may make nine or more
        words = [quote(self.task, safe="")[:80], quote(self.setting, safe=" ")[:80], str(self.seed)]
        return "__".join([*words, hashlib.sha256(self.definition.encode()).hexdigest()[:12]])

    def __str__(self) -> str:
        return f"{self.task}, {self.setting}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """
    Tasks × settings × seeds, each with the same budget and the same tests.

    :param tasks: Ids of environments
    :param settings: By name, the arguments of an algorithm's constructor, and ``algorithm`` if that is not
        ``"lecture_dqn"``. They are numbers, text, and lists and tables of such. The first setting is the baseline
    :param seeds: Seeds of the models, or how many: 20 is 0 to 19
    :param episodes: Budget of a trial in episodes
    :param timesteps: Budget of a trial in environment steps. One of both has to be given; this one, if there is a stock
        algorithm, whose ε falls over a budget in steps
    :param test_freq: How often a trial is tested, see :class:`LectureTestCallback`
    :param n_test_episodes: Episodes of a test, where the task is not tabular: there all starts are tested exactly
    :param max_episode_steps: Step limit of an episode, ``None`` for that of each task, see :func:`make_env`
    :raises ValueError: If an entry is not allowed; the message names it
    """

    tasks: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    episodes: int | None = None
    timesteps: int | None = None
    test_freq: tuple[int, str] = (50, "episode")
    n_test_episodes: int = 100
    max_episode_steps: int | None = None

    def __init__(
        self,
        tasks: Iterable[str],
        settings: Mapping[str, Mapping[str, Any] | None],
        seeds: int | Iterable[int],
        episodes: int | None = None,
        timesteps: int | None = None,
        test_freq: int | tuple[int, str] = (50, "episode"),
        n_test_episodes: int = 100,
        max_episode_steps: int | None = None,
    ) -> None:
        def keep(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        keep("tasks", _checked_list("tasks", tasks, str))
        for task in self.tasks:
            check_env_id(task)
        keep("settings", _checked_settings(settings))
        if isinstance(seeds, int):
            check_number("seeds", seeds, 1, MAX_TRIALS, integer=True)
            seeds = range(seeds)
        keep("seeds", _checked_list("seeds", seeds, int))
        for seed in self.seeds:
            check_number("seeds", seed, 0, 2**32 - 1, integer=True)
        n_trials = len(self.tasks) * len(self.settings) * len(self.seeds)
        if n_trials > MAX_TRIALS:
            raise ValueError(f"tasks × settings × seeds are {n_trials} trials, and a study has {MAX_TRIALS} at most")
        if (episodes is None) == (timesteps is None):
            raise ValueError(f"episodes={episodes} and timesteps={timesteps}: give one budget")
        for name, number in (
            *(("episodes", episodes), ("timesteps", timesteps)),
            *(("n_test_episodes", n_test_episodes), ("max_episode_steps", max_episode_steps)),
        ):
            if number is not None:
                check_number(name, number, 1, integer=True)
            keep(name, number)
        keep("test_freq", parse_frequency("test_freq", test_freq))
        for name, setting in self.settings.items():
            if setting["algorithm"] in STOCK_ALGORITHMS and timesteps is None:
                raise ValueError(
                    f"settings: {name!r}: the ε of stock {setting['algorithm']} falls over a budget in environment "
                    "steps: give timesteps in place of episodes"
                )

    @classmethod
    def from_yaml(cls, path: str | pathlib.Path) -> "Plan":
        """
        Read a plan.

        :param path: A YAML file whose entries are the arguments of :class:`Plan`
        :return: The plan
        :raises ValueError: If it is none; the message names the file and the entry
        """
        entries = read_yaml_file(path)
        known = [field.name for field in fields(cls)]
        if not isinstance(entries, dict):
            raise ValueError(f"{path}: it is no table; there are {', '.join(known)}")
        for name in entries:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"{path}: {name!r} is no entry of a plan; there are {', '.join(known)}{hint}")
        for name in ("tasks", "settings", "seeds"):
            if name not in entries:
                raise ValueError(f"{path}: {name} is missing")
        try:
            plan = cls(**entries)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if "max_episode_steps" in entries and plan.max_episode_steps is None:
            for task in plan.tasks:
                if (limit := id_step_limit(task)) != (registered := gym.spec(task).max_episode_steps):
                    raise ValueError(
                        f"{path}: max_episode_steps: null was the registered limit until version 1.0, of {task} "
                        f"{registered}, and would be {limit} now: say which, or leave it out for {limit}"
                    )
        return plan

    def changed(self, seeds: int | None = None, episodes: int | None = None) -> "Plan":
        """
        The same plan for other seeds or another budget.

        :param seeds: How many seeds, ``None`` for its own
        :param episodes: Budget in episodes in place of its own, ``None`` for that
        :return: The other plan
        """
        if seeds is not None:
            check_number("seeds", seeds, 1, MAX_TRIALS, integer=True)
        plan = self if seeds is None else replace(self, seeds=tuple(range(seeds)))
        return plan if episodes is None else replace(plan, episodes=episodes, timesteps=None)

    def trials(self) -> list[Trial]:
        """
        List all trials, seed by seed, so that results that are not complete say something of every setting.

        :return: The trials
        """
        return [
            Trial(
                task,
                name,
                seed,
                setting["algorithm"],
                {key: value for key, value in setting.items() if key != "algorithm"},
                self.episodes,
                self.timesteps,
                self.test_freq,
                self.n_test_episodes,
                id_step_limit(task) if self.max_episode_steps is None else self.max_episode_steps,
            )
            for seed in self.seeds
            for task in self.tasks
            for name, setting in self.settings.items()
        ]


def lecture_plan() -> Plan:
    """
    The lecture's own comparison: its two switches, each on and off.

    :return: Four settings on Taxi, 20 seeds of 5000 episodes
    """
    settings = {
        "replay, target network": {},
        "no target network": {"double_dqn": False},
        "no replay": {"store_and_replay": False},
        "neither": {"store_and_replay": False, "double_dqn": False},
    }
    return Plan(["Taxi-v3"], settings, seeds=20, episodes=5000)


def _checked_list(name: str, values: Any, kind: type) -> tuple[Any, ...]:
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name}={values!r} must be a list")
    found = tuple(values)
    seen: set[Any] = set()
    for value in found:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name}: {value!r} must be {'text' if kind is str else 'an integer'}")
        if value in seen:
            raise ValueError(f"{name}: {value!r} is there more than once")
        seen.add(value)
    if not found:
        raise ValueError(f"{name} is empty")
    return found


def _checked_settings(settings: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(settings, Mapping) or not settings:
        raise ValueError(f"settings={settings!r} must be a table with an entry for every setting")
    found = {}
    for name, setting in settings.items():
        if not isinstance(name, str) or _SETTING_NAME.fullmatch(name) is None or not name.isprintable():
            raise ValueError(f"settings: the name {name!r} must be text of 1 to 60 characters in one line, without '|'")
        if setting is not None and not isinstance(setting, Mapping):
            raise ValueError(f"settings: {name!r}: {setting!r} is no table of arguments")
        try:
            data = json.loads(json.dumps(dict(setting or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"settings: {name!r}: a plan is plain data, as in YAML: {error}") from error
        data = {"algorithm": "lecture_dqn", **data}
        check_choice(f"settings: {name!r}: algorithm", data["algorithm"], ALGORITHMS)
        found[name] = data
    return found
