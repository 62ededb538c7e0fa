"""TensorBoard's graph, histograms, embeddings, pictures and hyperparameters of a DQN."""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import check_number, parse_frequency
from sb3_lecture_dqn.common.seeding import generator_state, make_rng, set_generator_state
from sb3_lecture_dqn.common.torch_layers import DiscreteEmbeddingExtractor
from sb3_lecture_dqn.envs.grids import GridLayout, grid_layout
from sb3_lecture_dqn.envs.masks import table_masks
from sb3_lecture_dqn.envs.tabular import NotTabularError, TabularModel
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError
from sb3_lecture_dqn.evaluation.values import action_values, evaluating, value_network
from sb3_lecture_dqn.saving.logs import hide_later_events, outliving_full_disks
from sb3_lecture_dqn.show import pictures
from sb3_lecture_dqn.show.hparams import HParamsCallback
from sb3_lecture_dqn.show.projector import Projector
from sb3_lecture_dqn.training.due import Due
from sb3_lecture_dqn.training.schedule import Budget, Every

#: Column of labels that colours the states in the projector
OPTIMAL_ACTION = "optimal action"
#: Largest rounding error of equal optimal values
_EQUAL_VALUES = 1e-9


class LectureTensorBoardCallback(HParamsCallback):
    """
    Writes to the tabs of TensorBoard that can show a DQN.

    - *Graphs*: the network.
    - *Histograms*: the parameters, and the gradient of the loss on one minibatch.
    - *Projector*: the embeddings, with a label for every row. On tabular environments, the rows are the states in which
      the agent may act, coloured by their optimal action. The same is there with plain points, which can be coloured by
      the optimal action and value and by the network's action and value.
      Every picture replaces the embeddings.
    - *Images*: on tabular environments, the highest action value and the greedy action of every state, on the grids of
      Taxi (one for every passenger and destination), FrozenLake and CliffWalking; the same for the optimum; a close-up
      of both side by side (in Taxi for two pairs of passenger and destination); and, at the end, the number of
      transitions of every state in the replay memory.
    - *Scalars*: fill and composition of the memory. On tabular environments, over the states in which the agent may
      act: the distance of the action values from the exact optimal ones at the model's discount factor
      (``q_error/mean_abs``, ``q_error/max_abs``), and the share of states whose greedy action is optimal
      (``q_error/optimal_actions``). With ``use_masking`` only valid actions count.
    - *HParams*: the settings, and at the end of training the final figures.
    - *Text*: what the x axes of the curves count.

    The x axis is the timestep. If a training continues another one in the same folder (``reset_num_timesteps=False``),
    it hides the events of later timesteps, as ``SummaryWriter``'s ``purge_step`` does.

    The callback does not change the training: it draws from its own random generator.

    :param histogram_freq: Interval of histograms and scalars, in environment steps, or in episodes with a tuple such as
        ``(250, "episode")``; ``None`` for a tenth of the budget of ``learn``. They are also written at the start and at
        the end
    :param image_freq: Interval of pictures and embeddings, in the same form. A time takes about half a second
    :param batch_size: Number of transitions in the minibatch of the gradient
    :raises ValueError: If an argument is out of range; at the start of training, if the model is not a DQN or QR-DQN,
        or its logger does not write to TensorBoard
    :raises ImportError: If matplotlib is not installed
    """

    def __init__(
        self,
        histogram_freq: int | tuple[int, str] | None = None,
        image_freq: int | tuple[int, str] | None = None,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        pictures.require_viz(type(self).__name__)
        check_number("batch_size", batch_size, 1, integer=True)
        self.histogram_freq = None if histogram_freq is None else parse_frequency("histogram_freq", histogram_freq)
        self.image_freq = None if image_freq is None else parse_frequency("image_freq", image_freq)
        self.batch_size = batch_size

    def _has_no_table(self, error: CannotCopyError) -> None:
        warnings.warn(f"LectureTensorBoardCallback shows no values of states: {error.why}")

    def _prepare(self) -> None:
        model = self.model
        self.network = value_network(model)
        self.rng = make_rng(model.seed, "tensorboard")
        self.table: TabularModel | None = None
        self.layout: GridLayout | None = None
        if self.tabular is not None:
            self.table = self.tabular.model
            self.layout = _layout_of(self.table, model.get_env())
            self.states = np.flatnonzero(self.table.acting_states())
            self.optimal_q = self.table.optimal_action_values(model.gamma)  # type: ignore[attr-defined]
            self.valid = np.ones(self.optimal_q.shape, dtype=bool)
            if getattr(model, "use_masking", False):
                self.valid = table_masks(self.table)
        self._histograms, self._images = (
            Every(*(_tenth_of_budget(model) if frequency is None else frequency))
            for frequency in (self.histogram_freq, self.image_freq)
        )
        for every in (self._histograms, self._images):
            every.start(self.num_timesteps, model._episode_num)
        if self.num_timesteps > 0:
            hide_later_events(self.logger, self.num_timesteps)

    def _begin_run(self) -> None:
        super()._begin_run()
        self._write_graph()
        if self.table is not None:
            self._write_values("values/optimal", self.optimal_q)
        self._write_histograms()
        self._write_images()

    def _on_rollout_start(self) -> None:  # after the updates that followed the last rollout
        for every, write in ((self._histograms, self._write_histograms), (self._images, self._write_images)):
            if every.due(self.num_timesteps, self.model._episode_num) and self._is_open:
                with outliving_full_disks(self.logger):
                    write()

    def next_due(self) -> Due:
        """
        Return when the next histograms or pictures are due, see :class:`Due`.

        :return: The earlier of the two
        """
        counts = self.num_timesteps, self.model._episode_num
        return self._histograms.from_now(*counts).or_before(self._images.from_now(*counts))

    def _write_end(self) -> None:
        self._write_histograms()
        self._write_images()
        if self.table is not None:
            self._write_memory()
        super()._write_end()

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: The state of the generator, and the steps or episodes at which the next events are due
        """
        return {"rng": generator_state(self.rng), "next": [self._histograms.next_due(), self._images.next_due()]}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Continue from the state of another callback.

        :param state: The state that its :meth:`get_state` returned
        """
        for count in state["next"]:
            check_number("next", count, 0, integer=True)
        set_generator_state(self.rng, state["rng"])
        for every, count in zip((self._histograms, self._images), state["next"], strict=True):
            every.set_state(max(count - every.n, 0))  # with another budget, the interval is another

    def _histogram(self, name: str, values: th.Tensor) -> None:
        # TensorBoard shows 30 bins. torch's default of 1500 bins of unequal width takes five times as long.
        self.writer.add_histogram(name, values, self.num_timesteps, bins=64)

    def _image(self, name: str, figure: Any, dpi: int = 80) -> None:
        self.writer.add_image(name, pictures.to_array(figure, dpi), self.num_timesteps, dataformats="HWC")

    @property
    def _now(self) -> str:
        return f"episode {self.model._episode_num:,}, step {self.num_timesteps:,}"

    def _write_graph(self) -> None:
        obs = self.model.policy.obs_to_tensor(self.model._last_obs)[0]  # type: ignore[arg-type]
        with evaluating(self.network), warnings.catch_warnings():
            # The trace warns of branches that it does not follow, which a drawing does not need.
            warnings.simplefilter("ignore")
            self.writer.add_graph(self.network, obs, use_strict_trace=False)

    def _write_histograms(self) -> None:
        for name, parameter in self.network.named_parameters():
            self._histogram(f"weights/{name}", parameter.detach())
        for name, gradient in self._gradients().items():
            self._histogram(f"gradients/{name}", gradient)
        for name, value in self._memory_scalars().items():
            self._scalar(f"memory/{name}", value)
        if self.table is not None:
            for name, value in self._q_errors().items():
                self._scalar(f"q_error/{name}", value)

    def _gradients(self) -> dict[str, th.Tensor]:
        """
        Return the gradient of the loss on one minibatch, by the name of the parameter.

        Models of this package compute it here, because the compiled engine stores no gradients. Other models have the
        gradient of their last update.
        """
        parameters = dict(self.network.named_parameters())
        memory = self.model.replay_buffer  # type: ignore[attr-defined]
        if not hasattr(self.model, "engine_in_use"):
            return {name: p.grad for name, p in parameters.items() if p.grad is not None}
        if memory is None or memory.size() == 0:
            return {}
        batch = _sample(memory, self.batch_size, self.model.get_vec_normalize_env(), self.rng)
        with evaluating(self.network):
            loss = self.model.compute_loss(batch)  # type: ignore[attr-defined]
            gradients = th.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return {name: g for name, g in zip(parameters, gradients, strict=True) if g is not None}

    def _memory_scalars(self) -> dict[str, float]:
        memory = self.model.replay_buffer  # type: ignore[attr-defined]
        if not isinstance(memory, SuccessFailReplayBuffer):
            return {} if memory is None else {"fill": memory.size() / memory.buffer_size}
        successes, failures = memory.success_size, memory.fail_size
        share = successes / max(successes + failures, 1)
        if memory.success_fraction is not None and successes and failures:
            share = memory.success_fraction
        return {
            "fill": (memory.size() if memory.bounds_all else failures) / memory.buffer_size,
            "successes": successes,
            "failures": failures,
            "share_of_successes_drawn": share,
            "states_of_successes": len(memory.success_states),
        }

    def _q_errors(self) -> dict[str, float]:
        values, optimal = self._action_values()[self.states], self.optimal_q[self.states]
        errors = np.abs(values - optimal)[self.valid[self.states]]
        chosen = np.take_along_axis(optimal, values.argmax(axis=1)[:, None], axis=1)[:, 0]
        return {
            "mean_abs": float(errors.mean()),
            "max_abs": float(errors.max()),
            "optimal_actions": float((chosen >= optimal.max(axis=1) - _EQUAL_VALUES).mean()),
        }

    def _action_values(self) -> np.ndarray:
        """Return the values of all actions in all states, -inf for invalid actions, shape ``(S, A)``."""
        assert self.table is not None
        with evaluating(self.network):
            values = action_values(self.model, np.arange(self.table.n_states))
        return np.where(self.valid, values, -np.inf)

    def _write_images(self) -> None:
        if self.table is not None:
            values = self._action_values()
            self._write_values("values/learned", values)
            self._write_close_up(values)
        self._write_embeddings()

    def _write_values(self, name: str, values: np.ndarray) -> None:
        best = self.optimal_q[self.states].max(axis=1)
        shown = np.full(len(values), np.nan)
        shown[self.states] = values.max(axis=1)[self.states]
        title = "exact optimum" if name == "values/optimal" else self._now
        # On the scale of the optimum, so that the pictures of all times and runs can be compared.
        limits = float(best.min()), float(best.max())
        gamma = self.model.gamma  # type: ignore[attr-defined]
        label = f"highest action value (γ = {gamma:g})"
        self._image(name, pictures.draw_values(shown, values.argmax(axis=1), self.layout, title, limits, label))

    def _write_close_up(self, learned: np.ndarray) -> None:
        """Write the learned and the optimal values side by side, of at most two cases: large enough for TensorBoard."""
        if self.layout is None:
            return
        cases = np.unique(self.layout.case_of[self.states])[[0, -1]]
        sides = np.where(self.valid, learned, -np.inf), self.optimal_q
        values = np.concatenate([side.max(axis=1) for side in sides])
        shown = np.full(len(values), np.nan)
        acting = np.intersect1d(self.states, np.flatnonzero(np.isin(self.layout.case_of, cases)))
        for states in (acting, acting + len(learned)):
            shown[states] = values[states]
        best = self.optimal_q[self.states].max(axis=1)
        actions = np.concatenate([side.argmax(axis=1) for side in sides])
        layout = self.layout.side_by_side(("learned", "optimal"), np.unique(cases).tolist())
        limits = float(best.min()), float(best.max())
        figure = pictures.draw_values(shown, actions, layout, self._now, limits, label=None)
        self._image("values/close_up", figure, dpi=120)

    def _write_memory(self) -> None:
        memory, table = self.model.replay_buffer, self.table  # type: ignore[attr-defined]
        assert table is not None
        if memory is None or memory.size() == 0 or not isinstance(self.model.observation_space, spaces.Discrete):
            return
        numbers = np.asarray(memory.observations)[: memory.size()].ravel().astype(np.int64)
        counts = np.bincount(numbers - int(self.model.observation_space.start), minlength=table.n_states)
        shown = np.full(table.n_states, np.nan)
        shown[self.states] = counts[self.states]
        self._image(
            "memory/states",
            pictures.draw_values(shown, None, self.layout, self._now, label="transitions held"),
        )

    def _write_embeddings(self) -> None:
        projector = Projector(pathlib.Path(self.writer.get_logdir()))
        for name, module in self.network.named_modules():
            if isinstance(module, th.nn.Embedding):
                rows, columns = self._labels(name, module)
                title = f"embedding of {len(rows)} states" if OPTIMAL_ACTION in columns else name
                projector.add(name, title, module.weight.detach().cpu().numpy()[rows], columns, OPTIMAL_ACTION)
        projector.write()

    def _labels(self, name: str, embedding: th.nn.Embedding) -> tuple[np.ndarray, dict[str, Sequence[Any]]]:
        """Return the numbers of the rows of an embedding to show, and the columns of their labels."""
        space = self.model.observation_space
        all_rows = np.arange(embedding.num_embeddings)
        parent = self.network.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, DiscreteEmbeddingExtractor):
            return all_rows, {"label": parent.row_labels()}
        if name == "action_embedding":
            return all_rows, {"label": list(self._action_names())}
        if not isinstance(space, spaces.Discrete) or embedding.num_embeddings != space.n or self.table is None:
            return all_rows, {"label": all_rows.tolist()}
        values, optimal = self._action_values()[self.states], self.optimal_q[self.states]
        all_columns = {"state": range(len(all_rows))} if self.layout is None else self.layout.columns
        columns = {name: [column[state] for state in self.states.tolist()] for name, column in all_columns.items()}
        names = self._action_names()
        return self.states, {
            "label": [
                ", ".join(f"{name} {entry}" for name, entry in zip(columns, line, strict=True))
                for line in zip(*columns.values(), strict=True)
            ],
            **columns,
            OPTIMAL_ACTION: [names[action] for action in optimal.argmax(axis=1)],
            "greedy action": [names[action] for action in values.argmax(axis=1)],
            "optimal value": optimal.max(axis=1).round(4).tolist(),
            "value": values.max(axis=1).round(4).tolist(),
        }

    def _action_names(self) -> Sequence[str]:
        if self.layout is not None:
            return self.layout.action_names
        return [str(action) for action in range(self.model.action_space.n)]  # type: ignore[attr-defined]


