"""Graders of ``store`` and ``draw``."""

import itertools
from typing import Any

import lecture_loop
import numpy as np

from graders.common import Function, Mistake, call, call_for_answer, recognise


class OneCall:
    """A random generator that has only ``random()`` and counts its calls. All other methods are a mistake."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.n_calls = 0

    def random(self) -> float:
        """Draw a number from [0, 1)."""
        self.n_calls += 1
        return float(self._rng.random())

    def __getattr__(self, name: str) -> Any:
        raise Mistake("other_call", name=name)


def _transitions() -> list[list[lecture_loop.Transition]]:
    """
    Make lists of transitions to store one after the other.

    There are repeats, transitions that differ in one thing only, more failures than the fail list holds, and a success
    before it is full. (With the seed of that list, its number, the slots drawn are low: 0, 1, 4, 3, 0. So there is
    something to overwrite even if it comes too early, and a hint is given instead of an error.)
    """
    fails = [(state, state % 6, state + 1, -1.0, False) for state in range(14)]
    won, lost = [(20, 5, 21, 20.0, True), (30, 5, 31, 20.0, True)], (40, 4, 41, -10.0, True)
    other_end = (3, 3, 99, -1.0, False)  # the same state and action as `fails[3]`, another next state
    lucky = (50, 0, 51, 20.0, False)  # a high reward, but the episode goes on
    some = [*fails[:3], won[0], lost, fails[1], won[0], lucky, won[1]]
    full = [*fails[:4], other_end, *fails[4:], *won, fails[12], *fails[:4], (60, 5, 61, 20.0, True)]
    many = [(70 + n, 5, 71, 20.0, True) for n in range(9)]
    alike = [
        (*base[:i], other, *base[i + 1 :])
        for base in ((3, 2, 4, -1.0, False), (20, 5, 21, 20.0, True))
        for i, other in ((0, base[0]), (0, 9), (1, 1), (2, 8), (3, -10.0))  # the first is `base` itself
    ]
    early = [won[0], *fails[:9], won[1], fails[0]]
    return [some, full, many, early, alike * 2]


FAIL_SIZE = 6
FIELDS = ("s", "a", "s'", "r")


def _stored(store: Function, transitions: list[lecture_loop.Transition], draws: int) -> list[Any]:
    """Store transitions; return both lists after each."""
    success: list[Any] = []
    fail: list[Any] = []
    rng = OneCall(draws)
    history = []
    for transition in transitions:
        call(store, transition, success, fail, FAIL_SIZE, rng)
        history.append((list(success), list(fail)))
    history.append(rng.n_calls)
    return history


def _right_store(transition: Any, success: list[Any], fail: list[Any], fail_size: int, rng: OneCall) -> None:
    memory = lecture_loop.ReplayMemory(fail_size, rng)  # type: ignore[arg-type]
    memory.success, memory.fail = success, fail
    memory.store(transition)


def _wrong_store(
    transition: Any,
    success: list[Any],
    fail: list[Any],
    fail_size: int,
    rng: OneCall,
    *,
    is_success: Function = lambda t: t[4],
    is_held: Function = lambda t, memory: t in memory,
    bounds_success: bool = False,
    bounds_both: bool = False,
    n_slots: Function = lambda fail, fail_size: fail_size,
    when_full: str = "random",
    draws_first: Function = lambda fail: False,
) -> None:
    """Store with one thing wrong, chosen by the keywords."""
    memory = success if is_success(transition) else fail
    slot = int(rng.random() * fail_size) if draws_first(fail) else None
    if is_held(transition, memory):
        return
    size = len(success) + len(fail) if bounds_both else len(memory)
    if size < fail_size or when_full == "append" or (memory is success and not bounds_success):
        memory.append(transition)
    elif when_full == "random":
        memory[int(rng.random() * n_slots(fail, fail_size)) if slot is None else slot] = transition
    elif when_full == "oldest":
        memory[:] = [*memory[1:], transition]
    elif when_full == "first":
        memory[0] = transition
    elif when_full == "last":
        memory[-1] = transition


def _store_with(**wrong: Any) -> Function:
    return lambda *args: _wrong_store(*args, **wrong)


def _holds(fields: tuple[int, ...]) -> Function:
    """Look for a transition that is equal in some fields."""
    return lambda transition, memory: any(all(transition[i] == held[i] for i in fields) for held in memory)


WRONG_STORES = {
    "no_duplicate_check": _store_with(is_held=lambda t, memory: False),
    **{
        f"same_in_part,{', '.join(FIELDS[i] for i in fields)}": _store_with(is_held=_holds(fields))
        for n in (1, 2, 3)
        for fields in itertools.combinations(range(4), n)
    },
    "oldest": _store_with(when_full="oldest"),
    "oldest, first": _store_with(when_full="first"),
    "newest": _store_with(when_full="last"),
    "refused": _store_with(when_full="nothing"),
    "no_bound": _store_with(when_full="append"),
    "bounds_success": _store_with(bounds_success=True),
    "bounds_both": _store_with(bounds_both=True),
    "bounds_both, slots of fail": _store_with(bounds_both=True, n_slots=lambda fail, fail_size: len(fail)),
    "by_reward": _store_with(is_success=lambda t: t[3] > 0),
    "swapped": _store_with(is_success=lambda t: not t[4]),
    "draws_too_often": _store_with(draws_first=lambda fail: len(fail) == FAIL_SIZE),
    "draws_too_often, always": _store_with(draws_first=lambda fail: True),
}


def grade_store(store: Function) -> None:
    """Against the lecture's loop: both lists after every transition, and the number of draws."""
    lists = _transitions()
    answers = [_stored(store, transitions, draws) for draws, transitions in enumerate(lists)]

    def answer_of(function: Function, case: int) -> Any:
        return _stored(function, lists[case], case)

    rights = [answer_of(_right_store, case) for case in range(len(lists))]
    if all(answer == [([], [])] * len(transitions) + [0] for answer, transitions in zip(answers, lists, strict=True)):
        raise Mistake("stores_nothing")
    key = recognise(answers, WRONG_STORES, lambda one, other: one == other, answer_of)
    if key is not None and answers != rights:
        n_draws, n_right = (sum(history[-1] for history in histories) for histories in (answers, rights))
        key, _, fields = key.partition(",")
        raise Mistake(key, given=n_draws, expected=n_right, fields=fields)
    for answer, right, transitions in zip(answers, rights, lists, strict=True):
        for number, (one, other) in enumerate(zip(answer[:-1], right[:-1], strict=True)):
            if one != other:
                sizes = [len(memory) for memory in one] == [len(memory) for memory in other]
                if sizes and answer[-1] == 0:
                    raise Mistake("not_from_rng")
                raise Mistake("wrong", case=transitions[number], given=one, expected=other)


