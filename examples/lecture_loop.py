"""The lecture's algorithm in one file, in the lecture's names: ``python examples/lecture_loop.py``.

Read it from top to bottom. It needs torch, gymnasium and tensorboard, and shares no code with the package. A line
``# Package:`` names what does the same there: first in PyTorch, where the results are equal bit for bit
(tests/lecture_dqn/test_oracle.py), then compiled, where draws, actions and memory are equal and weights differ by the
rounding of float32 (tests/engine/test_compiled.py). The order of all random draws is part of the contract:

* ``explore_rng``, per environment step: ``random()``; then, only if it is below epsilon, ``int(random() * n_actions)``.
* ``memory_rng``, per environment step: ``int(random() * replay_memory_fail_size)``, if a new transition meets a full
  fail list; then ``int(random() * (len(success) + len(fail)))`` once per update.
"""

import argparse
import copy
import math
import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

Env = gym.Env[Any, Any]
Transition = tuple[int, int, int, float, bool]  # (s, a, s', r, done)
PENALTY = -10.0  # the reward of an illegal pick-up or drop-off


# Package: sb3_lecture_dqn/lecture_dqn/lecture_dqn.py, LectureDQN
@dataclass
class Config:
    """The settings of the lecture's run. Its slide shows lr=0.01, but its optimiser has 0.001: 0.01 diverges."""

    lr: float = 0.001
    gamma: float = 0.75
    epsilon_decay: float = 0.99
    min_epsilon: float = 0.1
    num_episodes: int = 5000
    max_time_steps: int = 1000  # the loop cuts an episode after so many steps
    renew_target: int = 20  # episodes from one copy of the target network to the next
    replay_memory_fail_size: int = 1000
    updates_per_step: int = 5
    hidden_dim: int = 32
    test_freq: int = 50  # episodes from one test to the next
    num_tests: int = 100  # episodes of a test
    store_and_replay: bool = True  # the first switch: a replay memory
    double_dqn: bool = True  # the second: a separate target network. This is not van Hasselt's Double DQN


# Package: sb3_lecture_dqn/common/torch_layers.py, LectureNetwork; sb3_lecture_dqn/kernels/networks.py, action_values
class QNet(nn.Module):
    """State in, all action values out: int64 states of shape (B,) to float32 values of shape (B, n_actions)."""

    def __init__(self, n_states: int, n_actions: int, hidden_dim: int = 32) -> None:
        super().__init__()
        h, self.n_actions = hidden_dim, n_actions
        self.layers = nn.Sequential(
            nn.Embedding(n_states, 2 * h),
            nn.Linear(2 * h, 2 * h),
            nn.PReLU(),
            nn.Linear(2 * h, h),
            nn.PReLU(),
            nn.Linear(h, n_actions),
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.layers(states)


# Package: sb3_lecture_dqn/common/buffers.py, SuccessFailReplayBuffer; sb3_lecture_dqn/kernels/rollouts.py, keep
class ReplayMemory:
    """Two lists without duplicates: ``success`` is unbounded, ``fail`` holds ``fail_size`` transitions."""

    def __init__(self, fail_size: int, rng: np.random.Generator) -> None:
        self.fail_size, self.rng = fail_size, rng
        self.success: list[Transition] = []
        self.fail: list[Transition] = []
        self.prev_success: set[int] = set()  # states from which an action led to success

    def store(self, transition: Transition) -> None:
        """Store a transition unless its list has it. In a full fail list it overwrites a random transition."""
        state, _, _, _, done = transition
        if done:
            self.prev_success.add(state)
        memory = self.success if done else self.fail
        if transition in memory:
            return
        if done or len(self.fail) < self.fail_size:
            memory.append(transition)
        else:
            self.fail[int(self.rng.random() * self.fail_size)] = transition

    def draw(self) -> Transition:
        """Draw one transition uniformly from both lists together, with replacement."""
        i = int(self.rng.random() * (len(self.success) + len(self.fail)))
        return self.success[i] if i < len(self.success) else self.fail[i - len(self.success)]


@dataclass
class Agent:
    """What learns. ``target`` is ``net`` itself without a target network; ``memory`` is None without replay."""

    config: Config
    net: QNet
    explore_rng: np.random.Generator
    memory_rng: np.random.Generator

    def __post_init__(self) -> None:
        self.target = copy.deepcopy(self.net) if self.config.double_dqn else self.net
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=self.config.lr)
        size = self.config.replay_memory_fail_size
        self.memory = ReplayMemory(size, self.memory_rng) if self.config.store_and_replay else None


@dataclass
class Episode:
    """One training episode; ``terminated`` is False if the loop cut it."""

    actions: list[int] = field(default_factory=list)
    terminated: bool = False


# Package: sb3_lecture_dqn/training/exploration.py, lecture_epsilon
def epsilon(config: Config, episode: int) -> float:
    """Return the probability of a random action in an episode; the first episode is number 1."""
    return max(config.min_epsilon, config.epsilon_decay**episode)


# Package: sb3_lecture_dqn/engine/torch_engine.py, greedy_actions; sb3_lecture_dqn/kernels/networks.py, greedy_actions
def greedy_action(net: QNet, state: int) -> int:
    """Return the action of highest value in a state."""
    with torch.no_grad():
        return int(net(torch.tensor([state])).argmax(dim=1))


# Package: sb3_lecture_dqn/lecture_dqn/lecture_dqn.py, compute_loss; sb3_lecture_dqn/kernels/updates.py, learn_from_one
def update(agent: Agent, transition: Transition) -> None:
    """Make one SGD step on ``(Q(s, a) - y)**2``, with ``y = r`` if done, else ``r + gamma * max Q_target(s', .)``."""
    s, a, s_next, r, done = transition
    with torch.no_grad():  # y is a number to reach, not something to change
        y = torch.tensor(r) if done else r + agent.config.gamma * agent.target(torch.tensor([s_next])).max()
    loss = nn.functional.mse_loss(agent.net(torch.tensor([s]))[0, a], y)
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the training has diverged: the loss is {loss.item()}")
    agent.optimizer.zero_grad()
    loss.backward()
    agent.optimizer.step()


