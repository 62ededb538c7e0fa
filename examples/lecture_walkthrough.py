# The source of the two notebooks in this folder. `python examples/make_notebooks.py` makes and runs them. Cells of text
# begin with `# %% en` (English) or `# %% ko` (Korean), cells of code, which both notebooks have, with `# %%`. The Korean
# notebook's code is the English one's with the words at the end of this file (`# %% words`) in place of the English ones.

# %% en
# # The lecture's deep Q-network, step by step
#
# This is a lesson on the lecture *Deep Reinforcement Learning: Deep Q-Net (2)*, with Gymnasium's Taxi and
# `sb3_lecture_dqn`. All of it runs in less than two minutes.
#
# **After this lesson you can**
#
# 1. write Q-learning with a table in ten lines, and say what a network changes;
# 2. name the two problems of a naive DQN and *measure* both;
# 3. say what a replay memory and a target network do against them, and what they cost;
# 4. compare settings fairly: same budget, several seeds, exact tests;
# 5. save a network, and read a training in TensorBoard;
# 6. tell when a network is worth its trouble.
#
# Each step has a question. **Write down your prediction before you run the cell.** A wrong prediction is what you
# learn from.
#
# The whole algorithm in one file: [lecture_loop.py](lecture_loop.py). Exercises with automatic hints:
# [exercises](exercises/).
# %% ko
# # 강의의 Deep Q-Network, 한 단계씩 배우기
#
# *심층 강화학습: Deep Q-Net (2)* 강의를 위한 실습 수업입니다. Gymnasium의 Taxi 환경과 `sb3_lecture_dqn`을 사용하며, 전체 실행 시간은 2분이 채 되지 않습니다.
#
# **이 수업을 마치면 다음을 할 수 있습니다.**
#
# 1. Q-테이블을 쓰는 Q-러닝을 열 줄로 작성하고, 신경망을 쓰면 무엇이 달라지는지 설명한다.
# 2. 단순한(naive) DQN의 두 가지 문제를 말하고, 둘 다 직접 *측정*한다.
# 3. 리플레이 메모리와 타깃 네트워크가 그 문제를 어떻게 줄이는지, 그 대가는 무엇인지 설명한다.
# 4. 같은 학습량, 여러 시드, 정확한 테스트로 설정을 공정하게 비교한다.
# 5. 신경망을 저장하고, TensorBoard에서 학습 과정을 읽는다.
# 6. 신경망을 쓸 만한 문제인지 판단한다.
#
# 단계마다 질문이 하나씩 있습니다. **셀을 실행하기 전에 예상을 먼저 적어 보세요.** 예상이 빗나갈 때 가장 많이 배웁니다.
#
# 알고리즘 전체를 담은 파일: [lecture_loop.py](lecture_loop.py). 자동으로 힌트를 주는 연습 문제:
# [exercises](exercises/).

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image
from matplotlib import font_manager
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from sb3_lecture_dqn import (
    DivergedError,
    LectureDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    exact_test,
    make_env,
    optimal_values,
    study,
)
from sb3_lecture_dqn.show.hparams import model_settings
from sb3_lecture_dqn.show.watch import record

torch.set_num_threads(1)  # the networks here are small
folder = Path(tempfile.mkdtemp())  # for what the cells below write
for font in font_manager.findSystemFonts():
    if Path(font).stem in ("malgun", "AppleGothic", "NanumGothic"):  # one with Korean letters, where there is one
        font_manager.fontManager.addfont(font)
        name = font_manager.FontProperties(fname=font).get_name()
        plt.rcParams["font.family"] = [name, "DejaVu Sans"]
palette = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"]  # for colour-blind readers, too (Okabe, Ito)
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=palette)
print("Everything is written to", folder)

# %% en
# ## 1. The task
#
# A taxi drives on a 5 × 5 grid with walls, picks up a passenger at one of four places and brings them to another.
# There are 500 states (25 places of the taxi × 5 of the passenger × 4 destinations) and 6 actions. A step costs 1, an
# illegal pick-up or drop-off costs 10 (the lecture's *penalty*), and a delivery earns 20.
#
# The lecture removes the limit of 200 steps and cuts an episode after **1000** steps. A cut is not an end. The last
# transition is stored with `done = False`, and its target still counts what would have come.
#
# **Question.** How much reward can the best driver earn per episode? And a network with random weights?
# %% ko
# ## 1. 과제
#
# 택시가 벽이 있는 5 × 5 격자 위를 달리며, 네 곳 중 한 곳에서 승객을 태워 다른 곳에 내려 줍니다. 상태는 500개(택시
# 위치 25 × 승객 위치 5 × 목적지 4), 행동은 6개입니다. 한 스텝마다 보상이 −1이고, 잘못된 승차·하차는 −10(강의에서
# 말하는 *벌점*, penalty), 목적지에 내려 주면 +20입니다.
#
# 강의에서는 200스텝 제한을 없애고 **1000**스텝에서 에피소드를 끊습니다. 이렇게 끊는 것(truncation)은
# 종료(termination)가 아닙니다. 그래서 마지막 전이(transition)를 `done = False`로 저장하고, 그 타깃에는 다음 상태의 가치를
# 그대로 반영합니다.
#
# **질문.** 최고의 운전사는 에피소드마다 평균 얼마의 보상을 받을까요? 가중치가 무작위인 신경망은 어떨까요?

# %%
env = make_env("Taxi-v3")  # with the lecture's limit of 1000 steps
state, info = env.reset(seed=0)
row, column, passenger, destination = env.unwrapped.decode(state)
places = ["R", "G", "Y", "B", "the taxi"]
print(f"state {state}: the taxi is at row {row}, column {column};")
print(f"the passenger is at {places[passenger]} and wants to go to {places[destination]}")
plt.imshow(env.render())
plt.axis("off")
plt.show()