def _wrong_draw(index_of: Function) -> Function:
    def draw(success: list[Any], fail: list[Any], rng: OneCall) -> Any:
        return index_of(success, fail, rng)

    return draw


WRONG_DRAWS = {
    "only_fail": _wrong_draw(lambda success, fail, rng: fail[int(rng.random() * len(fail))]),
    "only_success": _wrong_draw(lambda success, fail, rng: success[int(rng.random() * len(success))]),
    "never_last": _wrong_draw(
        lambda success, fail, rng: (success + fail)[int(rng.random() * (len(success) + len(fail) - 1))]
    ),
    "fail_first": _wrong_draw(
        lambda success, fail, rng: (fail + success)[int(rng.random() * (len(success) + len(fail)))]
    ),
    "newest_only": _wrong_draw(lambda success, fail, rng: (fail or success)[-1]),
}
N_DRAWS = 4000


def grade_draw(draw: Function) -> None:
    """Against the lecture's loop: the same transitions for the same random numbers; and the shares of many draws."""
    success, fail = ([(n, 5, n, 20.0, True) for n in range(2)], [(n, 1, n, -1.0, False) for n in range(10, 16)])
    cases = [(success, fail), (success, []), ([], fail)]

    def draws_of(function: Function, case: int, n: int = 300) -> list[Any]:
        rng = OneCall(case)
        return [call_for_answer(function, *map(list, cases[case]), rng) for _ in range(n)]

    def right(success: list[Any], fail: list[Any], rng: OneCall) -> Any:
        memory = lecture_loop.ReplayMemory(1000, rng)  # type: ignore[arg-type]
        memory.success, memory.fail = success, fail
        return memory.draw()

    both = draws_of(draw, 0, N_DRAWS)
    expected = draws_of(right, 0)
    if not all(isinstance(transition, tuple) for transition in both):
        raise Mistake("wrong", case=cases[0], given=both[:3], expected=expected[:3])
    share = sum(transition in success for transition in both) / N_DRAWS
    # Uniform over 2 + 6 transitions is a quarter, with a standard deviation of 0.7 %.
    if abs(share - 0.5) < 0.05:
        raise Mistake("equal_chance", share=share)
    if both[:300] != expected:
        key = recognise([both[:300]], WRONG_DRAWS, lambda one, other: one == other, draws_of)
        if key is None and not _uses(draw, cases[0]):
            key = "not_from_rng"
        raise Mistake(key or "wrong", case=cases[0], given=both[:3], expected=expected[:3])
    kept = [list(memory) for memory in cases[0]]
    call(draw, *kept, OneCall(0))
    for name, now, before in zip(("success", "fail"), kept, cases[0], strict=True):
        if len(now) < len(before):
            raise Mistake("removes")
        if len(now) > len(before):
            raise Mistake("grows", name=name, before=len(before), now=len(now))
    if kept != [success, fail]:
        raise Mistake("wrong", case=cases[0], given=kept, expected=[success, fail])
    for case in (1, 2):  # one list is empty
        if draws_of(draw, case) != (expected := draws_of(right, case)):
            raise Mistake("wrong", case=cases[case], given=draws_of(draw, case)[:3], expected=expected[:3])


def _uses(draw: Function, memory: tuple[list[Any], list[Any]]) -> bool:
    rng = OneCall(0)
    call(draw, *map(list, memory), rng)
    return rng.n_calls > 0