# Package: sb3_lecture_dqn/engine/torch_engine.py, train; sb3_lecture_dqn/kernels/updates.py, train_on
def replay(agent: Agent, latest: Transition) -> None:
    """Learn from five transitions, each drawn on its own; without a memory, five times from the latest."""
    for _ in range(agent.config.updates_per_step):
        update(agent, latest if agent.memory is None else agent.memory.draw())


# Package: sb3_lecture_dqn/training/algorithm.py, collect_rollouts; sb3_lecture_dqn/kernels/rollouts.py, run_on
def train_episode(agent: Agent, env: Env, number: int, seed: int | None = None) -> Episode:
    """Play one episode, and learn after every step of it."""
    episode, eps = Episode(), epsilon(agent.config, number)
    state = int(env.reset(seed=seed)[0])
    while not episode.terminated and len(episode.actions) < agent.config.max_time_steps:
        if agent.explore_rng.random() < eps:
            action = int(agent.explore_rng.random() * agent.net.n_actions)
        else:
            action = greedy_action(agent.net, state)
        observation, reward, terminated, _, _ = env.step(action)
        # A cut is not an end: `done` is the environment's `terminated`, so the last step of a cut episode bootstraps.
        transition = (state, action, int(observation), float(reward), bool(terminated))
        if agent.memory is not None:
            agent.memory.store(transition)
        replay(agent, transition)
        state = int(observation)
        episode.actions.append(action)
        episode.terminated = bool(terminated)
    return episode


# Package: sb3_lecture_dqn/evaluation/run.py, run_test
def test(net: QNet, env: Env, config: Config, seed: int | None = None) -> tuple[float, float, float]:
    """Play greedy episodes, the first with the seed; return the mean steps, penalties and reward of an episode."""
    steps, penalties, total_reward = 0, 0, 0.0
    for episode in range(config.num_tests):
        state, _ = env.reset(seed=seed if episode == 0 else None)
        for _ in range(config.max_time_steps):
            state, reward, terminated, _, _ = env.step(greedy_action(net, int(state)))
            steps += 1
            penalties += float(reward) == PENALTY
            total_reward += float(reward)
            if terminated:
                break
    return steps / config.num_tests, penalties / config.num_tests, total_reward / config.num_tests


# Package: sb3_lecture_dqn/training/algorithm.py, learn; sb3_lecture_dqn/kernels/rollouts.py, run_on
def train(
    agent: Agent, env: Env, test_env: Env | None = None, writer: Any = None, seed: int | None = None
) -> tuple[list[Episode], list[tuple[float, ...]]]:
    """Train on ``env``, which must have no time limit of its own. Without a ``test_env`` there are no tests."""
    config, episodes, tests = agent.config, [], []
    for i in range(1, config.num_episodes + 1):
        episodes.append(train_episode(agent, env, i, seed if i == 1 else None))
        if config.double_dqn and i % config.renew_target == 0:
            agent.target.load_state_dict(agent.net.state_dict())
        if test_env is not None and (i == 1 or i % config.test_freq == 0):
            averages = test(agent.net, test_env, config, None if tests or seed is None else seed + 1)
            tests.append((i, *averages))
            if writer is not None:
                print("Episode {}: {:.2f} steps, {:.2f} penalties, {:.2f} reward".format(*tests[-1]))
                for tag, value in zip(("Steps", "Penalty", "Reward"), averages, strict=True):
                    writer.add_scalar(tag, value, i)
    return episodes, tests


def make_taxi() -> Env:
    """Make Taxi without its time limit. The dynamics of v3 and v4 are equal."""
    return gym.make("Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3").unwrapped


# Package: sb3_lecture_dqn/commands/train_run.py, train
def main() -> None:
    """Train on Taxi, and print the results."""
    from torch.utils.tensorboard import SummaryWriter

    parser = argparse.ArgumentParser(description="The lecture's DQN on Taxi, as one plain loop.")
    for name, default in (("episodes", Config.num_episodes), ("tests", Config.num_tests), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    for switch in ("store-and-replay", "double-dqn"):
        parser.add_argument(f"--{switch}", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    replays, doubles = args.store_and_replay, args.double_dqn
    config = Config(num_episodes=args.episodes, num_tests=args.tests, store_and_replay=replays, double_dqn=doubles)
    torch.set_num_threads(1)  # more threads are slower for matrices this small
    torch.manual_seed(args.seed)
    env, test_env = make_taxi(), make_taxi()
    net = QNet(int(env.observation_space.n), int(env.action_space.n), config.hidden_dim)
    agent = Agent(config, net, *map(np.random.default_rng, np.random.SeedSequence(args.seed).spawn(2)))
    print(f"Action Space {env.action_space}\nState Space {env.observation_space}")
    print(f"Store & replay: {replays}\nDouble DQN: {doubles}")
    with SummaryWriter(f"runs/SR_{replays}_DD_{doubles}_{time.strftime('%Y-%m-%d_%H-%M-%S')}") as writer:
        train(agent, env, test_env, writer, args.seed)
    print("Training finished.")
    steps, penalties, reward = test(agent.net, test_env, config)
    print(f"Results after {config.num_tests} episodes:\nAverage timesteps per episode: {steps}")
    print(f"Average penalty per episode: {penalties}\nAverage reward per episode: {reward}")


if __name__ == "__main__":
    main()
