"""Graders of ``target_value``, ``sgd_step`` and ``renew_target``."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lecture_loop
import torch
from torch import nn

from graders.common import Function, Mistake, call, call_for_answer, compare, recognise


def _target(reward: Any, terminated: Any, truncated: Any, next_values: Any, gamma: float, *, best: Function,
            ends: Function = lambda terminated, truncated: terminated) -> Any:  # fmt: skip
    return reward + gamma * best(next_values) * ~ends(terminated, truncated)


def _best(next_values: torch.Tensor) -> torch.Tensor:
    return next_values.max(dim=1).values


def _target_with(**wrong: Any) -> Function:
    return lambda *args: _target(*args, **{"best": _best, **wrong})


FIXED_GAMMAS = (0.75, 0.9, 0.99)  # that of the lecture, and others in use

WRONG_TARGETS = {
    "wrong_axis": _target_with(best=lambda values: values.max(dim=0).values),
    "max_of_all": _target_with(best=lambda values: values.max()),
    "mean": _target_with(best=lambda values: values.mean(dim=1)),
    "argmax": _target_with(best=lambda values: values.argmax(dim=1)),
    "through_done": _target_with(ends=lambda terminated, truncated: torch.zeros_like(terminated)),
    "cut_is_done": _target_with(ends=lambda terminated, truncated: terminated | truncated),
    "only_truncated": _target_with(ends=lambda terminated, truncated: truncated),
    "inverted": _target_with(ends=lambda terminated, truncated: ~terminated),
    "by_reward": lambda r, done, cut, values, gamma: r + gamma * _best(values) * (r <= 0),
    "no_reward_at_end": lambda r, done, cut, values, gamma: (r + gamma * _best(values)) * ~done,
    "no_reward": lambda r, done, cut, values, gamma: gamma * _best(values) * ~done,
    "no_gamma": lambda r, done, cut, values, gamma: r + _best(values) * ~done,
    "gamma_on_reward": lambda r, done, cut, values, gamma: gamma * (r + _best(values) * ~done),
    **{
        f"fixed_gamma, {fixed}": lambda r, done, cut, values, gamma, fixed=fixed: r + fixed * _best(values) * ~done
        for fixed in FIXED_GAMMAS
    },
}


def grade_target_value(target_value: Function) -> None:
    """
    Closed form, for a minibatch of as many transitions as actions, one of another size, and one transition.

    Rewards of each size occur at an end and before it. Each case has a gamma of its own.
    """
    rng = torch.Generator().manual_seed(1)
    cases = []
    for n, n_actions, gamma in ((6, 6, 0.75), (4, 6, 0.5), (1, 6, 0.9)):
        rewards = torch.tensor([-1.0, 20.0, 20.0, -10.0, -1.0, -10.0][:n])
        terminated = torch.tensor([False, True, False, True, True, False][:n])
        truncated = torch.tensor([True, False, False, False, False, False][:n])
        values = torch.randn(n, n_actions, generator=rng) * 5 + 2
        cases.append((rewards, terminated, truncated, values, gamma))
    if isinstance(first := call_for_answer(target_value, *_copies(cases[0])), torch.Tensor):
        key = recognise([first], WRONG_TARGETS, _all_close, lambda variant, _: variant(*cases[0]))
        if key == "wrong_axis":  # with another number of transitions this is an error
            raise Mistake(key)
    answers = [call_for_answer(target_value, *_copies(case)) for case in cases]
    for answer in answers:
        if not isinstance(answer, torch.Tensor):
            raise Mistake("not_a_tensor", given=type(answer).__name__)
    sizes = [len(rewards) for rewards, *_ in cases]
    if all(answer.shape in ((n, 1), (n, n)) for answer, n in zip(answers, sizes, strict=True)):
        raise Mistake("column", given=tuple(answers[0].shape), expected=(sizes[0],))
    compare(answers, _target_with(), WRONG_TARGETS, _all_close, cases)


def _copies(case: Sequence[Any]) -> list[Any]:
    return [value.clone() if isinstance(value, torch.Tensor) else value for value in case]


def _all_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-5, atol=1e-5)


def _step(net: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, gamma: float, *,
          calls: str = "zero_grad backward step", detaches: bool = True, learns_target: bool = False, sign: int = 1,
          scale: float = 1.0, reduction: Function = torch.mean, uses_done: bool = True, columns: bool = False,
          fixed_gamma: float | None = None, all_actions: bool = False,
          loss: Function = torch.square) -> None:  # fmt: skip
    """One step of the lecture, on a minibatch; a keyword makes one thing of it wrong."""
    states, actions, rewards, next_states, dones = batch
    bootstrap = net if learns_target else target
    gamma = gamma if fixed_gamma is None else fixed_gamma
    with torch.set_grad_enabled(not detaches):
        y = rewards + gamma * bootstrap(next_states).max(dim=1).values * (~dones if uses_done else 1)
    values = net(states)
    q = values.gather(1, actions[:, None])
    if all_actions:
        difference = values - y[:, None]
    else:
        difference = q - y if columns else q[:, 0] - y
    objective = sign * scale * reduction(loss(difference))
    for name in calls.split():
        getattr(objective if name == "backward" else optimizer, name)()


def _step_with(**wrong: Any) -> Function:
    return lambda *args: _step(*args, **wrong)


def _steps_first(net: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, *args: Any) -> None:
    optimizer.step()
    _step(net, target, optimizer, *args, calls="zero_grad backward")


WRONG_STEPS = {
    "no_step": _step_with(calls="zero_grad backward"),
    "no_backward, before the step": _steps_first,
    "no_zero_grad": _step_with(calls="backward step"),
    "through_target": _step_with(detaches=False),
    "wrong_sign": _step_with(sign=-1),
    "through_done": _step_with(uses_done=False),
    "online_target": _step_with(learns_target=True),
    "columns": _step_with(columns=True),
    "all_actions": _step_with(all_actions=True),
    "sum": _step_with(reduction=torch.sum),
    "half": _step_with(scale=0.5),
    "absolute": _step_with(loss=torch.abs),
    "huber": _step_with(loss=lambda x: nn.functional.smooth_l1_loss(x, torch.zeros_like(x), reduction="none")),
    **{f"fixed_gamma, {fixed}": _step_with(fixed_gamma=fixed) for fixed in FIXED_GAMMAS},
}


@dataclass
class Steps:
    """What three steps did: the weights of the network after each, as a vector, and the target's at the end."""

    weights: list[torch.Tensor]
    target: torch.Tensor
    n_optimizer_steps: int  # to choose a hint only: it does not matter who makes the step


