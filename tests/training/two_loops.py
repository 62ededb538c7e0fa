"""One training by compiled stretches, one step by step, and everything that comes of each, by bits."""

import contextlib
import copy
import functools
import io
import json
import pathlib
import warnings
import weakref
import zipfile
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch.nn import functional as F

from sb3_lecture_dqn import (
    EpisodeProgressBarCallback,
    LectureCheckpointCallback,
    LectureDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    TabularModel,
    TabularVecEnv,
    TestResult,
    UnsafeFileError,
)
from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.training.due import Due
from sb3_lecture_dqn.training.stretches import Stretches
from tests.saving.test_checkpoint import scalars

REWARDS = {
    "few": [-1.0, 0.0, 20.0],
    "odd": [-7.25, -0.0, 0.1, 1 / 3, 1e-3, 2.5],
    "huge": [-1e30, 1.0, 1e35],
}


class Table(NamedTuple):
    """A random tabular environment."""

    seed: int
    n_states: int
    n_actions: int
    n_outcomes: int
    rewards: str
    has_masks: bool
    share_of_ends: float


class Case(NamedTuple):
    """A training, and where its stretches are cut."""

    table: Table | str
    n_envs: int
    max_episode_steps: int | None
    policy: str
    settings: dict[str, Any]
    learns: list[dict[str, Any]]
    callbacks: list[tuple[Any, ...]] = []
    cuts: tuple[int, int] | None = None  # a seed, and most rollouts in a stretch
    logs: str = "json"


@functools.cache
def model_of(table: Table | str) -> TabularModel:
    if isinstance(table, str):
        return TabularModel.from_env(table)
    rng = np.random.default_rng(table.seed)
    states, rewards = range(table.n_states), REWARDS[table.rewards]
    P = []
    for _ in states:
        actions = []
        for _ in range(table.n_actions):
            n = int(rng.integers(1, table.n_outcomes + 1))
            probabilities = rng.dirichlet(np.ones(n))
            probabilities[-1] = 1 - probabilities[:-1].sum()
            actions.append(
                [
                    (float(p), int(rng.choice(states)), float(rng.choice(rewards)), bool(rng.random() < share))
                    for p, share in zip(probabilities, [table.share_of_ends] * n, strict=True)
                ]
            )
        P.append(actions)
    masks = None
    if table.has_masks:
        masks = rng.random((table.n_states, table.n_actions)) < 0.6
        masks[states, rng.integers(0, table.n_actions, table.n_states)] = True
    return TabularModel(P, rng.dirichlet(np.ones(table.n_states)), masks)


def env_of(case: Case, n_envs: int | None = None) -> TabularVecEnv:
    return TabularVecEnv(model_of(case.table), n_envs or case.n_envs, case.max_episode_steps, seed=7)


# ---------------------------------------------------------------------------------------- a user's callback


def _scale(network: Any, factor: float) -> None:
    with th.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)


_REMEMBERED: Any = weakref.WeakKeyDictionary()


def _remember(model):
    _REMEMBERED[model] = copy.deepcopy(model.policy.state_dict())


def _restore(model):
    model.policy.load_state_dict(_REMEMBERED.get(model, model.policy.state_dict()))


def _set(name: str, value: Any):
    return lambda model: setattr(model, name, value)


def _set_rate(schedule: Any):
    def change(model):
        model.lr_schedule = schedule

    return change


def _new_optimizer(model):
    model.policy.optimizer = th.optim.SGD(model.policy.q_net.parameters(), lr=1e-3, momentum=0.5)


def _move(model):
    model.env.envs[0].s = 0


def _many_steps(model):
    for state in model.policy.optimizer.state.values():
        if "step" in state:
            state["step"].fill_(2**24 - 20)


def _trained_twice(train, *args, **kwargs):
    train(*args, **kwargs)
    train(*args, **kwargs)


def _added_twice(add, *args):
    add(*args)
    add(*args)


class Noise(ActionNoise):
    """Noise that is reset at the end of an episode, and not used by a DQN."""

    def reset(self, indices: Any = None) -> None:
        pass

    def __call__(self) -> np.ndarray:
        return np.zeros(1)