# %%
print(f"best mean reward: {optimal_values('Taxi-v3').mean_reward:.2f}")
print(f"random network:   {exact_test(LectureDQN('Taxi-v3', seed=0)).mean_reward:.2f}")

# %% en
# **Answer.** The environment is a table, so the best values can be computed: **7.93** over the 300 possible starts. An
# agent that never delivers gets −1000 or less. Unless a cell says otherwise, everything below is tested *exactly*, on all 300 starts. The lecture
# tests 100 random episodes instead, which is what you must do where there is no table.
#
# ## 2. The Q-table
#
# The action value $Q(s, a)$ is the expected discounted return of action $a$ in state $s$. The optimal one satisfies
# **Bellman's equation**
#
# $$Q^*(s, a) = \mathbb{E}\left[\,r + \gamma \max_{a'} Q^*(s', a')\,\right]$$
#
# and Q-learning moves a table towards it, one transition at a time. Actions are chosen by an **ε-greedy policy**: at
# random with probability ε, else the one with the highest value. In the lecture ε falls with the episode $i$:
# $\max(0.1,\ 0.99^i)$.
#
# **Question.** How many episodes does a table of 3000 numbers need?
# %% ko
# **답.** 이 환경은 표(table)로 주어지므로 최적값을 정확히 계산할 수 있습니다. 가능한 시작 상태 300개의 평균은 **7.93**입니다.
# 승객을 한 번도 내려 주지 못하는 에이전트의 보상은 −1000 이하입니다. 따로 밝히지 않으면, 아래의 결과는 모두 시작 상태 300개 전체에 대해 *정확하게* 계산한 값입니다. 강의에서는 무작위 에피소드 100개로 테스트하며, 표가 없는 환경에서는 그렇게 할 수밖에 없습니다.
#
# ## 2. Q-테이블
#
# 행동 가치 $Q(s, a)$는 상태 $s$에서 행동 $a$를 했을 때 얻는 할인된 누적 보상의 기댓값입니다. 최적 행동 가치는 **벨만
# 방정식**을 만족합니다.
#
# $$Q^*(s, a) = \mathbb{E}\left[\,r + \gamma \max_{a'} Q^*(s', a')\,\right]$$
#
# Q-러닝은 전이를 하나씩 보면서 테이블을 이 식에 가깝게 고쳐 나갑니다. 행동은 **ε-탐욕 정책**으로 고릅니다. 확률 ε으로
# 무작위 행동을 하고, 나머지 경우에는 가치가 가장 높은 행동을 합니다. 강의에서 ε은 에피소드 번호 $i$에 따라
# $\max(0.1,\ 0.99^i)$로 줄어듭니다.
#
# **질문.** 칸이 3000개인 테이블은 에피소드를 몇 번 겪으면 Taxi를 풀 수 있을까요?

# %%
gamma, learning_rate = 0.75, 0.2
table, rng, lengths = np.zeros((500, 6)), np.random.default_rng(0), []
for episode in range(1, 1001):
    epsilon = max(0.1, 0.99**episode)
    state, _ = env.reset(seed=episode)
    terminated = truncated = False
    steps = 0
    while not (terminated or truncated):
        action = rng.integers(6) if rng.random() < epsilon else table[state].argmax()
        next_state, reward, terminated, truncated, _ = env.step(action)
        target = reward if terminated else reward + gamma * table[next_state].max()
        table[state, action] += learning_rate * (target - table[state, action])
        state, steps = next_state, steps + 1
    lengths.append(steps)

plt.figure(figsize=(6, 2.5))
plt.plot(range(1, 1001), lengths, linewidth=1)
plt.yscale("log")
plt.title("Q-table: steps of every training episode")
plt.xlabel("episode")
plt.show()
print(f"{sum(lengths)} steps in 1000 episodes; the last 100 took {np.mean(lengths[-100:]):.1f} each (ε = 0.1)")

# %% en
# **Answer.** A few hundred. On this task the table is very good: it has one cell for each pair of state and action, and
# each cell learns on its own. Keep that in mind for section 9.
#
# ## 3. From the table to a network
#
# A table has a cell for every pair, and learns nothing about one from another. A network has weights that many states
# share. The lecture shows two shapes:
#
# * **state and action in, one value out**: choosing the best of 6 actions takes 6 passes;
# * **state in, all action values out**: one pass. This is the lecture's network: an embedding and three linear layers
#   with PReLU between them, here with hidden width $h = 32$.
#
# **Question.** Why an embedding? What would a network make of the state's *number* as its input?
# %% ko
# **답.** 수백 번이면 됩니다. 이 과제에서 테이블은 아주 잘 동작합니다. 상태와 행동의 쌍마다 칸이 하나씩 있고, 칸마다 따로
# 배우기 때문입니다. 9절에서 다시 생각해 봅시다.
#
# ## 3. 테이블에서 신경망으로
#
# 테이블에는 쌍마다 칸이 하나씩 있어서, 한 칸에서 배운 것이 다른 칸에 아무 도움이 되지 않습니다. 신경망에는 여러 상태가 공유하는 가중치가 있습니다. 강의에는 두 가지 구조가 나옵니다.
#
# * **상태와 행동을 넣으면 값 하나가 나오는 신경망**: 행동 6개 중 가장 좋은 것을 고르려면 순전파를 6번 해야 합니다.
# * **상태를 넣으면 모든 행동의 값이 나오는 신경망**: 순전파 한 번이면 됩니다. 강의에서 쓰는 신경망으로, 임베딩 층
#   하나와 선형 층 세 개, 그 사이의 PReLU로 이루어집니다. 여기서 은닉층의 크기는 $h = 32$입니다.
#
# **질문.** 왜 임베딩을 쓸까요? 상태의 *번호*를 그대로 입력하면 신경망은 그것을 어떻게 받아들일까요?

