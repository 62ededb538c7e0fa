# The one source of the exercises in both languages. `python examples/make_exercises.py` makes from it:
# exercises.ipynb, exercises_ko.ipynb, exercises.py, exercises_ko.py and solutions.py.
# A cell begins with `# %% en` or `# %% ko` (text), `# %% setup`, `# %% solve NAME` (code with the solution between
# markers) or `# %% check NAME`.

# %% en
# # The lecture's DQN in seven exercises
#
# Each exercise is one part of the lecture's algorithm. You write it; the cell below checks it and, if it is not
# right yet, says what it does instead. Together the seven parts *are* the algorithm: `lecture_loop.py` in the
# folder above puts them in order, and the package computes the same.
#
# Replace `raise NotImplementedError()` by your code. Keep this notebook in its folder, beside `check.py`. You need
# torch, numpy and gymnasium.

# %% ko
# # 연습 문제 일곱 개로 만드는 강의의 DQN
#
# 각 문제는 강의 알고리즘의 한 부분입니다. 코드를 작성하면 바로 아래 셀이 채점하고, 아직 틀렸으면 그 코드가 실제로
# 무엇을 하는지 알려 줍니다. 일곱 부분을 합치면 알고리즘 전체가 됩니다. 상위 폴더의 `lecture_loop.py`가 이들을
# 순서대로 엮은 것이고, 패키지도 같은 계산을 합니다.
#
# `raise NotImplementedError()`를 지우고 코드를 작성하세요. 이 노트북은 `check.py`와 같은 폴더에 두어야 합니다.
# torch, numpy, gymnasium이 필요합니다.

# %% setup
import torch
from check import checker

check = checker("LANGUAGE")

# %% en
# ## 1. Exploration: ε
#
# In episode $i = 1, 2, \dots$ a random action is taken with probability $\varepsilon_i = \max(0.1, 0.99^i)$. Here
# 0.99 is `decay` and 0.1 is `minimum`. `total_steps` is the number of environment steps so far, in all episodes.

# %% ko
# ## 1. 탐험: ε
#
# 에피소드 $i = 1, 2, \dots$에서는 확률 $\varepsilon_i = \max(0.1, 0.99^i)$로 무작위 행동을 합니다. 0.99가 `decay`,
# 0.1이 `minimum`입니다. `total_steps`는 지금까지 모든 에피소드에서 진행한 스텝 수입니다.


# %% solve epsilon
def epsilon(episode, total_steps, decay, minimum):
    """Return the probability of a random action in an episode; the first episode is number 1."""
    ### BEGIN SOLUTION
    return max(minimum, decay**episode)
    ### END SOLUTION


# %% check epsilon
check(epsilon)

# %% en
# ## 2. The replay memory: store
#
# A transition is a tuple $(s, a, s', r, done)$. Those that end the episode (`done`) go to the list `success`, which
# has no bound. All others go to the list `fail`, which holds at most `fail_size`. A transition that is already in
# its list is not stored again. If `fail` is full, the new transition overwrites a random slot: number
# `int(rng.random() * n)` of n.

# %% ko
# ## 2. 리플레이 메모리: 저장
#
# 전이는 튜플 $(s, a, s', r, done)$입니다. 에피소드를 끝낸 전이(`done`)는 크기 제한이 없는 리스트 `success`에
# 넣습니다. 나머지는 최대 `fail_size`개를 담는 리스트 `fail`에 넣습니다. 해당 리스트에 이미 있는 전이는 다시
# 저장하지 않습니다. `fail`이 가득 차 있으면 무작위로 고른 자리에 덮어씁니다. 자리 n개 중에서 `int(rng.random() *
# n)`번을 고릅니다.


# %% solve store
def store(transition, success, fail, fail_size, rng):
    """Store a transition (s, a, s', r, done) in one of the two lists. Change the list in place; return nothing."""
    ### BEGIN SOLUTION
    done = transition[4]
    memory = success if done else fail
    if transition in memory:
        return
    if done or len(fail) < fail_size:
        memory.append(transition)
    else:
        fail[int(rng.random() * fail_size)] = transition
    ### END SOLUTION


# %% check store
check(store)

# %% en
# ## 3. The replay memory: draw
#
# Draw one transition, uniformly over both lists together, with replacement. Position 0 is the first success; the
# failures follow after the last success. Draw the position by `int(rng.random() * n)`.

# %% ko
# ## 3. 리플레이 메모리: 추출
#
# 두 리스트를 합친 전체에서 전이 하나를 균등하게 복원 추출하세요. 0번이 첫 번째 성공 전이이고, 마지막 성공 전이
# 다음에 실패 전이가 이어집니다. 번호는 `int(rng.random() * n)`으로 뽑습니다.


# %% solve draw
def draw(success, fail, rng):
    """Return one transition of the two lists."""
    ### BEGIN SOLUTION
    i = int(rng.random() * (len(success) + len(fail)))
    return success[i] if i < len(success) else fail[i - len(success)]
    ### END SOLUTION


# %% check draw
check(draw)

