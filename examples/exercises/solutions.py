"""The solutions of the exercises."""

import torch


# ## 1. Exploration: ε
#
# In episode $i = 1, 2, \dots$ a random action is taken with probability $\varepsilon_i = \max(0.1, 0.99^i)$. Here
# 0.99 is `decay` and 0.1 is `minimum`. `total_steps` is the number of environment steps so far, in all episodes.
def epsilon(episode, total_steps, decay, minimum):
    """Return the probability of a random action in an episode; the first episode is number 1."""
    return max(minimum, decay**episode)


# ## 2. The replay memory: store
#
# A transition is a tuple $(s, a, s', r, done)$. Those that end the episode (`done`) go to the list `success`, which
# has no bound. All others go to the list `fail`, which holds at most `fail_size`. A transition that is already in
# its list is not stored again. If `fail` is full, the new transition overwrites a random slot: number
# `int(rng.random() * n)` of n.
def store(transition, success, fail, fail_size, rng):
    """Store a transition (s, a, s', r, done) in one of the two lists. Change the list in place; return nothing."""
    done = transition[4]
    memory = success if done else fail
    if transition in memory:
        return
    if done or len(fail) < fail_size:
        memory.append(transition)
    else:
        fail[int(rng.random() * fail_size)] = transition


# ## 3. The replay memory: draw
#
# Draw one transition, uniformly over both lists together, with replacement. Position 0 is the first success; the
# failures follow after the last success. Draw the position by `int(rng.random() * n)`.
def draw(success, fail, rng):
    """Return one transition of the two lists."""
    i = int(rng.random() * (len(success) + len(fail)))
    return success[i] if i < len(success) else fail[i - len(success)]


# ## 4. The target value
#
# $y = r$ after the end of an episode, else $y = r + \gamma \max_{a'} Q_{target}(s', a')$. An episode that was cut
# after 1000 steps (`truncated`) has not ended: only `terminated` is an end. Compute $y$ for a minibatch of B
# transitions: `reward`, `terminated` and `truncated` have the shape (B,), and `next_values` has the shape (B,
# n_actions).
def target_value(reward, terminated, truncated, next_values, gamma):
    """Return the targets y, a tensor of shape (B,). reward is float32, terminated and truncated are bool."""
    return reward + gamma * next_values.max(dim=1).values * ~terminated


# ## 5. One step of SGD
#
# Make one step on the mean over the minibatch of $(Q(s, a) - y)^2$. The values of $s'$ come from the network
# `target`, and no gradient flows through $y$. `batch` is the tuple (states, actions, rewards, next_states, dones),
# each of shape (B,). In the lecture B is 1. (Without a target network, `target` is `net`.)
def sgd_step(net, target, optimizer, batch, gamma):
    """Change the weights of net by one step of its optimizer. net(states) has the shape (B, n_actions)."""
    states, actions, rewards, next_states, dones = batch
    with torch.no_grad():
        y = rewards + gamma * target(next_states).max(dim=1).values * ~dones
    q = net(states).gather(1, actions[:, None])[:, 0]
    loss = ((q - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# ## 6. The target network
#
# After every `every`-th episode (in the lecture every 20th), `target` gets the weights of `net`. In between it
# keeps them, whatever `net` learns. The function is called after each episode, with its number 1, 2, …
def renew_target(net, target, episode, every):
    """Copy the weights of net to target if it is time. Change target in place; return nothing."""
    if episode % every == 0:
        target.load_state_dict(net.state_dict())


# ## 7. The test
#
# Play `n_episodes` greedy episodes of at most `max_steps` steps each. Return the averages per episode of steps,
# penalties (steps with reward -10) and reward, and the share of solved episodes: those that the environment ends
# (`terminated`). The environment is one of gymnasium: `state, _ = env.reset()` and `state, reward, terminated,
# truncated, _ = env.step(action)`. States are integers; `net` takes a tensor of shape (B,).
def test(net, env, n_episodes, max_steps):
    """Return (steps, penalties, reward, solved): four averages over the episodes."""
    steps, penalties, total_reward, solved = 0, 0, 0.0, 0
    for _ in range(n_episodes):
        state, _ = env.reset()
        for _ in range(max_steps):
            with torch.no_grad():
                action = int(net(torch.tensor([state])).argmax(dim=1))
            state, reward, terminated, _, _ = env.step(action)
            steps += 1
            penalties += reward == -10
            total_reward += reward
            if terminated:
                solved += 1
                break
    return steps / n_episodes, penalties / n_episodes, total_reward / n_episodes, solved / n_episodes