# %%
action_in, lecture = LectureDQN("ActionInPolicy", "Taxi-v3", seed=0), LectureDQN("Taxi-v3", seed=0)
print(action_in.q_net, "\n")
print(lecture.q_net)

# %% en
# **Answer.** As a number, state 400 would be "twice as much" as state 200, and 399 nearly the same as 400. That is wrong:
# the numbers are only names. An embedding gives every state a row of its own, and the layers after it are shared.
#
# ## 4. Naive DQN, and its two problems
#
# Put the network in the table's place, and let gradient descent (SGD, learning rate 0.001) make the squared error
# smaller, 5 times a step:
#
# $$\left(r + \gamma \max_{a'} Q_\theta(s', a') - Q_\theta(s, a)\right)^2$$
#
# This is *naive*: every update uses the transition just seen, and the target is computed with the network that is
# being changed.
#
# **Question.** The table solved Taxi in a few hundred episodes. What does the naive network reach after 100?
# %% ko
# **답.** 숫자로 보면 상태 400은 상태 200의 "두 배"이고, 399는 400과 거의 같습니다. 하지만 번호는 이름일 뿐이므로 그렇게
# 보면 안 됩니다. 임베딩은 상태마다 고유한 행(벡터)을 하나씩 두고, 그 뒤의 층은 모든 상태가 공유합니다.
#
# ## 4. 단순한(naive) DQN과 두 가지 문제
#
# 테이블 자리에 신경망을 넣고, 한 스텝마다 5번씩 경사 하강법(SGD, 학습률 0.001)으로 다음 제곱 오차를 줄입니다.
#
# $$\left(r + \gamma \max_{a'} Q_\theta(s', a') - Q_\theta(s, a)\right)^2$$
#
# 이것을 *단순한*(naive) DQN이라고 합니다. 업데이트마다 방금 본 전이만 쓰고, 지금 학습하고 있는 바로 그 신경망으로 타깃을 계산합니다.
#
# **질문.** 테이블은 에피소드 수백 개 만에 Taxi를 풀었습니다. 단순한 신경망은 에피소드 100개를 학습하면 시작 상태를 얼마나 해결할까요?

# %%
naive = LectureDQN("Taxi-v3", store_and_replay=False, double_dqn=False, seed=0)
naive.learn(total_episodes=100)
print(f"after {naive.num_timesteps} steps: {exact_test(naive).success_rate:.1%} of the starts solved")

# %% en
# **Answer.** Nearly nothing at this budget. (After 5000 episodes it solves most starts, but it needs many more steps.)
# There are two reasons.
#
# ### Problem 1: consecutive samples are correlated
#
# A taxi moves by one cell, so one transition looks like the next. An update on it changes the shared weights, and so
# the values of all other states, with nothing to hold those in place.
#
# **The remedy: experience replay.** The lecture's memory has two lists. `success` keeps every transition that ended in
# a delivery, `fail` keeps at most 1000 of the others: when it is full, a new one takes the place of a random old one. A
# transition that is already there is not stored again. An update draws from both lists together, with equal chances for
# every transition.
#
# **Question.** We let the agent drive for 3000 steps, and draw 3000 samples from a memory. How often was a state among
# the 10 samples before it, in each of the two?
# %% ko
# **답.** 이 학습량으로는 거의 풀지 못합니다. (에피소드 5000개를 학습하면 대부분 풀지만, 훨씬 많은 스텝이 듭니다.) 이유는 두 가지입니다.
#
# ### 문제 1: 연속된 샘플은 서로 상관관계가 있습니다
#
# 택시는 한 번에 한 칸씩 움직이므로 이어지는 전이는 서로 비슷합니다. 그런 전이로 업데이트하면 공유하는 가중치가 바뀌고,
# 다른 모든 상태의 가치까지 따라 움직이는데, 이를 막아 줄 장치가 없습니다.
#
# **해결책: 경험 리플레이(experience replay).** 강의의 리플레이 메모리에는 목록이 두 개 있습니다. `success`에는 승객을
# 내려 주고 끝난 전이를 모두 보관하고, `fail`에는 나머지를 최대 1000개까지 보관합니다. `fail`이 가득 차면 무작위로 고른 옛 전이의 자리에 새 전이를 덮어쓰고, 이미 들어 있는 전이는 다시 저장하지 않습니다. 업데이트할 때는 두 목록을 합쳐 모든
# 전이를 같은 확률로 뽑습니다.
#
# **질문.** 에이전트가 3000스텝을 달리게 하고, 메모리에서 샘플 3000개를 뽑습니다. 어떤 상태가 바로 앞 10개의 샘플 안에
# 이미 있었던 비율은 각각 얼마일까요?

# %%
with_replay = LectureDQN("Taxi-v3", double_dqn=False, seed=0).learn(total_episodes=100)
memory = with_replay.replay_buffer
print(f"in the memory: {memory.success_size} successes, from the states {memory.success_states or '–'}")
print(f"               {memory.fail_size} other transitions")

consecutive, (state, _) = [], env.reset(seed=0)
for _ in range(3000):
    consecutive.append(state)
    action, _ = with_replay.predict(state)  # ε-greedy
    state, _, terminated, truncated, _ = env.step(int(action))
    if terminated or truncated:
        state, _ = env.reset()
samples = {
    "consecutive samples": np.array(consecutive),
    "from the replay memory": memory.sample(3000).observations.numpy().ravel(),
}


def autocorrelation(x, lag):
    x = x - x.mean()
    return (x[: len(x) - lag] * x[lag:]).mean() / x.var()


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, states in samples.items():
    rows = states // 100  # of the taxi
    left.plot([autocorrelation(rows, lag) for lag in range(31)], label=name)
    repeated = np.mean([states[i] in states[i - 10 : i] for i in range(10, 3000)])
    right.bar(name, repeated)
    print(f"{name}: autocorrelation at lag 1 is {autocorrelation(rows, 1):.2f}, repeated states: {repeated:.0%}")
