"""The whole algorithm of the lecture in one file: ``python examples/lecture_loop.py``.

Read it from top to bottom: the network, the memory, one update, the test, the loop. It shares no code with the package.
The package's tests compare ``LectureDQN`` with it bit by bit.

Every random draw comes from a generator that the caller passes in, and the order of draws is part of the contract:

* ``explore_rng``, per environment step: ``random()``; then, only if it is below epsilon, ``int(random() * n_actions)``.
* ``memory_rng``, per environment step: ``int(random() * fail_capacity)``, if a new transition meets a full fail list;
  then ``int(random() * (len(success) + len(fail)))`` once per update.
"""

import argparse
import copy
import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

Transition = tuple[int, int, int, float, bool]  # (s, a, s', r, done)
TestRow = tuple[int, float, float, float]  # (episode, mean steps, mean penalties, mean reward)

PENALTY_REWARD = -10.0  # an illegal pick-up or drop-off


class LectureNet(nn.Module):
    """State in, all action values out: int64 states of shape (B,) to float32 values of shape (B, n_actions)."""

    def __init__(self, n_states: int, n_actions: int, h: int = 32) -> None:
        super().__init__()
        self.n_actions = n_actions
        self.layers = nn.Sequential(
            nn.Embedding(n_states, 2 * h),
            nn.Linear(2 * h, 2 * h),
            nn.PReLU(),
            nn.Linear(2 * h, h),
            nn.PReLU(),
            nn.Linear(h, n_actions),
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.layers(states)
        return values


class TwoLists:
    """Replay memory of two lists without duplicates: ``success`` is unbounded, ``fail`` holds ``fail_capacity``."""

    def __init__(self, fail_capacity: int, rng: np.random.Generator) -> None:
        self.fail_capacity = fail_capacity
        self.rng = rng
        self.success: list[Transition] = []
        self.fail: list[Transition] = []
        self.success_states: set[int] = set()

    def store(self, transition: Transition) -> None:
        """Store a transition unless its list has it. In a full fail list it overwrites a random transition."""
        state, _, _, _, done = transition
        if done:
            self.success_states.add(state)
        memory = self.success if done else self.fail
        if transition in memory:
            return
        if done or len(self.fail) < self.fail_capacity:
            memory.append(transition)
        else:
            self.fail[int(self.rng.random() * self.fail_capacity)] = transition

    def draw(self) -> Transition:
        """Draw one transition uniformly from both lists, with replacement."""
        i = int(self.rng.random() * (len(self.success) + len(self.fail)))
        return self.success[i] if i < len(self.success) else self.fail[i - len(self.success)]


@dataclass
class Episode:
    """One training episode; ``terminated`` is False if the loop cut it."""

    epsilon: float
    steps: int = 0
    reward: float = 0.0
    penalties: int = 0
    terminated: bool = False


@dataclass
class Result:
    """The result of a run. ``memory`` is None without replay; ``target`` is ``net`` without a target network."""

    net: LectureNet
    target: LectureNet
    memory: TwoLists | None
    episodes: list[Episode] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)  # of all training steps, in order
    tests: list[TestRow] = field(default_factory=list)
    env_steps: int = 0  # training only


def greedy_action(net: LectureNet, state: int) -> int:
    """Return the action of highest value in one state."""
    with torch.no_grad():
        return int(net(torch.tensor([state])).argmax(dim=1))