#: What a user's callback may do to a model in a step
CHANGES = {
    "nothing": lambda model: None,
    "learning rate": _set_rate(FloatSchedule(3e-3)),
    "learning rate, linear": _set_rate(FloatSchedule(LinearSchedule(3e-3, 1e-5, 0.7))),
    "learning rate, a function": _set_rate(FloatSchedule(lambda remaining: 1e-3 * (1 + remaining))),
    "gamma": _set("gamma", 0.3),
    "tau": _set("tau", 0.25),
    "batch_size": _set("batch_size", 3),
    "gradient_steps": _set("gradient_steps", 3),
    "gradient_steps=0": _set("gradient_steps", 0),
    "train_freq": _set("train_freq", TrainFreq(3, TrainFrequencyUnit.STEP)),
    "learning_starts": _set("learning_starts", 100),
    "max_grad_norm": _set("max_grad_norm", 0.05),
    "huber": lambda model: (_set("loss", "huber")(model), _set("loss_function", F.smooth_l1_loss)(model)),
    "copies by calls": _set("target_update_interval", 5),
    "copies by steps": _set("target_update_interval", (7, "step")),
    "copies by episodes": _set("target_update_interval", (2, "episode")),
    "exploration_decay": _set("exploration_decay", 0.9),
    "exploration_decay=None": _set("exploration_decay", None),
    "exploration_rate": _set("exploration_rate", 0.5),
    "exploration_final_eps": _set("exploration_final_eps", 0.3),
    "exploration_schedule": _set("exploration_schedule", LinearSchedule(0.9, 0.2, 0.5)),
    "exploration_schedule, a function": _set("exploration_schedule", lambda remaining: 0.5 * remaining),
    "explore_least_tried": lambda model: _set("explore_least_tried", not model.explore_least_tried)(model),
    "weights": lambda model: _scale(model.q_net, 1.01),
    "weights of the target": lambda model: _scale(model.q_net_target, 0.5),
    "load_state_dict": lambda model: model.policy.load_state_dict(
        {name: weights * 0.9 for name, weights in model.policy.state_dict().items()}
    ),
    "remember": _remember,
    "restore": _restore,
    "set_parameters": lambda model: model.set_parameters(model.get_parameters()),
    "optimizer": _new_optimizer,
    "exploration_rng": lambda model: _set("exploration_rng", np.random.default_rng(5))(model),
    "state": _move,
    "reset": lambda model: model.env.reset(),
    "step": lambda model: model.env.step(np.zeros(model.n_envs, np.int64)),
    "rng of the environment": lambda model: setattr(model.env, "rng", np.random.default_rng(6)),
    "success_fraction": lambda model: setattr(model.replay_buffer, "success_fraction", 0.4),
    "memory.reset": lambda model: model.replay_buffer.reset(),
    "another memory": lambda model: _set("replay_buffer", copy.deepcopy(model.replay_buffer))(model),
    "another test of successes": lambda model: setattr(model.replay_buffer, "_is_success", lambda *args: False),
    "another network": lambda model: _set("q_net", copy.deepcopy(model.q_net))(model),
    "generator of another kind": lambda model: _set("exploration_rng", np.random.RandomState(4))(model),
    "a method": lambda model: _set("train", functools.partial(_trained_twice, model.train))(model),
    "a method of the memory": lambda model: setattr(
        model.replay_buffer, "add", functools.partial(_added_twice, model.replay_buffer.add)
    ),
    "noise": _set("action_noise", Noise()),
    "many steps of the optimizer": _many_steps,
    "options of the optimizer": lambda model: model.policy.optimizer.param_groups[0].update(
        {"momentum": 0.3} if "momentum" in model.policy.optimizer.param_groups[0] else {"eps": 0.01}
    ),
    "learning rate, in its schedule": lambda model: setattr(
        model.lr_schedule, "value_schedule", ConstantSchedule(2e-3)
    ),
    "learning rate, in the optimizer": lambda model: model.policy.optimizer.param_groups[0].update(lr=0.5),
    "exploration_schedule, in itself": lambda model: vars(model.exploration_schedule).update(end=0.7, end_fraction=0.9),
    "another logger": lambda model: (model.logger.close(), model.set_logger(configure(None, []))),
    "double_q": lambda model: _set("double_q", model.double_dqn and not model.double_q)(model),
    "target is online": lambda model: _set("q_net_target", model.q_net)(model),
    "gradient_steps=70": _set("gradient_steps", 70),
    "memory, other rows": lambda model: model.replay_buffer.set_state(
        {**model.replay_buffer.get_state(), "fail": model.replay_buffer.fail.filled()[:3]}
    ),
    "rng of the memory": lambda model: model.replay_buffer.seed(77),
    "generator, in place": lambda model: setattr(
        model.exploration_rng.bit_generator, "state", np.random.default_rng(8).bit_generator.state
    ),
}
#: What it may do to the local variables of a step, which are stored after it
CHANGES_OF_LOCALS = {
    "rewards": lambda local: local["rewards"].__iadd__(1),
    "new_obs": lambda local: local["new_obs"].fill(0),
    "actions": lambda local: local["buffer_actions"].fill(0),
}
#: What a rollout is told when it begins, before its first callback. If a test changes these, a stretch sees it at once
AT_BEGINNING = ("train_freq", "learning_starts", "noise")
#: Others that training may not survive
_HARMFUL_CHANGES = {
    "train_freq by episodes": _set("train_freq", TrainFreq(1, TrainFrequencyUnit.EPISODE)),
    "another environment": lambda model: _set("env", copy.deepcopy(model.env))(model),
}