left.set(title="autocorrelation of the taxi's row", xlabel="samples between")
left.legend()
right.set(title="state is among the 10 samples before", ylim=(0, 1))
plt.show()

# %% en
# **Answer.** Nearly always against nearly never. Samples from the memory are as good as independent.
#
# ### Problem 2: the target moves
#
# Every update changes the network, and with it the targets of all other transitions.
#
# **The remedy: a target network**, a copy of the network that computes the targets and is renewed after every 20th
# episode. In between, the targets stand still. In the lecture's code the switch is called `double_dqn`. It is *not*
# van Hasselt's Double DQN (here: `double_q=True`), in which one network chooses the next action and the other
# evaluates it.
#
# **Question.** We look at $\max_a Q_{\text{target}}(s, a)$ of all 500 states at every 100th step of training. In how
# many of these intervals do the targets move, without and with a target network?
# %% ko
# **답.** 연속된 샘플에서는 거의 항상 있었고, 메모리에서 뽑은 샘플에서는 거의 없었습니다. 메모리에서 뽑은 샘플은 서로 독립이라고 보아도 좋습니다.
#
# ### 문제 2: 타깃이 움직입니다
#
# 업데이트할 때마다 신경망이 바뀌고, 그와 함께 다른 모든 전이의 타깃도 바뀝니다.
#
# **해결책: 타깃 네트워크.** 타깃을 계산하는 신경망을 따로 복사해 두고, 에피소드가 20개 끝날 때마다 새로 복사합니다. 그 사이에는 타깃이 움직이지 않습니다. 강의 코드에서 이 스위치의 이름은 `double_dqn`입니다. 하지만 van Hasselt의 Double
# DQN(여기서는 `double_q=True`)과는 *다릅니다*. Double DQN에서는 한 신경망이 다음 행동을 고르고, 다른 신경망이 그
# 행동의 가치를 평가합니다.
#
# **질문.** 학습하는 동안 100스텝마다 상태 500개 전체의 $\max_a Q_{\text{target}}(s, a)$를 살펴봅니다. 타깃 네트워크가
# 없을 때와 있을 때, 타깃이 움직인 구간은 각각 얼마나 될까요?


# %%
class TargetValues(BaseCallback):
    """Remembers the target network's highest action value in every state, at every 100th step."""

    def __init__(self):
        super().__init__()
        self.steps, self.values = [], []

    def _on_step(self):
        if self.num_timesteps % 100 == 0:
            with torch.no_grad():
                q_values = self.model.q_net_target(torch.arange(500))
            self.steps.append(self.num_timesteps)
            self.values.append(q_values.max(dim=1).values.numpy())
        return True


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, double_dqn in {"without a target network": False, "with a target network": True}.items():
    callback = TargetValues()
    LectureDQN("Taxi-v3", double_dqn=double_dqn, seed=0).learn(total_episodes=45, callback=callback)
    values = np.array(callback.values)
    moved = np.abs(np.diff(values, axis=0)).mean(axis=1)
    thousands = np.array(callback.steps) / 1000
    left.plot(thousands, values.mean(axis=1), label=name)
    right.plot(thousands[1:], moved, ".", markersize=4)
    print(f"{name}: the targets moved in {np.mean(moved > 0):.1%} of the intervals of 100 steps")
left.set(title="mean target value", xlabel="thousand steps")
left.legend()
right.set(title="change in 100 steps (no dot: none)", xlabel="thousand steps", yscale="log")
right.yaxis.set_major_formatter("{x:g}")
plt.show()

# %% en
# **Answer.** Always without it; with it, only where a copy was made.
#
# ### Do the remedies help?
#
# Smooth targets and independent samples are means. What counts is the agent. So we train every rung of the ladder with
# the **same budget** of 300,000 environment steps, on **three seeds** each, and test it **exactly** on the way. (The
# table's cells need a larger learning rate than shared weights do; everything else is the lecture's.)
#
# **Question.** Order the five curves before you run the cell. Which one wins?
# %% ko
# **답.** 없으면 항상 움직이고, 있으면 복사한 구간에서만 움직입니다.
#
# ### 해결책이 정말 도움이 될까요?
#
# 멈춰 있는 타깃과 독립적인 샘플은 수단일 뿐이고, 중요한 것은 에이전트의 성적입니다. 그래서 모든 단계를 **같은 학습량**인
# 300,000스텝 동안, 각각 **시드 3개**로 학습시키면서 중간중간 **정확하게** 테스트합니다. (테이블은 칸마다 따로 배우므로 더 큰 학습률이 필요합니다. 나머지는 모두 강의의 설정입니다.)
#
# **질문.** 셀을 실행하기 전에 곡선 다섯 개의 순위를 예상해 보세요. 어느 설정이 가장 좋을까요?

# %%
alone = {"store_and_replay": False, "double_dqn": False}
ladder = {
    "table": {"policy": "TablePolicy", "learning_rate": 0.1, **alone},
    "naive DQN": alone,
    "replay memory": {"double_dqn": False},
    "replay and target (lecture)": {},
    "the same, with Double Q-learning": {"double_q": True},
}
plan = study.Plan(["Taxi-v3"], ladder, seeds=3, timesteps=300_000, test_freq=10_000)
study.run_plan(plan, folder / "ladder", progress=False)  # on all cores