# %% en
# ## 4. The target value
#
# $y = r$ after the end of an episode, else $y = r + \gamma \max_{a'} Q_{target}(s', a')$. An episode that was cut
# after 1000 steps (`truncated`) has not ended: only `terminated` is an end. Compute $y$ for a minibatch of B
# transitions: `reward`, `terminated` and `truncated` have the shape (B,), and `next_values` has the shape (B,
# n_actions).

# %% ko
# ## 4. 타깃 값
#
# 에피소드가 종료되면 $y = r$, 그렇지 않으면 $y = r + \gamma \max_{a'} Q_{target}(s', a')$입니다. 1000스텝에서
# 중단된(`truncated`) 에피소드는 종료된 것이 아닙니다. `terminated`만 종료입니다. 전이 B개의 미니배치에 대해 $y$를
# 계산하세요. `reward`, `terminated`, `truncated`의 모양은 (B,)이고 `next_values`의 모양은 (B, n_actions)입니다.


# %% solve target_value
def target_value(reward, terminated, truncated, next_values, gamma):
    """Return the targets y, a tensor of shape (B,). reward is float32, terminated and truncated are bool."""
    ### BEGIN SOLUTION
    return reward + gamma * next_values.max(dim=1).values * ~terminated
    ### END SOLUTION


# %% check target_value
check(target_value)

# %% en
# ## 5. One step of SGD
#
# Make one step on the mean over the minibatch of $(Q(s, a) - y)^2$. The values of $s'$ come from the network
# `target`, and no gradient flows through $y$. `batch` is the tuple (states, actions, rewards, next_states, dones),
# each of shape (B,). In the lecture B is 1. (Without a target network, `target` is `net`.)

# %% ko
# ## 5. SGD 한 스텝
#
# 미니배치에 대한 $(Q(s, a) - y)^2$의 평균을 줄이는 방향으로 한 스텝 움직이세요. $s'$의 가치는 `target` 네트워크로
# 계산하고, $y$로는 기울기가 흐르지 않게 합니다. `batch`는 (states, actions, rewards, next_states, dones) 튜플이며
# 각각의 모양은 (B,)입니다. 강의에서는 B가 1입니다. (타깃 네트워크를 쓰지 않으면 `target`이 곧 `net`입니다.)


# %% solve sgd_step
def sgd_step(net, target, optimizer, batch, gamma):
    """Change the weights of net by one step of its optimizer. net(states) has the shape (B, n_actions)."""
    states, actions, rewards, next_states, dones = batch
    ### BEGIN SOLUTION
    with torch.no_grad():
        y = rewards + gamma * target(next_states).max(dim=1).values * ~dones
    q = net(states).gather(1, actions[:, None])[:, 0]
    loss = ((q - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ### END SOLUTION


# %% check sgd_step
check(sgd_step)

# %% en
# ## 6. The target network
#
# After every `every`-th episode (in the lecture every 20th), `target` gets the weights of `net`. In between it
# keeps them, whatever `net` learns. The function is called after each episode, with its number 1, 2, …

# %% ko
# ## 6. 타깃 네트워크
#
# 에피소드 `every`개마다(강의에서는 20개마다) `net`의 가중치를 `target`에 복사합니다. 그 사이에는 `net`이 무엇을
# 학습하든 `target`은 그대로입니다. 이 함수는 에피소드가 끝날 때마다 그 번호 1, 2, …와 함께 호출됩니다.


# %% solve renew_target
def renew_target(net, target, episode, every):
    """Copy the weights of net to target if it is time. Change target in place; return nothing."""
    ### BEGIN SOLUTION
    if episode % every == 0:
        target.load_state_dict(net.state_dict())
    ### END SOLUTION


# %% check renew_target
check(renew_target)

# %% en
# ## 7. The test
#
# Play `n_episodes` greedy episodes of at most `max_steps` steps each. Return the averages per episode of steps,
# penalties (steps with reward -10) and reward, and the share of solved episodes: those that the environment ends
# (`terminated`). The environment is one of gymnasium: `state, _ = env.reset()` and `state, reward, terminated,
# truncated, _ = env.step(action)`. States are integers; `net` takes a tensor of shape (B,).

# %% ko
# ## 7. 테스트
#
# 탐욕 정책으로 에피소드 `n_episodes`개를 최대 `max_steps`스텝씩 진행하세요. 에피소드당 평균 스텝 수, 벌점
# 횟수(보상이 -10인 스텝), 보상과 함께 해결한 에피소드의 비율을 돌려주세요. 환경이 끝낸(`terminated`) 에피소드가
# 해결한 에피소드입니다. 환경의 사용법은 gymnasium과 같습니다. `state, _ = env.reset()`, `state, reward, terminated,
# truncated, _ = env.step(action)`. 상태는 정수이고 `net`에는 모양이 (B,)인 텐서를 넣습니다.


# %% solve test
def test(net, env, n_episodes, max_steps):
    """Return (steps, penalties, reward, solved): four averages over the episodes."""
    ### BEGIN SOLUTION
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
    ### END SOLUTION


# %% check test
check(test)
