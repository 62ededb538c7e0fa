"""Every and Budget: no model is needed."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn.training.schedule import Budget, Every

counts = st.lists(st.integers(0, 30), min_size=1, max_size=30).map(lambda steps: [sum(steps[:i]) for i in range(1, 31)])


@given(st.integers(1, 20), st.booleans(), counts)
def test_due_is_whether_a_multiple_was_passed_since_the_last_look(n, first, looks):
    every, before = Every(n, "step", first=first), 0
    for count in looks:
        passed = any(k % n == 0 for k in range(before + 1, count + 1))
        assert every.due(count, 0) == (passed or (first and before == 0 and count > 0))
        before = count


@given(st.integers(1, 20), st.booleans(), st.integers(0, 60))
def test_next_due_is_the_first_count_at_which_it_is_due(n, first, start):
    every = Every(n, "episode", first=first)
    every.due(0, start)
    state, following = every.get_state(), every.next_due()
    for count in range(start + 1, following + 1):
        every.set_state(state)
        assert every.due(10**6, count) == (count == following)


def test_what_was_before_the_start_is_not_due():
    every = Every(10, "step")
    every.start(35, 2)
    assert [every.due(count, 0) for count in (36, 39, 40, 41, 60)] == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("frequency", "expected"), [(7, (7, "step", False)), ((5, "episode"), (5, "episode", True)), ((5, "step"), None)]
)
def test_a_frequency_is_read_as_users_give_it(frequency, expected):
    every = Every.parse("test_freq", frequency, first_episode=True)
    assert (every.n, every.unit, every.first) == (expected or (5, "step", False))


@pytest.mark.parametrize("frequency", [0, -1, 1.5, (3, "weeks"), "often"])
def test_what_is_no_frequency_is_named(frequency):
    with pytest.raises(ValueError, match="test_freq"):
        Every.parse("test_freq", frequency)


@pytest.mark.parametrize("state", [-1, 0.5, "many", None])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(ValueError, match="steps or episodes that an interval has counted"):
        Every(3, "step").set_state(state)


@pytest.mark.parametrize(
    ("steps", "episodes", "default", "until"),
    [
        (100, None, None, (130, None)),
        (1e2, None, None, (130, None)),
        (None, 10, None, (sys.maxsize, 14)),
        (None, None, None, (sys.maxsize, 5004)),
        (None, None, 50, (80, None)),
        (None, 10, 50, (sys.maxsize, 14)),
        (0, None, None, (30, None)),
    ],
)
def test_a_budget_counts_from_the_beginning_of_the_call(steps, episodes, default, until):
    budget = Budget.parse(steps, episodes, 30, 4, default)
    assert (budget.until_steps, budget.until_episode) == until
    assert (budget.steps_before, budget.episodes_before) == (30, 4)


def test_a_budget_is_spent_at_its_number_and_not_before():
    by_steps, by_episodes = Budget.parse(10, None), Budget.parse(None, 3)
    assert [by_steps.is_spent(steps, 99) for steps in (9, 10, 11)] == [False, True, True]
    assert [by_episodes.is_spent(10**9, episodes) for episodes in (2, 3, 4)] == [False, True, True]


def test_a_tenth_is_one_of_this_call():
    assert Budget.parse(100, None, 2000, 50).tenth() == (10, "step")
    assert Budget.parse(None, 30, 2000, 50).tenth() == (3, "episode")
    assert Budget.parse(7, None, 2000, 50).tenth() == (1, "step")


@pytest.mark.parametrize(
    ("steps", "episodes", "message"),
    [(1, 1, "give one budget, not both"), (-1, None, "total_timesteps=-1"), (None, 0.5, "total_episodes=0.5")],
)
def test_what_is_no_budget_is_named(steps, episodes, message):
    with pytest.raises(ValueError, match=message):
        Budget.parse(steps, episodes)


def test_a_budget_goes_on_from_its_state():
    budget, other = Budget.parse(None, 7, 100, 3), Budget()
    other.set_state(budget.get_state())
    assert other == budget


@pytest.mark.parametrize("state", [None, {}, {"until_steps": 3}, {**Budget().get_state(), "until_steps": -1}])
def test_a_state_that_is_no_budget_is_refused(state):
    with pytest.raises(ValueError, match="budget"):
        Budget().set_state(state)


@given(st.integers(1, 20), st.booleans(), counts, st.integers(0, 31))
def test_the_state_does_not_depend_on_when_it_was_looked(n, first, looks, since):
    """Looks in which nothing was due may be left out, and another object goes on from the state."""
    often, seldom, later = (Every(n, "step", first=first) for _ in range(3))
    for count in looks:
        was = often.get_state(count)
        if often.due(count, 0):
            assert seldom.due(count, 0)
        else:
            assert seldom.get_state(count) == was == often.get_state() == count
        later.set_state(was)
        assert later.due(count, 0) == (was < count)
        assert later.next_due() == often.next_due()
    every = Every(n, "step", first=first)
    every.set_state(often.get_state())
    assert every.get_state() == often.get_state()
    assert every.due(looks[-1] + since, 0) == often.due(looks[-1] + since, 0)