plt.figure(figsize=(9, 3.5), layout="constrained")
dashes = ["-", "--", "-.", ":", (0, (5, 1, 1, 1))]
for number, name in enumerate(ladder):
    runs = [row for row in study.read_rows(folder / "ladder") if row["setting"] == name and row["state"] == "done"]
    curves = np.array([row["curve"]["success_rate"] for row in runs])
    steps = np.array(runs[0]["curve"]["timesteps"]) / 1000
    plt.plot(steps, curves.T, color=f"C{number}", linewidth=0.5, alpha=0.6)
    plt.plot(steps, curves.mean(axis=0), color=f"C{number}", linestyle=dashes[number], linewidth=2, label=name)
    print(f"{name:34} {np.mean(curves[:, -1]):6.1%} of the starts solved ({len(runs)} of 3 runs did not diverge)")
plt.title("share of solved starts (thin: each seed)")
plt.xlabel("thousand environment steps")
plt.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% en
# **Answer.**
#
# * **The replay memory helps at once.** At this budget it is the difference between nearly
#   nothing and nearly everything.
# * **The target network does *not* help at this budget: it slows the learning down.** A value travels back by one state
#   for each copy, and 20 episodes of up to 1000 steps lie between two copies. What it buys is safety: without it,
#   some trainings diverge ([study](guide/studies.md)). The lecture trains for 5000 episodes, where it has caught up.
# * **Double Q-learning changes little.** It is against values that are too high because the maximum picks out noise.
#   Taxi has no random rewards, so there is little noise to pick out.
# * **The table wins.** 500 states are few.
#
# Three seeds are few, too: look at the thin lines before you trust a mean.
# `sb3-lecture-dqn ablate` compares the lecture's two switches with 20 seeds and intervals.
#
# ## 5. When it diverges
#
# The `Config` on the lecture's slide says `lr=0.01`. Its training never reads that: the optimiser has `lr=0.001`, which
# is the default here.
#
# **Question.** What happens with 0.01?
# %% ko
# **답.**
#
# * **리플레이 메모리는 바로 효과가 있습니다.** 이 학습량에서, 거의 못 풀던 문제를 거의 다 풀게 됩니다.
# * **타깃 네트워크는 이 학습량에서는 도움이 *되지 않고*, 오히려 학습을 늦춥니다.** 가치는 복사할 때마다 한 상태씩만 뒤로
#   전달되는데, 복사와 복사 사이에는 최대 1000스텝짜리 에피소드가 20개나 있습니다. 그 대신 안정성을 얻습니다. 타깃 네트워크가 없으면 학습이 발산하기도 합니다([연구](guide/studies.md)). 강의처럼 에피소드 5000개를 학습하면 차이가 거의 사라집니다.
# * **Double Q-러닝은 차이가 거의 없습니다.** Double Q-러닝은 최댓값이 잡음을 골라 가치를 과대평가하는 문제를 줄이는
#   방법인데, Taxi의 보상은 무작위가 아니어서 골라낼 잡음이 별로 없습니다.
# * **테이블이 이깁니다.** 상태가 500개뿐이기 때문입니다.
#
# 시드 3개도 충분하지 않습니다. 평균을 믿기 전에 가는 선들을 먼저 보세요. `sb3-lecture-dqn ablate`는 강의의 두 스위치를 시드 20개로 비교하고 신뢰 구간까지 보여 줍니다.
#
# ## 5. 발산할 때
#
# 강의 슬라이드의 `Config`에는 `lr=0.01`이라고 쓰여 있지만 학습 코드는 그 값을 읽지 않습니다. 실제 옵티마이저는
# `lr=0.001`을 쓰며, 여기서도 그 값이 기본값입니다.
#
# **질문.** 0.01로 학습하면 어떻게 될까요?

# %%
try:
    LectureDQN("Taxi-v3", learning_rate=0.01, seed=0).learn(total_episodes=5)
except DivergedError as error:
    print(error)

# %% en
# **Answer.** The step is too large. An update moves the value beyond its target, the next error is larger than the last,
# and so is its gradient. After about 20 steps the numbers are beyond float32. The target network did not help: it stood
# still all the time. A smaller step, a bounded error (Huber) or a bounded gradient (clipping) helps. Without a target
# network there is a second circle: larger values make larger targets, and those make larger values. That one a target
# network slows down.
#
# ## 6. Compared with the DQN of 2015
#
# | | Mnih et al., *Nature* 2015 | the lecture |
# |---|---|---|
# | observation | preprocessed images, 4 of them | the number of the state, embedded |
# | replay memory | the latest 1,000,000 transitions | successes, and 1000 others |
# | update | 32 transitions, every 4 steps | 1 transition, 5 times a step |
# | target network | copied every 10,000 updates | copied every 20 episodes |
# | ε | from 1 to 0.1 over 1,000,000 frames | $\max(0.1,\ 0.99^i)$ in episode $i$ |
# | loss | squared error, with the error clipped to [−1, 1] | squared error |
# | optimiser | RMSProp, learning rate 0.00025 | SGD, learning rate 0.001 |
# | γ | 0.99 | 0.75 |
#
# **Question.** With γ = 0.75, what is a delivery worth that is 13 steps away?
# %% ko
# **답.** 학습률이 너무 커서, 업데이트가 가치를 타깃 너머로 보내고 다음 오차는 더 커집니다. 오차가 커지면 기울기도
# 커집니다. 약 20스텝 만에 숫자가 float32의 범위를 벗어납니다. 그동안 타깃 네트워크는 멈춰 있었으므로 도움이 되지
# 않았습니다. 학습률을 줄이거나, 오차를 제한하거나(Huber), 기울기를 제한하면(클리핑) 막을 수 있습니다. 타깃 네트워크가
# 없으면 악순환이 하나 더 생깁니다. 커진 가치가 타깃을 키우고, 커진 타깃이 다시 가치를 키웁니다. 타깃 네트워크는 이
# 악순환을 늦춥니다.
#
# ## 6. 2015년의 DQN과 비교
#
# | | Mnih et al., *Nature* 2015 | 강의 |
# |---|---|---|
# | 관측 | 전처리한 이미지 4장 | 상태 번호를 임베딩한 것 |
# | 리플레이 메모리 | 최근 전이 1,000,000개 | 성공한 전이와 그 밖의 전이 1000개 |
# | 업데이트 | 4스텝마다 전이 32개로 | 한 스텝마다 전이 1개로 5번 |
# | 타깃 네트워크 | 업데이트 10,000번마다 복사 | 에피소드 20개마다 복사 |
# | ε | 1,000,000 프레임에 걸쳐 1에서 0.1로 | 에피소드 $i$에서 $\max(0.1,\ 0.99^i)$ |
# | 손실 | 제곱 오차([−1, 1]로 클리핑) | 제곱 오차 |
# | 옵티마이저 | RMSProp, 학습률 0.00025 | SGD, 학습률 0.001 |
# | γ | 0.99 | 0.75 |
#
# **질문.** γ = 0.75일 때, 13스텝 뒤에 받을 +20의 현재 가치는 얼마일까요?