def _tenth_of_budget(model: Any) -> tuple[int, str]:
    if isinstance(budget := getattr(model, "_budget", None), Budget):
        return budget.tenth()
    return Budget(model.num_timesteps, until_steps=model._total_timesteps).tenth()


def _layout_of(table: TabularModel, training_env: VecEnv | None) -> GridLayout | None:
    base = None if training_env is None else training_env.unwrapped
    if isinstance(base, DummyVecEnv):
        return grid_layout(base.envs[0])
    if table.spec is None:
        return None
    env = gym.make(table.spec)
    try:
        # The spec of an environment with a random map makes an environment with another map.
        same_map = np.array_equal(TabularModel.from_env(env).next_states, table.next_states)
        return grid_layout(env) if same_map else None
    except NotTabularError:
        return None
    finally:
        env.close()


def _sample(memory: ReplayBuffer, batch_size: int, env: Any, rng: np.random.Generator) -> ReplayBufferSamples:
    """Draw a minibatch as training does, but leave the random generators of training unchanged."""
    if isinstance(memory, SuccessFailReplayBuffer):
        training_rng, memory.rng = memory.rng, rng
        try:
            return memory.sample(batch_size, env)
        finally:
            memory.rng = training_rng
    state = np.random.get_state()  # noqa: NPY002  # SB3's buffers draw from it
    np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
    try:
        return memory.sample(batch_size, env)
    finally:
        np.random.set_state(state)  # noqa: NPY002
