"""A wrong try for every hint of the exercises, written as a student might write it, and some without one."""

import copy
import random

import torch
from torch.nn import functional as F

#: (exercise, key of the hint, the student's function)
WRONG_TRIES = []


def wrong(exercise, hint):
    def keep(function):
        WRONG_TRIES.append((exercise, hint, function))
        return function

    return keep


# epsilon


@wrong("epsilon", "per_step")
def epsilon_per_step(episode, total_steps, decay, minimum):
    return max(minimum, decay**total_steps)


@wrong("epsilon", "no_floor")
def epsilon_without_floor(episode, total_steps, decay, minimum):
    value = 1.0
    for _ in range(episode):
        value *= decay
    return value


@wrong("epsilon", "min")
def epsilon_min(episode, total_steps, decay, minimum):
    return min(minimum, decay**episode)


@wrong("epsilon", "from_zero")
def epsilon_from_zero(episode, total_steps, decay, minimum):
    value = decay ** (episode - 1)
    return value if value > minimum else minimum


@wrong("epsilon", "times")
def epsilon_times(episode, total_steps, decay, minimum):
    return max(minimum, episode * decay)


@wrong("epsilon", "constant")
def epsilon_constant(episode, total_steps, decay, minimum):
    return max(decay, minimum)


# store


@wrong("store", "no_duplicate_check")
def store_copies(transition, success, fail, fail_size, rng):
    if transition[-1]:
        success.append(transition)
    elif len(fail) == fail_size:
        fail[int(rng.random() * fail_size)] = transition
    else:
        fail.append(transition)


def store_by(part):
    def store(transition, success, fail, fail_size, rng):
        memory = success if transition[4] else fail
        if part(transition) in [part(held) for held in memory]:
            return
        if transition[4] or len(fail) < fail_size:
            memory.append(transition)
        else:
            fail[int(rng.random() * fail_size)] = transition

    return store


WRONG_TRIES += [
    ("store", "same_in_part", store_by(lambda transition: transition[:2])),
    ("store", "same_in_part", store_by(lambda transition: transition[:3])),
    ("store", "same_in_part", store_by(lambda transition: transition[:4:2])),
    ("store", "same_in_part", store_by(lambda transition: (transition[0], transition[2], transition[3]))),
    ("store", "same_in_part", store_by(lambda transition: (transition[0], transition[1], transition[3]))),
    ("store", "same_in_part", store_by(lambda transition: transition[1:])),
    ("store", "same_in_part", store_by(lambda transition: transition[0])),
]


@wrong("store", "oldest")
def store_as_a_queue(transition, success, fail, fail_size, rng):
    memory = success if transition[4] else fail
    if transition not in memory:
        memory.append(transition)
        if len(fail) > fail_size:
            fail.pop(0)


@wrong("store", "oldest")
def store_in_slot_0(transition, success, fail, fail_size, rng):
    memory = success if transition[4] else fail
    if transition in memory:
        return
    if memory is fail and len(fail) >= fail_size:
        fail[0] = transition
    else:
        memory.append(transition)


@wrong("store", "newest")
def store_over_the_newest(transition, success, fail, fail_size, rng):
    memory = success if transition[4] else fail
    if transition in memory:
        return
    if memory is fail and len(fail) >= fail_size:
        fail.pop()
    memory.append(transition)


@wrong("store", "refused")
def store_while_there_is_room(transition, success, fail, fail_size, rng):
    if transition[4] and transition not in success:
        success.append(transition)
    if not transition[4] and transition not in fail and len(fail) < fail_size:
        fail.append(transition)


@wrong("store", "no_bound")
def store_without_bound(transition, success, fail, fail_size, rng):
    memory = success if transition[4] else fail
    if transition not in memory:
        memory.append(transition)


@wrong("store", "bounds_success")
def store_with_two_bounds(transition, success, fail, fail_size, rng):
    memory = success if transition[4] else fail
    if transition in memory:
        return
    if len(memory) < fail_size:
        memory.append(transition)
    else:
        memory[int(rng.random() * len(memory))] = transition