def _shown_local(value: Any) -> Any:
    data = isinstance(value, int | float | str | np.generic | np.ndarray | list | tuple | None)
    return value if data else type(value).__name__


class Always(BaseCallback):
    """
    A callback of a user: it looks at everything in some calls, changes something, and may stop training.

    It does not say when it is due, so it is called at every step.

    :param calls: What to do in which call, "stop" to stop training
    """

    def __init__(self, calls: dict[int, str]) -> None:
        super().__init__()
        self.calls = dict(calls)
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        change = self.calls.get(self.n_calls)
        if change is None:
            return True
        left_over = ("idx", "done", "continues")  # of the step before, if there was one in the rollout
        local = {name: _shown_local(value) for name, value in self.locals.items() if name not in left_over}
        self.seen.append(bits([self.n_calls, self.num_timesteps, change, local, state_of(self.model)]))
        if change == "stop":
            return False
        if change == "raise":
            raise RuntimeError("a callback has raised this")
        if change in CHANGES_OF_LOCALS:
            CHANGES_OF_LOCALS[change](self.locals)
        else:
            (CHANGES | _HARMFUL_CHANGES)[change](self.model)
        return True


class Sometimes(Always):
    """The same, which says when it is due."""

    def next_due(self) -> Due:
        later = [call for call in self.calls if call > self.n_calls]
        return Due(calls=min(later) - self.n_calls) if later else Due()


