"""Graders of ``target_value``, ``sgd_step`` and ``renew_target``."""

import copy
import itertools
from collections.abc import Sequence
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


WRONG_TARGETS = {
    "wrong_axis": _target_with(best=lambda values: values.max(dim=0).values),
    "max_of_all": _target_with(best=lambda values: values.max()),
    "mean": _target_with(best=lambda values: values.mean(dim=1)),
    "argmax": _target_with(best=lambda values: values.argmax(dim=1)),
    "through_done": _target_with(ends=lambda terminated, truncated: torch.zeros_like(terminated)),
    "cut_is_done": _target_with(ends=lambda terminated, truncated: terminated | truncated),
    "only_truncated": _target_with(ends=lambda terminated, truncated: truncated),
    "inverted": _target_with(ends=lambda terminated, truncated: ~terminated),
    "no_reward_at_end": lambda r, done, cut, values, gamma: (r + gamma * _best(values)) * ~done,
    "no_reward": lambda r, done, cut, values, gamma: gamma * _best(values) * ~done,
    "no_gamma": lambda r, done, cut, values, gamma: r + _best(values) * ~done,
    "gamma_on_reward": lambda r, done, cut, values, gamma: gamma * (r + _best(values) * ~done),
}


def grade_target_value(target_value: Function) -> None:
    """Closed form, for a minibatch of as many transitions as actions, one of another size, and one transition."""
    rng = torch.Generator().manual_seed(1)
    cases = []
    for n, n_actions in ((6, 6), (4, 6), (1, 6)):
        rewards = torch.tensor([-1.0, 20.0, -1.0, -10.0, -1.0, 20.0][:n])
        terminated, truncated = rewards == 20, torch.tensor([False, False, True, False, False, False][:n])
        values = torch.randn(n, n_actions, generator=rng) * 5 + 2
        cases.append((rewards, terminated, truncated, values, 0.75))
    if isinstance(first := call_for_answer(target_value, *_copies(cases[0])), torch.Tensor):
        key = recognise([first], WRONG_TARGETS, _all_close, lambda variant, _: variant(*cases[0]))
        if key == "wrong_axis":  # with another number of transitions this is an error
            raise Mistake(key)
    answers = [call_for_answer(target_value, *_copies(case)) for case in cases]
    for answer, (rewards, *_) in zip(answers, cases, strict=True):
        if not isinstance(answer, torch.Tensor):
            raise Mistake("not_a_tensor", given=type(answer).__name__)
        if answer.shape == (len(rewards), 1) or answer.shape == (len(rewards),) * 2:
            is_right = torch.allclose(answer.amax(dim=1), _target_with()(*cases[0]))
            if answer.shape[1] == 1 and len(rewards) == 6 and is_right:
                raise Mistake("column", given=tuple(answer.shape), expected=tuple(rewards.shape))
    compare(answers, _target_with(), WRONG_TARGETS, _all_close, cases)


def _copies(case: Sequence[Any]) -> list[Any]:
    return [value.clone() if isinstance(value, torch.Tensor) else value for value in case]


def _all_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-5, atol=1e-5)


def _step(net: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, gamma: float, *,
          clears: bool = True, detaches: bool = True, learns_target: bool = False, sign: int = 1, scale: float = 1.0,
          reduction: Function = torch.mean, uses_done: bool = True, columns: bool = False, steps: bool = True,
          all_actions: bool = False, loss: Function = torch.square) -> None:  # fmt: skip
    """One step of the lecture, on a minibatch; a keyword makes one thing of it wrong."""
    states, actions, rewards, next_states, dones = batch
    bootstrap = net if learns_target else target
    with torch.set_grad_enabled(not detaches):
        y = rewards + gamma * bootstrap(next_states).max(dim=1).values * (~dones if uses_done else 1)
    values = net(states)
    q = values.gather(1, actions[:, None])
    if all_actions:
        difference = values - y[:, None]
    else:
        difference = q - y if columns else q[:, 0] - y
    if clears:
        optimizer.zero_grad()
    (sign * scale * reduction(loss(difference))).backward()
    if steps:
        optimizer.step()


def _step_with(**wrong: Any) -> Function:
    return lambda *args: _step(*args, **wrong)


WRONG_STEPS = {
    "no_step": _step_with(steps=False),
    "no_zero_grad": _step_with(clears=False),
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
}


def _steps_of(function: Function, case: int) -> list[torch.Tensor]:
    """Take three steps with a small network; return all weights before the first and after each, as one vector."""
    n, has_target = ((1, True), (5, True), (5, False))[case]
    torch.manual_seed(case)
    net = lecture_loop.QNet(12, 4, hidden_dim=4)
    target = lecture_loop.QNet(12, 4, hidden_dim=4) if has_target else net
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(2)  # values of some size, so that a mistake shows
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    history = [_weights(net)]
    for _ in range(3):
        batch = (
            torch.randint(12, (n,)),
            torch.randint(4, (n,)),
            torch.tensor([-1.0, 20.0, -10.0, -1.0, 20.0])[torch.randperm(5)[:n]],
            torch.randint(12, (n,)),
            torch.tensor([False, True, False, True, False])[:n] if n > 1 else torch.tensor([len(history) == 2]),
        )
        call(function, net, target, optimizer, batch, 0.75)
        history.append(_weights(net))
        if has_target and len(history) == 2:
            history[0] = torch.cat([history[0], _weights(target)])
    return history


def _weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in net.parameters()])


def grade_sgd_step(sgd_step: Function) -> None:
    """Compare all weights after each of three steps, with one transition at a time and with minibatches."""
    answers = [_steps_of(sgd_step, case) for case in range(3)]
    rights = [_steps_of(_step, case) for case in range(3)]
    moves = [sum(float((b - a).norm()) for a, b in itertools.pairwise(right[1:])) for right in rights]

    def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
        if not torch.equal(one[0], other[0]):
            return False
        return all(float((a - b).norm()) <= 1e-3 * min(moves) for a, b in zip(one[1:], other[1:], strict=True))

    for answer, right in zip(answers, rights, strict=True):
        if not same(answer, right):
            if not torch.equal(answer[0], right[0]):
                raise Mistake("changes_target")
            raise Mistake(recognise(answers, WRONG_STEPS, same, _steps_of) or "wrong_step")


def grade_renew_target(renew_target: Function) -> None:
    """Closed form: after which episodes the target has the network's weights, and that both stay apart."""
    torch.manual_seed(0)
    net, every, copied = lecture_loop.QNet(12, 4, hidden_dim=4), 4, []
    target = copy.deepcopy(net)
    for episode in range(1, 13):
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
    if copied == list(range(1, 13)):
        raise Mistake("every_episode", every=every)
    if not copied:
        raise Mistake("rebinds")
    if copied == [episode for episode in range(1, 13) if episode % every]:
        raise Mistake("negated")
    if copied != [4, 8, 12]:
        off_by_one = copied in ([3, 7, 11], [1, 5, 9])
        raise Mistake("off_by_one" if off_by_one else "wrong", case=every, given=copied, expected=[4, 8, 12])