def _steps_of(function: Function, case: int) -> Steps:
    """Take three steps with a small network."""
    n, has_target, gamma = ((1, True, 0.75), (5, True, 0.5), (5, False, 0.9))[case]
    torch.manual_seed(case)
    net = lecture_loop.QNet(12, 4, hidden_dim=4)
    target = lecture_loop.QNet(12, 4, hidden_dim=4) if has_target else net
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(2)  # values of some size, so that a mistake shows
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    calls: list[Any] = []
    optimizer.register_step_pre_hook(lambda *args: calls.append(args))
    history: list[torch.Tensor] = []
    for step in range(3):
        batch = (
            torch.randint(12, (n,)),
            torch.randint(4, (n,)),
            torch.tensor([-1.0, 20.0, -10.0, -1.0, 20.0])[torch.randperm(5)[:n]],
            torch.randint(12, (n,)),
            torch.tensor([False, True, False, True, False])[:n] if n > 1 else torch.tensor([step == 1]),
        )
        n_calls = len(calls)
        try:
            call(function, net, target, optimizer, batch, gamma)
        except Mistake as mistake:
            # What torch says of a backward() after a step that has changed the weights
            if len(calls) > n_calls and "modified by an inplace operation" in mistake.details.get("error", ""):
                raise Mistake("no_backward") from None
            raise
        history.append(_weights(net))
    return Steps(history, _weights(target) if has_target else torch.zeros(0), len(calls))