def update(
    net: LectureNet, target: LectureNet, optimizer: torch.optim.Optimizer, transition: Transition, gamma: float
) -> None:
    """Make one SGD step on ``(Q(s, a) - y)**2``, with ``y = r`` if done, else ``r + gamma * max Q_target(s', .)``."""
    s, a, s_next, r, d = transition
    reward = torch.tensor([[r]], dtype=torch.float32)
    done = torch.tensor([[d]], dtype=torch.float32)
    with torch.no_grad():
        max_q = target(torch.tensor([s_next])).max(dim=1, keepdim=True).values
        # The order of these operations is part of the contract: float32 results are compared bit for bit.
        y = reward + (1 - done) * gamma * max_q
    q = net(torch.tensor([s])).gather(1, torch.tensor([[a]]))
    loss = nn.functional.mse_loss(q, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test(
    net: LectureNet,
    test_env: gym.Env[Any, Any],
    n_episodes: int,
    max_episode_steps: int,
    first_seed: int | None = None,
) -> tuple[float, float, float]:
    """Play greedy episodes one after the other; return mean steps, mean penalties and mean reward per episode.

    Only the first reset gets ``first_seed``; with None the environment's generator goes on.
    """
    steps, penalties, total_reward = 0, 0, 0.0
    for episode in range(n_episodes):
        state, _ = test_env.reset(seed=first_seed if episode == 0 else None)
        for _ in range(max_episode_steps):
            state, reward, terminated, _, _ = test_env.step(greedy_action(net, int(state)))
            steps += 1
            penalties += float(reward) == PENALTY_REWARD
            total_reward += float(reward)
            if terminated:
                break
    return steps / n_episodes, penalties / n_episodes, total_reward / n_episodes


def run(
    env: gym.Env[Any, Any],
    net: LectureNet,
    *,
    episodes: int,
    explore_rng: np.random.Generator,
    memory_rng: np.random.Generator,
    test_env: gym.Env[Any, Any] | None = None,
    store_and_replay: bool = True,
    double_dqn: bool = True,
    learning_rate: float = 0.001,
    gamma: float = 0.75,
    fail_capacity: int = 1000,
    updates_per_step: int = 5,
    target_every: int = 20,
    test_every: int = 50,
    n_test_episodes: int = 100,
    max_episode_steps: int = 1000,
    epsilon_min: float = 0.1,
    epsilon_decay: float = 0.99,
    env_seed: int | None = None,
    test_seed: int | None = None,
) -> Result:
    """Train ``net`` in place on ``env``, which must have no time limit: the loop cuts episodes itself.

    ``double_dqn`` means the lecture's separate target network, not van Hasselt's Double DQN. Only the very first reset
    of an environment gets its seed. Without a ``test_env`` there are no tests.
    """
    target = copy.deepcopy(net) if double_dqn else net
    memory = TwoLists(fail_capacity, memory_rng) if store_and_replay else None
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate)
    result = Result(net, target, memory)

    for i in range(1, episodes + 1):
        episode = Episode(epsilon=max(epsilon_min, epsilon_decay**i))
        observation, _ = env.reset(seed=env_seed if i == 1 else None)
        state = int(observation)

        while not episode.terminated and episode.steps < max_episode_steps:
            if explore_rng.random() < episode.epsilon:
                action = int(explore_rng.random() * net.n_actions)
            else:
                action = greedy_action(net, state)

            # A cut is not a terminal state: `done` is the environment's `terminated`, so a cut episode bootstraps.
            observation, step_reward, terminated, _, _ = env.step(action)
            next_state, reward, done = int(observation), float(step_reward), bool(terminated)
            transition = (state, action, next_state, reward, done)
            if memory is not None:
                memory.store(transition)

            for _ in range(updates_per_step):
                update(net, target, optimizer, transition if memory is None else memory.draw(), gamma)

            state = next_state
            episode.steps += 1
            episode.reward += reward
            episode.penalties += reward == PENALTY_REWARD
            episode.terminated = done
            result.actions.append(action)

        result.episodes.append(episode)
        result.env_steps += episode.steps

        if double_dqn and i % target_every == 0:
            target.load_state_dict(net.state_dict())
        if test_env is not None and (i == 1 or i % test_every == 0):
            first_seed = None if result.tests else test_seed
            result.tests.append((i, *test(net, test_env, n_test_episodes, max_episode_steps, first_seed)))

    return result


def make_taxi() -> gym.Env[Any, Any]:
    """Make Taxi without its time limit. The dynamics of v3 and v4 are equal."""
    return gym.make("Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3").unwrapped


def main() -> None:
    """Train on Taxi from the command line."""
    parser = argparse.ArgumentParser(description="The lecture's DQN on Taxi, as one plain loop.")
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-test", action="store_true", help="leave the tests out, to time the training alone")
    args = parser.parse_args()

    torch.set_num_threads(1)  # more threads are slower for matrices this small
    torch.manual_seed(args.seed)
    explore_rng, memory_rng = np.random.default_rng(args.seed).spawn(2)

    start = time.perf_counter()
    result = run(
        make_taxi(),
        LectureNet(n_states=500, n_actions=6),
        episodes=args.episodes,
        explore_rng=explore_rng,
        memory_rng=memory_rng,
        test_env=None if args.no_test else make_taxi(),
        env_seed=args.seed,
        test_seed=args.seed + 1,
    )
    seconds = time.perf_counter() - start

    for number, steps, penalties, reward in result.tests:
        print(f"episode {number}: {steps:.2f} steps, {penalties:.2f} penalties, {reward:.2f} reward")
    timed = "training alone" if args.no_test else "tests included"
    print(f"{result.env_steps} env steps, {result.env_steps / seconds:.0f} per second ({timed})")


if __name__ == "__main__":
    main()