@wrong("store", "bounds_both")
def store_with_one_bound_for_both(transition, success, fail, fail_size, rng):
    memory = success if transition[4] else fail
    if transition in memory:
        return
    if transition[4] or len(success) + len(fail) < fail_size:
        memory.append(transition)
    else:
        fail[int(rng.random() * fail_size)] = transition


@wrong("store", "bounds_both")
def store_with_one_bound_and_the_slots_of_fail(transition, success, fail, fail_size, rng):
    if transition[4]:
        if transition not in success:
            success.append(transition)
    elif transition not in fail:
        if len(success + fail) >= fail_size:
            fail[int(rng.random() * len(fail))] = transition
        else:
            fail.append(transition)


@wrong("store", "by_reward")
def store_by_reward(transition, success, fail, fail_size, rng):
    if transition[3] > 0:
        if transition not in success:
            success.append(transition)
    elif transition not in fail:
        if len(fail) < fail_size:
            fail.append(transition)
        else:
            fail[int(rng.random() * fail_size)] = transition


@wrong("store", "swapped")
def store_swapped(transition, success, fail, fail_size, rng):
    memory = fail if transition[4] else success
    if transition in memory:
        return
    if memory is success or len(fail) < fail_size:
        memory.append(transition)
    else:
        fail[int(rng.random() * fail_size)] = transition


@wrong("store", "stores_nothing")
def store_in_new_lists(transition, success, fail, fail_size, rng):
    if transition[4] and transition not in success:
        success = [*success, transition]
    elif transition not in fail:
        fail = [*fail, transition]


def store_with(slot):
    def store(transition, success, fail, fail_size, rng):
        memory = success if transition[4] else fail
        if transition in memory:
            return
        if transition[4] or len(fail) < fail_size:
            memory.append(transition)
        else:
            fail[slot(fail_size, rng)] = transition

    return store


WRONG_TRIES.append(("store", "not_from_rng", store_with(lambda n, rng: random.randrange(n))))
WRONG_TRIES.append(("store", "other_call", store_with(lambda n, rng: int(rng.integers(n)))))


@wrong("store", "draws_too_often")
def store_drawing_always(transition, success, fail, fail_size, rng):
    slot = int(rng.random() * fail_size) if len(fail) == fail_size else None
    memory = success if transition[4] else fail
    if transition in memory:
        return
    if transition[4] or slot is None:
        memory.append(transition)
    else:
        fail[slot] = transition


@wrong("store", "draws_too_often")
def store_drawing_for_all(transition, success, fail, fail_size, rng):
    slot = int(rng.random() * fail_size)
    memory = success if transition[4] else fail
    if transition not in memory:
        if transition[4] or len(fail) < fail_size:
            memory.append(transition)
        else:
            fail[slot] = transition


# draw


@wrong("draw", "equal_chance")
def draw_a_list_first(success, fail, rng):
    memory = success if success and (not fail or rng.random() < 0.5) else fail
    return memory[int(rng.random() * len(memory))]


@wrong("draw", "only_fail")
def draw_failures(success, fail, rng):
    return fail[int(rng.random() * len(fail))]


@wrong("draw", "only_success")
def draw_successes(success, fail, rng):
    memory = success if success else fail
    return memory[int(rng.random() * len(memory))]


@wrong("draw", "never_last")
def draw_not_the_last(success, fail, rng):
    both = success + fail
    return both[int(rng.random() * (len(both) - 1))]


@wrong("draw", "fail_first")
def draw_with_failures_first(success, fail, rng):
    i = int(rng.random() * (len(success) + len(fail)))
    return fail[i] if i < len(fail) else success[i - len(fail)]


@wrong("draw", "newest_only")
def draw_the_newest(success, fail, rng):
    return fail[-1] if fail else success[-1]


@wrong("draw", "not_from_rng")
def draw_by_another_generator(success, fail, rng):
    return random.choice(success + fail)


@wrong("draw", "other_call")
def draw_by_integers(success, fail, rng):
    return (success + fail)[rng.integers(len(success) + len(fail))]


@wrong("draw", "removes")
def draw_and_remove(success, fail, rng):
    i = int(rng.random() * (len(success) + len(fail)))
    return success.pop(i) if i < len(success) else fail.pop(i - len(success))


@wrong("draw", "grows")
def draw_from_a_sum_in_place(success, fail, rng):
    both = success
    both += fail
    return both[int(rng.random() * len(both))]