def _weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in net.parameters()])


def grade_sgd_step(sgd_step: Function) -> None:
    """
    Compare all weights after each of three steps, with one transition at a time and with minibatches.

    Each case has a gamma of its own.
    """
    answers = [_steps_of(sgd_step, case) for case in range(3)]
    rights = [_steps_of(_step, case) for case in range(3)]
    moves = [sum(float((b - a).norm()) for a, b in itertools.pairwise(right.weights)) for right in rights]

    def same(one: Steps, other: Steps) -> bool:
        if not torch.equal(one.target, other.target):
            return False
        return all(float((a - b).norm()) <= 1e-3 * min(moves) for a, b in zip(one.weights, other.weights, strict=True))

    for answer, right in zip(answers, rights, strict=True):
        if not same(answer, right):
            if not torch.equal(answer.target, right.target):
                raise Mistake("changes_target")
            key = (recognise(answers, WRONG_STEPS, same, _steps_of) or "wrong_step").partition(",")[0]
            raise Mistake("no_backward" if key == "no_step" and answer.n_optimizer_steps else key)


def grade_renew_target(renew_target: Function) -> None:
    """Closed form: after which episodes the target has the network's weights, and that both stay apart."""
    episodes = list(range(1, 61))  # beyond episode 20, the lecture's first copy, and 50, its first test
    copied = {every: _copied_after(renew_target, every, episodes) for every in (4, 3)}
    for every, given in copied.items():
        expected = [episode for episode in episodes if episode % every == 0]
        if given == expected:
            continue
        wrong = {
            "rebinds": [],
            "every_episode": episodes,
            "fixed_every": copied[3] if copied[3] == copied[4] else None,
            "negated": [episode for episode in episodes if episode % every],
            "off_by_one": [episode for episode in episodes if (episode + 1) % every == 0],
            "off_by_one, too late": [episode for episode in episodes if (episode - 1) % every == 0],
        }
        key = next((key for key, wrongly_copied in wrong.items() if given == wrongly_copied), "wrong")
        raise Mistake(key.partition(",")[0], case=every, every=every, given=given, expected=expected)


def _copied_after(renew_target: Function, every: int, episodes: Sequence[int]) -> list[int]:
    """Change the network in each episode; return those after which the target has its weights."""
    torch.manual_seed(0)
    net, copied = lecture_loop.QNet(12, 4, hidden_dim=4), []
    target = copy.deepcopy(net)
    for episode in episodes:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        before, old = copy.deepcopy(net.state_dict()), copy.deepcopy(target.state_dict())
        answer = call(renew_target, net, target, episode, every)
        if any(not torch.equal(weight, before[name]) for name, weight in net.state_dict().items()):
            raise Mistake("direction")
        now = target.state_dict()
        new = [name for name in now if not torch.equal(now[name], old[name])]
        wanted = [name for name in now if torch.equal(now[name], before[name])]
        if new and len(wanted) < len(now):
            if not wanted:
                raise Mistake("mixed")
            raise Mistake("partial", names=", ".join(name for name in now if name not in wanted))
        if new:
            copied.append(episode)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.add_(1)
            if any(not torch.equal(now[name], target.state_dict()[name]) for name in now) or any(
                ours is theirs for ours, theirs in zip(net.parameters(), target.parameters(), strict=True)
            ):
                raise Mistake("reference")
            if any(torch.equal(weight, net.state_dict()[name]) for name, weight in target.state_dict().items()):
                raise Mistake("reference")
        elif answer is not None and episode % every == 0:
            raise Mistake("returns_copy", given=type(answer).__name__)
    return copied