# %%
for discount in (0.75, 0.9, 0.99):
    print(f"γ = {discount}: 20 points in 13 steps are worth {20 * discount**13:.2f} points now")

# %% en
# **Answer.** Half a point of 20. Then only small differences between action values show the way, and a
# network must learn them exactly. This is one of the settings that section 9 changes.
#
# ## 7. Saving and loading with PyTorch
#
# What a network and an optimiser have learnt is in their `state_dict`, a dictionary of tensors.
#
# **Question.** Which of the tensors below is the largest, and why?
# %% ko
# **답.** 20점 가운데 약 0.5점입니다. 그러면 어느 길로 갈지가 행동 가치의 아주 작은 차이로만 정해지고, 신경망은 그 차이를 정확하게 배워야
# 합니다. 9절에서 바꾸는 설정 가운데 하나가 바로 이것입니다.
#
# ## 7. PyTorch로 저장하고 불러오기
#
# 신경망의 가중치와 옵티마이저의 상태는 텐서를 모은 딕셔너리인 `state_dict`에 들어 있습니다.
#
# **질문.** 아래 텐서 가운데 가장 큰 것은 무엇이고, 왜 그럴까요?

# %%
for name, tensor in with_replay.q_net.state_dict().items():
    print(f"{name:16} {tuple(tensor.shape)}")
print("learning rate of the optimizer:", with_replay.policy.optimizer.state_dict()["param_groups"][0]["lr"])

torch.save(with_replay.q_net.state_dict(), folder / "taxi.pt")
restored = LectureDQN("Taxi-v3")
restored.q_net.load_state_dict(torch.load(folder / "taxi.pt"))
restored.q_net.eval()
print("the same policy:", exact_test(restored) == exact_test(with_replay))

# %% en
# **Answer.** The embedding: one row for each of the 500 states.
#
# ## 8. TensorBoard
#
# A `SummaryWriter` writes numbers for TensorBoard, and `add_scalar` is all it takes: a name, a value, a step.
# %% ko
# **답.** 임베딩입니다. 상태 500개마다 행이 하나씩 있습니다.
#
# ## 8. TensorBoard
#
# `SummaryWriter`는 TensorBoard가 읽을 숫자를 기록합니다. `add_scalar`에 이름, 값, 스텝만 넘기면 됩니다.

# %%
with SummaryWriter(folder / "runs" / "epsilon") as writer:
    for episode in range(1, 401):
        writer.add_scalar("epsilon", max(0.1, 0.99**episode), episode)

# %% en
# The callbacks of this package do that for a training. `LectureTestCallback` makes the lecture's test (100 greedy
# episodes, after the first and every 50th) and writes *Steps*, *Penalty* and *Reward*. `LectureTensorBoardCallback` fills
# the other tabs: the network's graph, histograms, the embedding projector, images. In a callback of your own, write
# `self.logger.record("name", value)`.
# %% ko
# 학습할 때는 이 패키지의 콜백이 대신 기록합니다. `LectureTestCallback`은 강의의 테스트(탐욕 정책으로 에피소드 100개. 에피소드 1번, 그리고 50번, 100번, …이 끝난 뒤)를 하고 *Steps*, *Penalty*, *Reward*를 기록합니다. `LectureTensorBoardCallback`은 나머지
# 탭(신경망의 그래프, 히스토그램, 임베딩 프로젝터, 이미지)을 채웁니다. 직접 만든 콜백에서는
# `self.logger.record("이름", 값)`을 쓰면 됩니다.

# %%
model = LectureDQN("Taxi-v3", seed=0, tensorboard_log=folder / "runs")
model.learn(total_episodes=400, callback=[LectureTestCallback(verbose=0), LectureTensorBoardCallback()])
events = EventAccumulator(model.logger.dir, size_guidance={"images": 0}).Reload()
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for panel, name in zip(axes, ["Steps", "Penalty", "Reward"], strict=True):
    points = events.Scalars(name)
    panel.plot([point.step for point in points], [point.value for point in points], marker=".")
    panel.set(title=name, xlabel="episode")
axes[1].set_ylim(-1, 10)  # the line is flat
plt.show()
print("To see all of it, in a terminal:")
print(f"tensorboard --logdir {folder / 'runs'}")

# %% en
# In a notebook, `%load_ext tensorboard` and `%tensorboard --logdir {folder / 'runs'}` show it below the cell. One of the
# images is this: the value of every state as a colour, and the greedy action as an arrow (P: pick up, D: drop off). A
# grid is one case: where the passenger is → where they want to go.
# %% ko
# 노트북에서는 `%load_ext tensorboard`와 `%tensorboard --logdir {folder / 'runs'}`를 실행하면 셀 아래에 나타납니다. 다음은 그
# 이미지 가운데 하나입니다. 각 상태의 가치를 색으로, 탐욕 행동을 화살표로 나타냅니다(P: 승차, D: 하차). 격자 하나는 *승객이
# 있는 곳 → 목적지* 한 가지 경우를 나타냅니다.