@wrong("draw", "grows")
def draw_after_extend(success, fail, rng):
    success.extend(fail)
    return success[int(rng.random() * len(success))]


@wrong("draw", "wrong")
def draw_and_reverse(success, fail, rng):
    drawn = (success + fail)[int(rng.random() * (len(success) + len(fail)))]
    fail.reverse()
    return drawn


# target_value


@wrong("target_value", "wrong_axis")
def target_over_columns(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.max(0)[0] * ~terminated


@wrong("target_value", "max_of_all")
def target_of_the_best_of_all(reward, terminated, truncated, next_values, gamma):
    return torch.where(terminated, reward, reward + gamma * next_values.max())


@wrong("target_value", "mean")
def target_of_the_mean(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.mean(1) * (1 - terminated.float())


@wrong("target_value", "argmax")
def target_of_the_number(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.argmax(1) * ~terminated


@wrong("target_value", "through_done")
def target_through_done(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.amax(1)


@wrong("target_value", "cut_is_done")
def target_with_one_done(reward, terminated, truncated, next_values, gamma):
    done = torch.logical_or(terminated, truncated)
    return torch.where(done, reward, reward + gamma * next_values.amax(1))


@wrong("target_value", "only_truncated")
def target_with_the_wrong_flag(reward, terminated, truncated, next_values, gamma):
    return torch.where(truncated, reward, reward + gamma * next_values.amax(1))


@wrong("target_value", "inverted")
def target_the_wrong_way_round(reward, terminated, truncated, next_values, gamma):
    return reward + terminated * gamma * next_values.amax(1)


@wrong("target_value", "by_reward")
def target_with_a_positive_reward_as_end(reward, terminated, truncated, next_values, gamma):
    return torch.where(reward > 0, reward, reward + gamma * next_values.amax(1))


@wrong("target_value", "by_reward")
def target_with_20_as_end(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.max(dim=1).values * (reward != 20)


@wrong("target_value", "wrong")
def target_with_two_ways_to_end(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.max(dim=1).values * ~(terminated | (reward == 20))


@wrong("target_value", "no_reward_at_end")
def target_zero_at_the_end(reward, terminated, truncated, next_values, gamma):
    y = reward + gamma * next_values.amax(1)
    y[terminated] = 0
    return y


@wrong("target_value", "no_reward")
def target_without_reward(reward, terminated, truncated, next_values, gamma):
    return gamma * next_values.amax(1) * ~terminated


@wrong("target_value", "no_gamma")
def target_without_gamma(reward, terminated, truncated, next_values, gamma):
    return reward + next_values.amax(1) * ~terminated


@wrong("target_value", "gamma_on_reward")
def target_with_all_discounted(reward, terminated, truncated, next_values, gamma):
    return gamma * (reward + next_values.amax(1) * ~terminated)


def target_with_gamma(fixed):
    def target_value(reward, terminated, truncated, next_values, gamma):
        return reward + fixed * next_values.amax(1) * ~terminated

    return target_value


WRONG_TRIES += [
    ("target_value", "fixed_gamma", target_with_gamma(0.75)),
    ("target_value", "fixed_gamma", target_with_gamma(0.99)),
    ("target_value", "wrong", target_with_gamma(0.6)),
]


@wrong("target_value", "column")
def target_as_a_column(reward, terminated, truncated, next_values, gamma):
    return reward.reshape(-1, 1) + gamma * next_values.max(dim=1, keepdim=True).values * ~terminated.reshape(-1, 1)


@wrong("target_value", "column")
def target_of_a_row_and_a_column(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.max(dim=1, keepdim=True).values * ~terminated


@wrong("target_value", "column")
def target_of_a_reward_as_a_column(reward, terminated, truncated, next_values, gamma):
    return torch.where(terminated, reward[:, None], reward[:, None] + gamma * next_values.amax(1))


@wrong("target_value", "column")
def target_as_a_column_without_gamma(reward, terminated, truncated, next_values, gamma):
    return (reward + next_values.amax(1) * ~terminated).unsqueeze(1)


@wrong("target_value", "crash")
def target_of_1_minus_a_flag(reward, terminated, truncated, next_values, gamma):
    return reward + gamma * next_values.amax(1) * (1 - terminated)


@wrong("target_value", "not_a_tensor")
def target_of_the_first(reward, terminated, truncated, next_values, gamma):
    return float(reward[0] + gamma * next_values[0].max() * ~terminated[0])


# sgd_step


def sgd_step_with(y_by=None, loss_by=None, detaches=True):
    """A right step, but for what is given."""

    def sgd_step(net, target, optimizer, batch, gamma):
        states, actions, rewards, next_states, dones = batch
        if y_by is not None:
            y = y_by(net, target, rewards, next_states, dones, gamma)
        else:
            y = rewards + gamma * target(next_states).amax(1) * ~dones
        y = y.detach() if detaches else y
        q = net(states)[range(len(actions)), actions]
        loss = F.mse_loss(q, y) if loss_by is None else loss_by(q, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return sgd_step


WRONG_TRIES += [
    ("sgd_step", "through_target", sgd_step_with(detaches=False)),
    ("sgd_step", "wrong_sign", sgd_step_with(loss_by=lambda q, y: -((y - q) ** 2).mean())),
    ("sgd_step", "through_done", sgd_step_with(lambda net, target, r, s, d, gamma: r + gamma * target(s).amax(1))),
    ("sgd_step", "online_target", sgd_step_with(lambda net, target, r, s, d, gamma: r + gamma * net(s).amax(1) * ~d)),
    ("sgd_step", "columns", sgd_step_with(loss_by=lambda q, y: ((q[:, None] - y) ** 2).mean())),
    (
        "sgd_step",
        "fixed_gamma",
        sgd_step_with(lambda net, target, r, s, d, gamma: r + 0.75 * target(s).amax(1) * ~d),
    ),
    ("sgd_step", "sum", sgd_step_with(loss_by=lambda q, y: ((q - y) ** 2).sum())),
    ("sgd_step", "half", sgd_step_with(loss_by=lambda q, y: 0.5 * F.mse_loss(q, y))),
    ("sgd_step", "absolute", sgd_step_with(loss_by=F.l1_loss)),
    ("sgd_step", "huber", sgd_step_with(loss_by=F.smooth_l1_loss)),
    ("sgd_step", "wrong_step", sgd_step_with(loss_by=lambda q, y: ((q - y) ** 4).mean())),
]


@wrong("sgd_step", "no_step")
def sgd_without_step(net, target, optimizer, batch, gamma):
    states, actions, rewards, next_states, dones = batch
    with torch.no_grad():
        y = rewards + gamma * target(next_states).amax(1) * ~dones
    optimizer.zero_grad()
    F.mse_loss(net(states).gather(1, actions[:, None]).squeeze(1), y).backward()


def sgd_with_calls(*names):
    """The three calls in another order, or without one."""

    def sgd_step(net, target, optimizer, batch, gamma):
        states, actions, rewards, next_states, dones = batch
        with torch.no_grad():
            y = rewards + gamma * target(next_states).amax(1) * ~dones
        loss = F.mse_loss(net(states).gather(1, actions[:, None]).squeeze(1), y)
        calls = {"zero_grad": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
        for name in names:
            calls[name]()

    return sgd_step


WRONG_TRIES += [
    ("sgd_step", "no_backward", sgd_with_calls("zero_grad", "step")),
    ("sgd_step", "no_backward", sgd_with_calls("step")),
    ("sgd_step", "no_backward", sgd_with_calls("zero_grad", "step", "backward")),
    ("sgd_step", "no_backward", sgd_with_calls("step", "zero_grad", "backward")),
    ("sgd_step", "no_backward", sgd_with_calls("step", "backward", "zero_grad")),
    ("sgd_step", "no_backward", sgd_with_calls("backward", "zero_grad", "step")),
    ("sgd_step", "no_step", sgd_with_calls("backward", "zero_grad")),
    ("sgd_step", "no_zero_grad", sgd_with_calls("backward", "step")),
]


@wrong("sgd_step", "no_backward")
def sgd_with_the_last_gradients(net, target, optimizer, batch, gamma):
    optimizer.step()
    optimizer.zero_grad()
    states, actions, rewards, next_states, dones = batch
    with torch.no_grad():
        y = rewards + gamma * target(next_states).amax(1) * ~dones
    F.mse_loss(net(states).gather(1, actions[:, None]).squeeze(1), y).backward()


@wrong("sgd_step", "no_zero_grad")
def sgd_without_zero_grad(net, target, optimizer, batch, gamma):
    states, actions, rewards, next_states, dones = batch
    with torch.no_grad():
        y = rewards + gamma * target(next_states).amax(1) * ~dones
    F.mse_loss(net(states).gather(1, actions[:, None]).squeeze(1), y).backward()
    optimizer.step()


@wrong("sgd_step", "all_actions")
def sgd_on_all_actions(net, target, optimizer, batch, gamma):
    states, _, rewards, next_states, dones = batch
    with torch.no_grad():
        y = rewards + gamma * target(next_states).amax(1) * ~dones
    q = net(states)
    optimizer.zero_grad()
    F.mse_loss(q, y[:, None].expand_as(q)).backward()
    optimizer.step()


@wrong("sgd_step", "changes_target")
def sgd_with_a_copy(net, target, optimizer, batch, gamma):
    sgd_step_with()(net, target, optimizer, batch, gamma)
    target.load_state_dict(net.state_dict())


# renew_target


@wrong("renew_target", "reference")
def renew_by_reference(net, target, episode, every):
    if episode % every == 0:
        target.layers = net.layers


@wrong("renew_target", "reference")
def renew_the_data_by_reference(net, target, episode, every):
    if episode % every == 0:
        for ours, theirs in zip(target.parameters(), net.parameters(), strict=True):
            ours.data = theirs.data


@wrong("renew_target", "rebinds")
def renew_a_name(net, target, episode, every):
    if episode % every == 0:
        target = net  # noqa: F841


@wrong("renew_target", "rebinds")
def renew_a_name_by_a_copy(net, target, episode, every):
    if episode % every == 0:
        target = copy.deepcopy(net)  # noqa: F841


@wrong("renew_target", "returns_copy")
def renew_by_return(net, target, episode, every):
    return copy.deepcopy(net) if episode % every == 0 else target


@wrong("renew_target", "direction")
def renew_the_wrong_way(net, target, episode, every):
    if episode % every == 0:
        net.load_state_dict(target.state_dict())


@wrong("renew_target", "partial")
def renew_matrices_only(net, target, episode, every):
    if episode % every == 0:
        weights = {name: weight for name, weight in net.state_dict().items() if name.endswith("weight")}
        target.load_state_dict(weights, strict=False)


@wrong("renew_target", "mixed")
def renew_softly(net, target, episode, every):
    if episode % every == 0:
        with torch.no_grad():
            for ours, theirs in zip(target.parameters(), net.parameters(), strict=True):
                ours.lerp_(theirs, 0.1)


@wrong("renew_target", "every_episode")
def renew_always(net, target, episode, every):
    target.load_state_dict(net.state_dict())


@wrong("renew_target", "negated")
def renew_when_not_due(net, target, episode, every):
    if episode % every:
        target.load_state_dict(net.state_dict())


def renew_every(fixed):
    def renew_target(net, target, episode, every):
        if episode % fixed == 0:
            target.load_state_dict(net.state_dict())

    return renew_target


WRONG_TRIES += [("renew_target", "fixed_every", renew_every(fixed)) for fixed in (20, 4, 3, 50)]


@wrong("renew_target", "wrong")
def renew_half_as_often(net, target, episode, every):
    if episode % (2 * every) == 0:
        target.load_state_dict(net.state_dict())


@wrong("renew_target", "off_by_one")
def renew_counting_from_0(net, target, episode, every):
    if (episode - 1) % every == 0:
        target.load_state_dict(net.state_dict())


@wrong("renew_target", "off_by_one")
def renew_too_early(net, target, episode, every):
    if (episode + 1) % every == 0:
        target.load_state_dict(net.state_dict())


# test


def greedy(net, state):
    with torch.no_grad():
        return int(net(torch.tensor([state])).argmax())


def player(choose=greedy, is_penalty=lambda r: r == -10, gamma=1.0, extra_steps=0, solved_by=None, resets=True,
           breaks=True, moves=True, n_played=int, summary=None):  # fmt: skip
    """A right test, but for what is given."""

    def play(net, env, n_episodes, max_steps):
        state, _ = env.reset()
        steps, penalties, total, solved = [], 0, 0.0, 0
        for episode in range(n_played(n_episodes)):
            if episode > 0 and resets:
                state, _ = env.reset()
            for step in range(max_steps + extra_steps):
                next_state, reward, terminated, _, _ = env.step(choose(net, state))
                state = next_state if moves else state
                penalties += is_penalty(reward)
                total += gamma**step * reward
                if terminated and breaks:
                    break
            steps.append(step + 1)
            solved += solved_by(steps[-1], max_steps) if solved_by else terminated
        if summary is not None:
            return summary(sum(steps), penalties, total, solved, n_episodes)
        return sum(steps) / n_episodes, penalties / n_episodes, total / n_episodes, solved / n_episodes

    return play


def sometimes_random(net, state):
    return random.randrange(3) if random.random() < 0.5 else greedy(net, state)


def worst(net, state):
    return int(net(torch.tensor([state])).argmin())


WRONG_TRIES += [
    ("test", "explores", player(sometimes_random)),
    ("test", "smallest", player(worst)),
    ("test", "limit_is_solved", player(solved_by=lambda steps, limit: steps <= limit)),
    ("test", "solved_below_limit", player(solved_by=lambda steps, limit: steps < limit)),
    ("test", "no_limit", player(extra_steps=10**6)),
    ("test", "one_step_more", player(extra_steps=1)),
    ("test", "no_reset", player(resets=False)),
    ("test", "no_reset", player(resets=False, breaks=False)),
    ("test", "no_break", player(breaks=False)),
    ("test", "no_break", player(breaks=False, extra_steps=10**6)),
    ("test", "stale_state", player(moves=False)),
    (
        "test",
        "number_of_episodes",
        player(n_played=lambda n: 100, summary=lambda *sums: tuple(figure / 100 for figure in sums[:4])),
    ),
    ("test", "number_of_episodes", player(n_played=lambda n: 100)),
    ("test", "number_of_episodes", player(n_played=lambda n: n - 1)),
    ("test", "number_of_episodes", player(n_played=lambda n: 1)),
    ("test", "number_of_episodes", player(summary=lambda *sums: tuple(figure / 100 for figure in sums[:4]))),
    (
        "test",
        "totals",
        player(summary=lambda steps, penalties, total, solved, n: (steps, penalties, total, solved)),
    ),
    (
        "test",
        "totals",
        player(summary=lambda steps, penalties, total, won, n: (steps / n, penalties / n, total / n, won)),
    ),
    (
        "test",
        "per_step",
        player(summary=lambda steps, penalties, total, won, n: (steps / n, penalties / steps, total / steps, won / n)),
    ),
    ("test", "negative_is_penalty", player(is_penalty=lambda reward: reward < 0)),
    ("test", "penalty_reward", player(is_penalty=lambda reward: reward if reward == -10 else 0)),
    ("test", "discounted", player(gamma=0.75)),
    (
        "test",
        "not_four",
        player(summary=lambda steps, penalties, total, won, n: (steps / n, penalties / n, total / n)),
    ),
]


@wrong("test", "last_only")
def test_the_last_only(net, env, n_episodes, max_steps):
    for _ in range(n_episodes):
        steps, penalties, total, solved = 0, 0, 0, 0
        state, _ = env.reset()
        for _ in range(max_steps):
            state, reward, terminated, _, _ = env.step(greedy(net, state))
            steps, penalties, total, solved = steps + 1, penalties + (reward == -10), total + reward, int(terminated)
            if terminated:
                break
    return steps, penalties, total, solved


@wrong("test", "solved_only")
def test_the_solved_only(net, env, n_episodes, max_steps):
    rows = []
    for _ in range(n_episodes):
        state, _ = env.reset()
        rewards = []
        terminated = False
        while not terminated and len(rewards) < max_steps:
            state, reward, terminated, _, _ = env.step(greedy(net, state))
            rewards.append(reward)
        if terminated:
            rows.append((len(rewards), rewards.count(-10), sum(rewards)))
    return (*(sum(column) / len(rows) for column in zip(*rows, strict=True)), len(rows) / n_episodes)
