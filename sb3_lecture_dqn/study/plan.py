"""Plans of studies: tasks × settings × seeds."""

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

from sb3_lecture_dqn.algorithms import ALGORITHMS, STOCK_ALGORITHMS
from sb3_lecture_dqn.common.checks import check_choice, check_number, parse_frequency
from sb3_lecture_dqn.common.user_yaml import read_yaml_file
from sb3_lecture_dqn.envs.make import check_env_id, id_step_limit

#: Most trials of a study
MAX_TRIALS = 100_000
_SETTING_NAME = re.compile(r"[^\x00-\x1f|]{1,60}")


@dataclass(frozen=True)
class Trial:
    """
    One training run of a study, with everything that decides its result.

    :param task: Id of the environment
    :param setting: Name of the setting
    :param seed: Seed of the model
    :param algorithm: ``"lecture_dqn"``, ``"lecture_qrdqn"``, or a stock peer: ``"dqn"`` (SB3), ``"qrdqn"``
        (sb3-contrib)
    :param keywords: Arguments of the algorithm's constructor, as types of JSON
    :param episodes: Budget in episodes, ``None`` if the budget is in timesteps
    :param timesteps: Budget in environment steps, ``None`` if the budget is in episodes
    :param test_freq: See :class:`LectureTestCallback`
    :param n_test_episodes: Episodes of a test, if the task is not tabular
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
        """Task, setting and seed, which identify the trial in its study."""
        return self.task, self.setting, self.seed

    @property
    def definition(self) -> str:
        """All fields as JSON; equal for equal trials."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def folder_name(self) -> str:
        """A name with the key and a hash of the definition."""
        # Cut, because a file name has at most 255 bytes, and `quote` makes nine or more of some letters
        words = [quote(self.task, safe="")[:80], quote(self.setting, safe=" ")[:80], str(self.seed)]
        return "__".join([*words, hashlib.sha256(self.definition.encode()).hexdigest()[:12]])

    def __str__(self) -> str:
        return f"{self.task}, {self.setting}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """
    Tasks × settings × seeds. All trials have the same budget and the same tests.

    :param tasks: Ids of environments
    :param settings: Arguments of an algorithm's constructor, by the name of the setting. The entry ``algorithm`` names
        the algorithm if it is not ``"lecture_dqn"``. Arguments are numbers, text, and lists and tables of these. The
        first setting is the baseline
    :param seeds: Seeds of the models, or their number: 20 means 0 to 19
    :param episodes: Budget of a trial in episodes
    :param timesteps: Budget of a trial in environment steps. Give either ``episodes`` or ``timesteps``. Stock
        algorithms need ``timesteps``, because their ε falls over a budget in steps
    :param test_freq: How often a trial is tested, see :class:`LectureTestCallback`
    :param n_test_episodes: Episodes of a test. On tabular tasks the tests are exact, over all starts, instead
    :param max_episode_steps: Step limit of an episode, ``None`` for each task's own limit, see :func:`make_env`
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
            raise ValueError(f"tasks × settings × seeds are {n_trials} trials; a study has at most {MAX_TRIALS}")
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
                    "steps: give timesteps instead of episodes"
                )

    @classmethod
    def from_yaml(cls, path: str | pathlib.Path) -> "Plan":
        """
        Read a plan.

        :param path: A YAML file whose entries are the arguments of :class:`Plan`
        :return: The plan
        :raises ValueError: If the file is not a valid plan; the message names the file and the entry
        """
        entries = read_yaml_file(path)
        known = [field.name for field in fields(cls)]
        if not isinstance(entries, dict):
            raise ValueError(f"{path} must be a table with the entries {', '.join(known)}")
        for name in entries:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"{path}: {name!r} is not an entry of a plan; known are {', '.join(known)}{hint}")
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
                        f"{path}: max_episode_steps: null meant {task}'s registered limit of {registered} in version "
                        f"1.0, and means {limit} now: write the number that you want"
                    )
        return plan

    def changed(self, seeds: int | None = None, episodes: int | None = None) -> "Plan":
        """
        Return the same plan with other seeds or another budget.

        :param seeds: Number of seeds, ``None`` to keep the seeds
        :param episodes: Budget in episodes, ``None`` to keep the budget
        :return: The new plan
        """
        if seeds is not None:
            check_number("seeds", seeds, 1, MAX_TRIALS, integer=True)
        plan = self if seeds is None else replace(self, seeds=tuple(range(seeds)))
        return plan if episodes is None else replace(plan, episodes=episodes, timesteps=None)

    def trials(self) -> list[Trial]:
        """
        List all trials, seed by seed, so that an unfinished study has results of every setting.

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
    Return the lecture's comparison: its two switches, each on and off.

    :return: A plan with four settings on Taxi, and 20 seeds of 5000 episodes
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
    checked: dict[Any, None] = {}
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name}: {value!r} must be {'text' if kind is str else 'an integer'}")
        if value in checked:
            raise ValueError(f"{name}: {value!r} is in the list more than once")
        checked[value] = None
    if not checked:
        raise ValueError(f"{name} is empty")
    return tuple(checked)


def _checked_settings(settings: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(settings, Mapping) or not settings:
        raise ValueError(f"settings={settings!r} must be a table with an entry for every setting")
    checked = {}
    for name, setting in settings.items():
        if not isinstance(name, str) or _SETTING_NAME.fullmatch(name) is None or not name.isprintable():
            raise ValueError(f"settings: the name {name!r} must be text of 1 to 60 characters in one line, without '|'")
        if setting is not None and not isinstance(setting, Mapping):
            raise ValueError(f"settings: {name!r}: {setting!r} must be a table of arguments")
        try:
            data = json.loads(json.dumps(dict(setting or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"settings: {name!r}: a plan is plain data, as in YAML: {error}") from error
        data = {"algorithm": "lecture_dqn", **data}
        check_choice(f"settings: {name!r}: algorithm", data["algorithm"], (*ALGORITHMS, *STOCK_ALGORITHMS))
        checked[name] = data
    return checked
