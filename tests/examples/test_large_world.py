"""The large Taxi of the examples: its rules, its masks, the fewest steps, and the script with tiny numbers."""

import json
from collections import deque

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from examples.large_world import (
    CONTESTANTS,
    DELIVERY,
    DIRECTIONS,
    DROP_OFF,
    MISTAKE,
    NETWORK_RATES,
    PICK_UP,
    STEP,
    TABLE_RATES,
    LargeTaxi,
    main,
    random_moves,
    run_test,
)

SMALL = {"size": 3, "n_passengers": 2, "n_stops": 3, "wall_share": 0.3}


def successor(env, observation, action):
    """Observation after one step, its reward, and whether it ended the episode."""
    env.reset(options={"observation": observation})
    after, reward, terminated, _, _ = env.step(action)
    return tuple(after.tolist()), reward, terminated


def all_starts(env):
    """Every observation with which an episode can begin, drawn often enough to see them all."""
    env.reset(seed=0)
    return sorted({tuple(env.reset()[0].tolist()) for _ in range(5000)})


def reachable(env):
    """All states that can be reached and are not terminal, with their successors for every action."""
    graph, queue = {}, deque(all_starts(env))
    while queue:
        state = queue.popleft()
        if state not in graph:
            graph[state] = [successor(env, state, action) for action in range(6)]
            queue += [after for after, _, terminated in graph[state] if not terminated]
    return graph


@pytest.fixture(scope="module")
def graph():
    return reachable(LargeTaxi(**SMALL))


def test_gymnasium_finds_no_fault():
    check_env(LargeTaxi(size=5, render_mode="ansi"), skip_render_check=True)


def test_walls_close_no_cell_off():
    for seed in range(5):
        moves = random_moves(8, 1.0, seed)  # as many walls as possible: a maze
        assert sum(targets[cell] != cell for targets in moves for cell in range(64)) == 2 * 63
        seen, queue = {0}, [0]
        for cell in queue:
            new = {targets[cell] for targets in moves} - seen
            seen |= new
            queue += new
        assert len(seen) == 64


def test_moves_lead_to_neighbours_and_back():
    moves = random_moves(20, 0.1, 0)
    n_walls = sum(moves[0][cell] == cell for cell in range(380))
    n_walls += sum(moves[2][cell] == cell for cell in range(400) if (cell + 1) % 20)
    assert n_walls == 76  # a tenth of 760 borders
    for direction, (down, right) in enumerate(DIRECTIONS):
        for cell, target in enumerate(moves[direction]):
            if target != cell:
                assert np.subtract(divmod(target, 20), divmod(cell, 20)).tolist() == [down, right]
                assert moves[direction ^ 1][target] == cell


def test_the_same_seed_makes_the_same_world():
    worlds = [LargeTaxi(walls_seed=seed) for seed in (3, 3, 4)]
    assert (worlds[0].moves, worlds[0].stops) == (worlds[1].moves, worlds[1].stops)
    assert worlds[0].moves != worlds[2].moves


def test_masks_name_the_actions_that_change_something(graph):
    env = LargeTaxi(**SMALL)
    for state, successors in graph.items():
        env.reset(options={"observation": state})
        assert env.action_masks().tolist() == [after != state for after, _, _ in successors]


def test_rewards_are_those_of_taxi(graph):
    for state, successors in graph.items():
        for action, (after, reward, terminated) in enumerate(successors):
            if action in (PICK_UP, DROP_OFF) and after == state:
                assert reward == MISTAKE
            else:
                assert reward == (DELIVERY if action == DROP_OFF else STEP)
            assert not terminated or action == DROP_OFF


def test_every_start_can_be_solved_in_the_fewest_steps(graph):
    """Breadth-first search from the ends, on the whole graph of states."""
    before = {}
    for state, successors in graph.items():
        for after, _, terminated in successors:
            before.setdefault("end" if terminated else after, set()).add(state)
    steps, queue = {"end": 0}, deque(["end"])
    while queue:
        node = queue.popleft()
        for state in before.get(node, ()):
            if state not in steps:
                steps[state] = steps[node] + 1
                queue.append(state)
    env = LargeTaxi(**SMALL)
    assert set(all_starts(env)) <= set(steps)
    assert set(graph) <= set(steps)  # not only the starts
    for state in graph:
        env.reset(options={"observation": state})
        assert env.fewest_steps() == steps[state]


def test_an_episode_ends_at_its_step_limit():
    env = LargeTaxi(max_steps=3)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_the_picture_has_the_stops_the_taxi_and_the_passengers():
    env = LargeTaxi(size=4, n_stops=2, n_passengers=2, render_mode="ansi")
    cell = next(cell for cell in range(16) if cell not in env.stops)
    env.reset(options={"observation": [cell, 1, 2]})  # from 0 to 1, and from 1 to 0
    lines = env.render().splitlines()
    assert len(lines) == 1 + 7 + 1 + 2
    world = "".join(lines[1:8])
    assert [world.count(letter) for letter in "01T"] == [1, 1, 1]
    assert lines[-2:] == ["passenger 0: at 0 to 1", "passenger 1: at 1 to 0"]


def test_the_best_policy_passes_the_test():
    env = LargeTaxi(**SMALL)
    env.reset(seed=1)
    starts = [env.reset()[0] for _ in range(20)]

    def act(obs, masks):
        actions = []
        for state, mask in zip(obs, masks, strict=True):
            to_end = {}
            for action in mask.nonzero()[0]:
                _, _, terminated = successor(env, state, action)
                to_end[action] = 0 if terminated else env.fewest_steps()
            actions.append(min(to_end, key=to_end.get))
        return np.array(actions)

    assert run_test(act, starts, **SMALL) == {"solved": 1.0, "delivered": 1.0, "steps / fewest": 1.0}


@pytest.mark.slow
def test_the_study_runs_once_with_tiny_numbers(tmp_path, capsys):
    words = f"--steps 320 --seeds 1 --size 4 --stops 3 --tests 2 --starts 3 --out {tmp_path}".split()
    main(words)
    table = (tmp_path / "large_world_results.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    assert all(f"| {contestant} | " in table for contestant in CONTESTANTS)
    assert (tmp_path / "large_world.png").stat().st_size > 10_000
    rows = json.loads((tmp_path / "large_world.json").read_text(encoding="utf-8"))
    assert len(rows) == len(TABLE_RATES) + 4 * len(NETWORK_RATES) + len(CONTESTANTS)
    assert all(row["history"][-1][0] == 320 for row in rows)
    main(words)
    assert capsys.readouterr().out == table + "\n"