# %%
Image(events.Images("values/learned")[-1].encoded_image_string, width=620)

# %% en
# ## 9. What it reaches, and what is possible
#
# After 5000 episodes the lecture prints 23.18 steps, 0.0 penalties and −2.39 reward: 99 of 100 episodes solved.
# `sb3-lecture-dqn train` runs that in seconds. The recommended settings reach the optimum with far fewer steps.
#
# **Question.** What would you change in the lecture's settings, after all of the above?
# %% ko
# ## 9. 강의의 결과와 최적 성능
#
# 강의에서는 에피소드 5000개 뒤에 23.18스텝, 벌점 0.0, 보상 −2.39가 출력됩니다. 에피소드 100개 중 99개를 해결한 것입니다.
# `sb3-lecture-dqn train`으로 몇 초 만에 실행할 수 있습니다. 추천 설정을 쓰면 훨씬 적은 스텝으로 최적 성능에 도달합니다.
#
# **질문.** 지금까지 본 것을 바탕으로, 강의의 설정에서 무엇을 바꾸고 싶은가요?

# %%
best = LectureDQN.tuned("Taxi-v3", use_masking=True, seed=0).learn()
result = exact_test(best)
print(f"{best.num_timesteps} steps: {result.success_rate:.1%} of the starts solved, reward {result.mean_reward:.2f}\n")
before, after = model_settings(LectureDQN("Taxi-v3", seed=0)), model_settings(best)
print(f"{'setting':24} {'lecture':16} recommended")
for name in after:
    if before.get(name) != after[name]:
        print(f"{name:24} {before.get(name)!s:16} {after[name]}")

# %%
record(best, env, folder / "taxi.gif", n_episodes=1, fps=2, seed=3)
Image(folder / "taxi.gif", width=620)

# %% en
# **Answer.** All of the lines above differ. The ones that matter most: minibatches of 64 instead of single transitions, Adam
# instead of SGD, γ = 0.9, exploration that seeks out actions never tried (`explore_least_tried`), and **masks**, which
# tell the agent what is legal. A mask is knowledge that the lecture's agent does not have, so this is not "the same
# algorithm, only better": without masks it takes more than twice as many steps.
#
# ### Why a network at all?
#
# On Taxi the table was best. Make the world larger: 20 × 20 cells and two passengers are 160,000 states, three
# passengers 3.2 million, and there are more pictures of 84 × 84 pixels than atoms in the universe. A table must visit every
# state. A network with one embedding for each *part* of the state has a few hundred rows, and what it learns about a
# cell holds for every trip of the other passenger.
#
# ![Share of solved starts in the large world](guide/large_world.png)
#
# After 120,000 steps the table solves no start even with masks, and the network with masks two thirds; without masks,
# the networks solve none either
# ([how this was measured](guide/large_world.md); `python examples/large_world.py` repeats it).
# %% ko
# **답.** 위에 나온 설정이 모두 다릅니다. 가장 중요한 것은 전이 하나 대신 64개짜리 미니배치, SGD 대신 Adam, γ = 0.9, 한 번도
# 해 보지 않은 행동을 찾아가는 탐험(`explore_least_tried`), 그리고 할 수 있는 행동을 알려 주는 **마스크**입니다. 마스크는 강의의
# 에이전트에게 없는 지식이므로, "같은 알고리즘인데 성적만 좋다"라고 할 수는 없습니다. 마스크가 없으면 두 배가 넘는
# 스텝이 필요합니다.
#
# ### 그렇다면 왜 신경망을 쓸까요?
#
# Taxi에서는 테이블이 가장 좋았습니다. 이제 세계를 키워 봅시다. 20 × 20칸에 승객이 두 명이면 상태는 160,000개, 세 명이면
# 320만 개이고, 84 × 84 픽셀 이미지의 상태 수는 우주의 원자 수보다 많습니다. 테이블은 모든 상태를 직접 방문해야 합니다. 상태의
# *요소*마다 임베딩을 하나씩 두는 신경망은 행이 수백 개면 되고, 한 칸에 대해 배운 것은 다른 승객이 어디로 가든 그대로 쓸
# 수 있습니다.
#
# ![큰 세계에서 해결한 시작 상태의 비율](guide/large_world.png)
#
# 120,000스텝 뒤에 테이블은 마스크를 써도 시작 상태를 하나도 해결하지 못하지만, 마스크를 쓰는 신경망은 3분의 2를 해결합니다. 마스크가 없으면 신경망도 해결하지 못합니다
# ([측정 방법](guide/large_world.md); `python examples/large_world.py`로 다시 해 볼 수 있습니다).

# %% en
# ## Summary
#
# | problem | remedy | what it costs |
# |---|---|---|
# | consecutive samples are correlated | replay memory | memory; old transitions |
# | the target moves | target network | values travel back more slowly |
# | the values diverge | target network, smaller learning rate, Huber loss, clipping | slower learning |
# | a table is too large | a network with shared weights | data, tuning, surprises |
#
# ## Where to go next
#
# ```bash
# sb3-lecture-dqn train --page          # the lecture's run, and a page that shows what the agent believes
# sb3-lecture-dqn train --no-double-dqn # without a separate target network
# sb3-lecture-dqn plot runs             # learning curves of all runs
# sb3-lecture-dqn diagnose runs/NAME    # why an agent fails, in words
# ```
#
# The [exercises](exercises/) let you write ε, the memory, the target and the update yourself, and give hints.
# %% ko
# ## 정리
#
# | 문제 | 해결책 | 대가 |
# |---|---|---|
# | 연속된 샘플은 서로 상관관계가 있다 | 리플레이 메모리 | 저장 공간, 오래된 전이 |
# | 타깃이 움직인다 | 타깃 네트워크 | 가치가 더 느리게 뒤로 전달된다 |
# | 가치가 발산한다 | 타깃 네트워크, 작은 학습률, Huber 손실, 클리핑 | 느린 학습 |
# | 테이블이 너무 크다 | 가중치를 함께 쓰는 신경망 | 데이터, 하이퍼파라미터 조정, 예상 밖의 결과 |
#
# ## 더 해 보기
#
# ```bash
# sb3-lecture-dqn train --page          # 강의의 학습, 그리고 에이전트의 생각을 보여 주는 페이지
# sb3-lecture-dqn train --no-double-dqn # 타깃 네트워크 없이
# sb3-lecture-dqn plot runs             # 모든 학습 곡선 그리기
# sb3-lecture-dqn diagnose runs/NAME    # 에이전트가 실패하는 이유를 글로 설명하기
# ```
#
# [연습 문제](exercises/)에서는 ε, 메모리, 타깃, 업데이트를 직접 작성하고 힌트를 받을 수 있습니다.