class TestOfAUser(LectureTestCallback):
    """
    A test of this package in which a user has replaced what is done with a result: it may change something.

    :param changes: What to do after which test
    """

    def __init__(self, changes: dict[int, str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.changes = dict(changes)
        self.seen: list[Any] = []

    def _log(self, result: TestResult) -> None:
        super()._log(result)
        self.seen.append(bits(state_of(self.model)))
        if (change := self.changes.get(len(self.seen))) is not None:
            CHANGES[change](self.model)


# ---------------------------------------------------------------------------------------- what comes of a training


def bits(value: Any) -> Any:
    """What is equal only if the value is equal bit by bit; without times by the clock."""
    if isinstance(value, th.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53):
        return float(value).hex()
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items() if key not in CLOCKS}
    if isinstance(value, str | bytes | None):
        return value
    if hasattr(value, "__iter__"):
        return [bits(part) for part in value]
    return repr(value)


CLOCKS = {"t", "time/fps", "time/time_elapsed", "elapsed_ns", "start_time", "log_mark", "logs"}
_COUNTERS = (
    *("n_calls", "num_timesteps", "n_episodes", "last_time_trigger", "best_mean_reward", "last_mean_reward"),
    *("evaluations_timesteps", "evaluations_results", "evaluations_length", "no_improvement_evals"),
    *("_continue_training", "seen"),
)


def state_of(model: Any) -> dict[str, Any]:
    """Everything that decides how training would go on, and what it has logged since the last log."""
    policy, memory, env = vars(model)["policy"], model.replay_buffer, model.env
    online, target = vars(model)["q_net"], vars(model)["q_net_target"]
    optimizer = policy.optimizer
    return {
        "weights": list(online.parameters()),
        "target": list(target.parameters()),
        "optimizer": [list(optimizer.state.values()), {**optimizer.param_groups[0], "params": None}],
        "memory": [memory.get_state(), memory.pos, memory.full],
        "exploration": model._exploration.get_state(),
        "env": [env.get_state(), env._pairs, env._deadline - env._clock, env.reset_infos],
        "counts": [model.num_timesteps, model._episode_num, model._n_calls, model._n_updates],
        "progress": [model._current_progress_remaining, model.exploration_rate],
        "copies": model._target_copies.counted,
        "obs": [model._last_obs, model._last_original_obs],
        "masks": model._transitions.masks,
        "episodes": [list(model.ep_info_buffer), list(model.ep_success_buffer)],
        "log": [dict(model.logger.name_to_value), dict(model.logger.name_to_excluded)]
        if hasattr(model, "_logger")
        else [],
        "in_rollout": model._in_rollout,
    }


def _of_callback(callback: BaseCallback) -> dict[str, Any]:
    state = {name: getattr(callback, name) for name in _COUNTERS if hasattr(callback, name)}
    if isinstance(callback, LectureTestCallback):
        state["results"] = [(episode, vars(result)) for episode, result in callback.results]
        state["own"] = callback.get_state()
    for bar in ("pbar", "bar"):
        if hasattr(callback, bar):
            state[bar] = getattr(callback, bar).n
    return {type(callback).__name__: state}


def _of_file(path: pathlib.Path, case: Case) -> Any:
    """What is in a file that a training has written."""
    if path.suffix == ".json":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.parent.name == "ours":
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "the running episodes cannot be restored"
            )  # a callback has ended training
            try:
                model = LectureDQN.resume(path, env=env_of(case), exact=False)
            except UnsafeFileError as error:  # a user's callback has turned a setting around
                return str(error).partition(":")[2]
        model.set_logger(configure(None, []))
        resumed = model._resumed
        return [state_of(model), vars(model._budget), resumed.state, resumed.callbacks, resumed.settings]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            tensors = [
                th.load(io.BytesIO(archive.read(name)), weights_only=False)
                for name in archive.namelist()
                if name.endswith(".pth")
            ]
        return [archive.namelist(), tensors]
    if path.suffix == ".npz":
        return dict(np.load(path))
    return path.read_text() if path.suffix in (".tsv", ".pbtxt") else None