# %% words
# Everything is written to => 결과를 저장하는 폴더:
# the taxi is at row {row}, column {column}; => 택시는 {row}행 {column}열에 있고,
# state {state}: => 상태 {state}:
# the passenger is at {places[passenger]} and wants to go to {places[destination]} => 승객의 위치는 {places[passenger]}, 목적지는 {places[destination]}입니다
# "the taxi" => "택시"
# best mean reward: => 최적 평균 보상:
# random network:   => 무작위 신경망:
# Q-table: steps of every training episode => Q-테이블: 학습 에피소드별 스텝 수
# xlabel="episode" => xlabel="에피소드"
# xlabel("episode") => xlabel("에피소드")
# {sum(lengths)} steps in 1000 episodes; the last 100 took {np.mean(lengths[-100:]):.1f} each (ε = 0.1) => 에피소드 1000개에 {sum(lengths)}스텝. 마지막 100개는 평균 {np.mean(lengths[-100:]):.1f}스텝 (ε = 0.1)
# after {naive.num_timesteps} steps: {exact_test(naive).success_rate:.1%} of the starts solved => {naive.num_timesteps}스텝 뒤: 시작 상태의 {exact_test(naive).success_rate:.1%} 해결
# in the memory: {memory.success_size} successes, from the states {memory.success_states or '–'} => 메모리: 성공한 전이 {memory.success_size}개, 그 상태 {memory.success_states or '–'}
#                {memory.fail_size} other transitions =>         그 밖의 전이 {memory.fail_size}개
# consecutive samples => 연속된 샘플
# from the replay memory => 리플레이 메모리의 샘플
# : autocorrelation at lag 1 is {autocorrelation(rows, 1):.2f}, repeated states: {repeated:.0%} => : 간격 1의 자기상관 {autocorrelation(rows, 1):.2f}, 반복된 상태 {repeated:.0%}
# autocorrelation of the taxi's row => 택시가 있는 행의 자기상관
# samples between => 샘플 간격
# state is among the 10 samples before => 바로 앞 10개 샘플에 같은 상태가 있음
# without a target network => 타깃 네트워크 없음
# with a target network => 타깃 네트워크 있음
# : the targets moved in {np.mean(moved > 0):.1%} of the intervals of 100 steps => : 100스텝 구간 가운데 타깃이 움직인 비율 {np.mean(moved > 0):.1%}
# mean target value => 타깃 값의 평균
# xlabel="thousand steps") => xlabel="천 스텝")
# xlabel="thousand steps", => xlabel="천 스텝",
# change in 100 steps (no dot: none) => 100스텝 동안의 변화량 (점이 없으면 변화 없음)
# the line is flat => 값이 변하지 않는다
# "table" => "테이블"
# "naive DQN" => "단순한 DQN"
# "replay memory" => "리플레이 메모리"
# "replay and target (lecture)" => "리플레이 + 타깃 (강의)"
# "the same, with Double Q-learning" => "같은 설정 + Double Q-러닝"
# {np.mean(curves[:, -1]):6.1%} of the starts solved ({len(runs)} of 3 runs did not diverge) => 시작 상태의 {np.mean(curves[:, -1]):6.1%} 해결 (실행 3개 중 {len(runs)}개는 발산하지 않음)
# share of solved starts (thin: each seed) => 해결한 시작 상태의 비율 (가는 선: 시드별)
# thousand environment steps => 환경 스텝(천)
# for colour-blind readers, too (Okabe, Ito) => 색각 이상이 있어도 구별되는 색 (Okabe, Ito)
# γ = {discount}: 20 points in 13 steps are worth {20 * discount**13:.2f} points now => γ = {discount}: 13스텝 뒤의 20점은 지금 {20 * discount**13:.2f}점의 가치
# learning rate of the optimizer: => 옵티마이저의 학습률:
# the same policy: => 같은 정책인가:
# To see all of it, in a terminal: => 전체를 보려면 터미널에서 실행:
# {best.num_timesteps} steps: {result.success_rate:.1%} of the starts solved, reward {result.mean_reward:.2f} => {best.num_timesteps}스텝: 시작 상태의 {result.success_rate:.1%} 해결, 보상 {result.mean_reward:.2f}
# 'setting' => '설정'
# 'lecture' => '강의'
# recommended => 추천
# with the lecture's limit of 1000 steps => 강의처럼 1000스텝에서 끊는다
# the networks here are small => 여기서 쓰는 신경망은 작다
# for what the cells below write => 아래 셀이 만드는 파일을 둘 곳
# one with Korean letters, where there is one => 이 컴퓨터에 있는 한글 글꼴
# ε-greedy => ε-탐욕
# # of the taxi => # 택시가 있는 행
# Remembers the target network's highest action value in every state, at every 100th step. => 100스텝마다 상태별로 타깃 네트워크의 가장 높은 행동 가치를 기록한다.
# on all cores => 모든 코어에서