def train(case: Case, compiled: bool, folder: pathlib.Path) -> dict[str, Any]:
    """
    Train, in stretches or step by step.

    :return: Everything that came of it, by bits; and under "stretches" how many stretches there were
    """
    folder.mkdir(parents=True)
    n_stretches, cuts = 0, None
    if case.cuts is not None:
        rng = np.random.default_rng(case.cuts[0])
        cuts = iter(lambda: int(rng.integers(0, case.cuts[1] + 1)), None)
    advance = Stretches.advance

    def cut(self):
        nonlocal n_stretches
        if cuts is not None:
            self._n_rollouts = next(cuts)
        if not compiled or self._n_rollouts == 0:
            return None
        proceeds = advance(self)
        n_stretches += proceeds is not None
        return proceeds

    outcome: dict[str, Any] = {"errors": []}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(Stretches, "advance", cut)
        model = LectureDQN(case.policy, env_of(case), **case.settings)
        model.set_logger(configure(str(folder), ["json", "tensorboard"] if case.logs == "tensorboard" else ["json"]))
        callbacks = [made_callback(case, folder, *described) for described in case.callbacks]
        for kwargs in case.learns:
            try:
                model.learn(callback=callbacks, **kwargs)
            except Exception as error:
                outcome["errors"].append([type(error).__name__, str(error).replace(str(folder), "folder")])
        model.logger.close()
    outcome["state"] = state_of(model)
    outcome["callbacks"] = [_of_callback(child) for callback in callbacks for child in callback_tree(callback)]
    outcome["files"] = {
        str(path.relative_to(folder)): _of_file(path, case)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("events.")
    }
    if case.logs == "tensorboard":
        outcome["scalars"] = scalars(folder)
    return {**bits(outcome), "stretches": n_stretches}


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """The names of what differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{at}/{key}" for key in one.keys() ^ other.keys()]
        return found + [
            name for key in one.keys() & other.keys() for name in differences(one[key], other[key], f"{at}/{key}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [name for i, pair in enumerate(zip(one, other, strict=True)) for name in differences(*pair, f"{at}/{i}")]
    return [] if one == other else [f"{at}: {_shown(one)} != {_shown(other)}"]


def _shown(value: Any) -> str:
    with contextlib.suppress(TypeError, ValueError):
        return f"{float.fromhex(value):.9g}"
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "…"


def compare(case: Case, folder: pathlib.Path) -> int:
    """
    Check that both loops come to the same.

    :return: Number of stretches
    """
    by_stretches, by_steps = (train(case, compiled, folder / str(compiled)) for compiled in (True, False))
    n_stretches = by_stretches.pop("stretches")
    assert by_steps.pop("stretches") == 0
    found = differences(by_stretches, by_steps)
    assert not found, "\n".join(line[:120] for line in found[:8])
    return n_stretches


# ---------------------------------------------------------------------------------------- callbacks by description


def made_callback(case: Case, folder: pathlib.Path, kind: str, *args: Any) -> BaseCallback:
    """Make a callback of ``case.callbacks``."""
    if kind == "list":
        return CallbackList([made_callback(case, folder, *described) for described in args])
    if kind == "every":
        return EveryNTimesteps(args[0], Sometimes(dict.fromkeys(range(1, 100), "nothing")))
    if kind in ("eval", "maskable eval"):
        every, episodes, deterministic, stops = args
        cls = EvalCallback if kind == "eval" else MaskableEvalCallback
        env = env_of(case, 1)
        env.seed(3)
        after = StopTrainingOnNoModelImprovement(1) if stops else None
        return cls(
            env, callback_after_eval=after, n_eval_episodes=episodes, eval_freq=every, deterministic=deterministic,
            log_path=str(folder / "evaluations"), verbose=0,
        )  # fmt: skip
    if kind in ("test", "test of a user"):
        every, n_episodes, exact, changes = args
        # An own environment, as a copy has a generator that the system has seeded until the first reset
        env = env_of(case, None if exact else 2)
        if kind == "test of a user":
            return TestOfAUser(changes, env, n_episodes, every, exact=exact, seed=4, verbose=0)
        after = Sometimes(changes) if changes else None
        return LectureTestCallback(env, n_episodes, every, exact=exact, seed=4, verbose=0, callback_after_test=after)
    if kind == "checkpoints":
        return LectureCheckpointCallback(args[0], folder / "ours", keep=None, verbose=0)
    if kind == "stock checkpoints":
        return CheckpointCallback(args[0], str(folder / "theirs"), save_replay_buffer=True)
    if kind == "tensorboard":
        return LectureTensorBoardCallback(args[0], (10**9, "episode"), batch_size=8)
    kinds: dict[str, Any] = {
        "log": LogEveryNTimesteps,
        "max episodes": StopTrainingOnMaxEpisodes,
        "bar": ProgressBarCallback,
        "bar of episodes": EpisodeProgressBarCallback,
        "sometimes": Sometimes,
        "always": Always,
    }
    return kinds[kind](*args)
