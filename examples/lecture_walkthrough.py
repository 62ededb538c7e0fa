# The source of the two notebooks in this folder. `python examples/make_notebooks.py` makes and runs them. Cells of text
# begin with `# %% en` (English) or `# %% ko` (Korean), cells of code, which both notebooks have, with `# %%`.

# %% en
# # The lecture's deep Q-network, page by page
#
# The whole algorithm is in one file: [lecture_loop.py](lecture_loop.py). This notebook goes from the Q-table to the DQN
# of the lecture *Deep Reinforcement Learning: Deep Q-Net (2)*, and runs each idea live, on Gymnasium's Taxi, with
# `sb3_lecture_dqn`. It takes about a minute.
# %% ko
# # 강의의 Deep Q-Network, 한 페이지씩 따라가기
#
# 알고리즘 전체는 파일 하나에 들어 있습니다: [lecture_loop.py](lecture_loop.py). 이 노트북에서는 *심층 강화학습: Deep
# Q-Net (2)* 강의를 Q-테이블에서 DQN까지 순서대로 따라갑니다. Gymnasium의 Taxi 환경에서 `sb3_lecture_dqn`으로 각
# 아이디어를 직접 실행하고 그림으로 확인합니다. 전체를 실행하는 데 1분 정도 걸립니다. (그림 속의 글자는 영어로
# 표시합니다.)

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture_dqn import (
    LectureDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    exact_test,
    make_env,
    optimal_values,
)
from sb3_lecture_dqn.show.watch import record

torch.set_num_threads(1)  # the networks here are small
folder = Path(tempfile.mkdtemp())  # for what the cells below write

# %% en
# ## 1. The task
#
# A taxi drives on a 5 × 5 grid with walls, picks up a passenger at one of four places and brings them to another.
# There are 500 states (25 places of the taxi × 5 of the passenger × 4 destinations) and 6 actions. A step costs 1, an
# illegal pick-up or drop-off 10 (the lecture's *penalty*), and a delivery earns 20.
#
# The lecture takes the 200-step limit away and cuts an episode after **1000** steps. A cut is not an end: the last
# transition is stored with `done = False`, and its target still counts what would have come.
# %% ko
# ## 1. 과제
#
# 택시가 벽이 있는 5 × 5 격자 위를 달리며, 네 곳 중 한 곳에서 승객을 태워 다른 곳에 내려 줍니다. 상태는 500개(택시
# 위치 25 × 승객 위치 5 × 목적지 4), 행동은 6개입니다. 한 스텝마다 보상이 −1이고, 잘못된 승차·하차는 −10(강의에서
# 말하는 *벌점*, penalty), 목적지에 내려 주면 +20입니다.
#
# 강의에서는 200스텝 제한을 없애고 **1000**스텝에서 에피소드를 끊습니다. 끊긴 것은 종료가 아니므로 마지막
# 전이(transition)를 `done = False`로 저장하고, 그 타깃에는 다음 상태의 가치를 그대로 더합니다.

# %%
env = make_env("Taxi-v3")  # with the lecture's limit of 1000 steps
state, info = env.reset(seed=0)
row, column, passenger, destination = env.unwrapped.decode(state)
print(f"state {state}: taxi at row {row}, column {column}; passenger at place {passenger}, to place {destination}")
plt.imshow(env.render())
plt.axis("off")
plt.show()
# %% en
# How good can an agent be? The environment is a table, so the best values can be computed; and so can what a network
# with random weights reaches, as the mean over all 300 starts.
# %% ko
# 에이전트는 얼마나 잘할 수 있을까요? 이 환경은 표(table)로 주어지므로 최적값을 정확히 계산할 수 있습니다. 무작위로
# 초기화한 신경망의 성적도 가능한 시작 상태 300개 전체의 평균으로 계산할 수 있습니다.

# %%
print(f"best mean reward: {optimal_values('Taxi-v3').mean_reward:.2f}")
print("random network:  ", exact_test(LectureDQN("Taxi-v3", seed=0)))

# %% en
# ## 2. The Q-table
#
# The action value $Q(s, a)$ is the discounted return of action $a$ in state $s$. The optimal one satisfies
# **Bellman's equation**
#
# $$Q^*(s, a) = \mathbb{E}\left[\,r + \gamma \max_{a'} Q^*(s', a')\,\right]$$
#
# and Q-learning moves a table towards it, one transition at a time. Actions are chosen by an **ε-greedy policy**: at
# random with probability ε, else the best known. In the lecture ε falls with the episode $i$: $\max(0.1,\ 0.99^i)$.
# %% ko
# ## 2. Q-테이블
#
# 행동 가치 $Q(s, a)$는 상태 $s$에서 행동 $a$를 했을 때 얻는 할인된 누적 보상의 기댓값입니다. 최적 행동 가치는 **벨만
# 방정식**을 만족합니다.
#
# $$Q^*(s, a) = \mathbb{E}\left[\,r + \gamma \max_{a'} Q^*(s', a')\,\right]$$
#
# Q-러닝은 전이를 하나씩 보면서 테이블을 이 식에 가깝게 고쳐 나갑니다. 행동은 **ε-탐욕 정책**으로 고릅니다. 확률 ε으로
# 무작위 행동을 하고, 나머지 경우에는 지금까지 알기로 가장 좋은 행동을 합니다. 강의에서 ε은 에피소드 번호 $i$에 따라
# $\max(0.1,\ 0.99^i)$로 줄어듭니다.

# %%
gamma, learning_rate = 0.75, 0.2
table, rng, lengths = np.zeros((500, 6)), np.random.default_rng(0), []
for episode in range(1, 301):
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
plt.plot(range(1, 301), lengths, linewidth=1)
plt.title("Q-table: steps of every training episode")
plt.xlabel("episode")
plt.show()
# %% en
# ## 3. From the table to a network
#
# A table has a cell for every pair of state and action, and learns nothing about one from another. A network shares
# what it learns. The lecture shows two shapes:
#
# * **state and action in, one value out**: choosing the best of 6 actions takes 6 passes;
# * **state in, all action values out**: one pass. This is the lecture's network: an embedding and three linear layers
#   with PReLU between them, here with hidden width $h = 32$.
# %% ko
# ## 3. 테이블에서 신경망으로
#
# 테이블에는 상태와 행동의 쌍마다 칸이 하나씩 있어서, 한 칸에서 배운 것이 다른 칸에 아무 도움이 되지 않습니다.
# 신경망에서는 배운 것이 여러 상태와 행동 사이에 공유됩니다. 강의에는 두 가지 모양이 나옵니다.
#
# * **상태와 행동을 넣으면 값 하나가 나오는 신경망**: 행동 6개 중 가장 좋은 것을 고르려면 6번 계산해야 합니다.
# * **상태를 넣으면 모든 행동의 값이 나오는 신경망**: 한 번만 계산하면 됩니다. 강의에서 쓰는 신경망으로, 임베딩 층
#   하나와 선형 층 세 개, 그 사이의 PReLU로 이루어집니다. 여기서 은닉층의 크기는 $h = 32$입니다.

# %%
action_in, lecture = LectureDQN("ActionInPolicy", "Taxi-v3", seed=0), LectureDQN("Taxi-v3", seed=0)
print(action_in.q_net, "\n")
print(lecture.q_net)

# %% en
# ## 4. Naive DQN
#
# Put the network in the table's place, and let gradient descent (SGD, learning rate 0.001) make the squared error
# smaller, 5 times a step:
#
# $$\left(r + \gamma \max_{a'} Q_\theta(s', a') - Q_\theta(s, a)\right)^2$$
#
# This is *naive*: every update uses the transition just seen, and the target is computed with the network that is
# being changed.
#
# (The lecture's `Config` says `lr=0.01`, but its training never reads that: its optimiser has `lr=0.001`, which is the
# default here. With 0.01 the training diverges after about 20 steps; try it, the error says how.)
# %% ko
# ## 4. 단순한(naive) DQN
#
# 테이블 자리에 신경망을 넣고, 한 스텝마다 5번씩 경사 하강법(SGD, 학습률 0.001)으로 다음 제곱 오차를 줄입니다.
#
# $$\left(r + \gamma \max_{a'} Q_\theta(s', a') - Q_\theta(s, a)\right)^2$$
#
# 이 방법은 너무 단순합니다. 업데이트마다 방금 본 전이만 쓰고, 지금 바뀌고 있는 바로 그 신경망으로 타깃을 계산하기
# 때문입니다.
#
# (강의의 `Config`에는 `lr=0.01`이라고 쓰여 있지만 학습 코드는 그 값을 읽지 않습니다. 실제 옵티마이저는 `lr=0.001`을
# 쓰며, 여기서도 그 값이 기본값입니다. 0.01로 하면 약 20스텝 만에 발산합니다. 직접 해 보면 오류 메시지가 까닭을
# 알려 줍니다.)

# %%
naive = LectureDQN("Taxi-v3", store_and_replay=False, double_dqn=False, seed=0)
naive.learn(total_episodes=30)
print(f"after {naive.num_timesteps} steps:", exact_test(naive))

# %% en
# ### Problem 1: consecutive samples are correlated
#
# A taxi moves by one cell, so one transition looks like the next. We let the agent drive for 3000 steps and measure
# two things: the autocorrelation of the taxi's row, and how often a state was among the 10 samples before it. Beside
# it: the same of 3000 samples drawn from a replay memory.
#
# **The cure: experience replay.** The lecture's memory has two lists. `success` keeps every transition that ended in
# a delivery, `fail` at most 1000 of the others: when it is full, a new one takes the place of a random old one. A
# transition that is already there is not stored again. An update draws from both with equal chances for every
# transition.
# %% ko
# ### 문제 1: 연속된 샘플은 서로 상관관계가 있습니다
#
# 택시는 한 번에 한 칸씩 움직이므로 이어지는 전이는 서로 비슷합니다. 에이전트가 3000스텝을 달리게 한 뒤 두 가지를
# 측정합니다. 택시가 있는 행의 자기상관, 그리고 어떤 상태가 바로 앞 10개의 샘플 안에 이미 있었던 비율입니다. 재현
# 메모리에서 뽑은 샘플 3000개도 똑같이 측정해서 비교합니다.
#
# **해결책: 경험 재현(experience replay).** 강의의 메모리에는 목록이 두 개 있습니다. `success`에는 승객을 내려 주고
# 끝난 전이를 모두 보관하고, `fail`에는 나머지를 최대 1000개까지 보관합니다. `fail`이 가득 차면 새 전이가 무작위로
# 고른 옛 전이를 대신하고, 이미 들어 있는 전이는 다시 저장하지 않습니다. 업데이트할 때는 두 목록을 합쳐 모든 전이를
# 같은 확률로 뽑습니다.

# %%
with_replay = LectureDQN("Taxi-v3", seed=0).learn(total_episodes=30)

consecutive, (state, _) = [], env.reset(seed=0)
for _ in range(3000):
    consecutive.append(state)
    action, _ = with_replay.predict(state)  # ε-greedy
    state, _, terminated, truncated, _ = env.step(int(action))
    if terminated or truncated:
        state, _ = env.reset()
samples = {
    "consecutive samples": np.array(consecutive),
    "from the replay memory": with_replay.replay_buffer.sample(3000).observations.numpy().ravel(),
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
    print(f"{name}: autocorrelation at lag 1: {autocorrelation(rows, 1):.2f}, repeated: {repeated:.0%}")
left.set(title="autocorrelation of the taxi's row", xlabel="samples between")
left.legend()
right.set(title="state is among the 10 samples before", ylim=(0, 1))
plt.show()

# %% en
# ### Problem 2: the target moves
#
# Every update changes the network, and with it the targets of all other transitions. We look at
# $\max_a Q_{\text{target}}(s, a)$ of all 500 states every 100 steps of training: its mean, and how far it has moved
# since the last look (log scale; where there is no dot, it stood still).
#
# **The cure: a target network**, a copy of the network that computes the targets and is renewed after every 20th
# episode. In between, the targets stand still. In the lecture's code the switch is called `double_dqn`. It is *not*
# van Hasselt's Double DQN (here: `double_q=True`), in which one network chooses the next action and the other values
# it.
# %% ko
# ### 문제 2: 타깃이 움직입니다
#
# 업데이트할 때마다 신경망이 바뀌고, 그와 함께 다른 모든 전이의 타깃도 바뀝니다. 학습하는 동안 100스텝마다 상태 500개
# 전체의 $\max_a Q_{\text{target}}(s, a)$를 살펴봅니다. 왼쪽은 그 평균이고, 오른쪽은 직전에 보았을 때부터 움직인
# 거리입니다(로그 눈금이며, 점이 없으면 움직이지 않은 것입니다).
#
# **해결책: 타깃 네트워크.** 타깃을 계산하는 신경망을 따로 복사해 두고, 20번째 에피소드가 끝날 때마다 새로 복사합니다.
# 그 사이에 타깃은 움직이지 않습니다. 강의 코드에서 이 스위치의 이름은 `double_dqn`입니다. 하지만 van Hasselt의 Double
# DQN(여기서는 `double_q=True`)과는 *다릅니다*. Double DQN에서는 한 신경망이 다음 행동을 고르고, 다른 신경망이 그
# 행동의 값을 매깁니다.


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
    left.plot(callback.steps, values.mean(axis=1), label=name)
    right.plot(callback.steps[1:], moved, ".", markersize=4)
    print(f"{name}: the targets moved in {np.mean(moved > 0):.1%} of the intervals of 100 steps")
left.set(title="mean target value", xlabel="step")
left.legend()
right.set(title="moved since 100 steps before (no dot: not at all)", xlabel="step", yscale="log")
plt.show()
# %% en
# ## 5. Beside the DQN of 2015
#
# | | Mnih et al., *Nature* 2015 | the lecture |
# |---|---|---|
# | observation | preprocessed images, 4 of them | the number of the state, embedded |
# | replay memory | the latest 1,000,000 transitions | successes, and 1000 others |
# | update | 32 transitions, every 4 steps | 1 transition, 5 times a step |
# | target network | copied every 10,000 updates | copied every 20 episodes |
# | ε | from 1 to 0.1 over 1,000,000 frames | $\max(0.1,\ 0.99^i)$ in episode $i$ |
#
# ## 6. Saving and loading with PyTorch
#
# What a network and an optimiser have learnt is in their `state_dict`, a dictionary of tensors.
# %% ko
# ## 5. 2015년의 DQN과 비교
#
# | | Mnih et al., *Nature* 2015 | 강의 |
# |---|---|---|
# | 관측 | 전처리한 이미지 4장 | 상태 번호를 임베딩한 것 |
# | 재현 메모리 | 최근 전이 1,000,000개 | 성공한 전이와 그 밖의 전이 1000개 |
# | 업데이트 | 4스텝마다 전이 32개로 | 한 스텝마다 전이 1개로 5번 |
# | 타깃 네트워크 | 10,000번 업데이트할 때마다 복사 | 20 에피소드마다 복사 |
# | ε | 1,000,000 프레임에 걸쳐 1에서 0.1로 | 에피소드 $i$에서 $\max(0.1,\ 0.99^i)$ |
#
# ## 6. PyTorch로 저장하고 불러오기
#
# 신경망의 가중치와 옵티마이저의 상태는 텐서를 모은 딕셔너리인 `state_dict`에 들어 있습니다.

# %%
for name, tensor in with_replay.q_net.state_dict().items():
    print(f"{name:16} {tuple(tensor.shape)}")
print("optimizer:", with_replay.policy.optimizer.state_dict()["param_groups"][0]["lr"])

torch.save(with_replay.q_net.state_dict(), folder / "taxi.pt")
restored = LectureDQN("Taxi-v3")
restored.q_net.load_state_dict(torch.load(folder / "taxi.pt"))
restored.q_net.eval()
print("the same policy:", exact_test(restored) == exact_test(with_replay))

# %% en
# ## 7. The whole run, and TensorBoard
#
# All together, for 400 episodes in place of the lecture's 5000. `LectureTestCallback` makes the lecture's test (100
# greedy episodes, after the first and every 50th) and writes *Steps*, *Penalty* and *Reward* for TensorBoard.
# `LectureTensorBoardCallback` fills the other tabs: the network's graph, histograms, the embedding projector, images.
# Look at them by `tensorboard --logdir` and the folder.
# %% ko
# ## 7. 전체 학습과 TensorBoard
#
# 이제 모두 합쳐서 학습합니다. 강의에서는 5000 에피소드지만 여기서는 400 에피소드만 합니다. `LectureTestCallback`은
# 강의의 테스트(탐욕 정책으로 100 에피소드, 첫 에피소드와 50번째 에피소드마다)를 하고 *Steps*, *Penalty*, *Reward*를
# TensorBoard에 기록합니다. `LectureTensorBoardCallback`은 나머지 탭을 채웁니다. 신경망의 그래프, 히스토그램, 임베딩
# 프로젝터, 이미지입니다. `tensorboard --logdir` 뒤에 폴더 이름을 적어 실행하면 볼 수 있습니다.

# %%
model = LectureDQN("Taxi-v3", seed=0, tensorboard_log=folder / "runs")
model.learn(total_episodes=400, callback=[LectureTestCallback(), LectureTensorBoardCallback()])
events = EventAccumulator(model.logger.dir, size_guidance={"images": 0}).Reload()
for kind, names in events.Tags().items():
    if isinstance(names, list) and names:
        print(f"{kind}: {', '.join(names[:7])}{' …' if len(names) > 7 else ''}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for panel, name in zip(axes, ["Steps", "Penalty", "Reward"], strict=True):
    points = events.Scalars(name)
    panel.plot([point.step for point in points], [point.value for point in points], marker=".")
    panel.set(title=name, xlabel="episode")
plt.show()

# %% en
# One of the images: the value of every state as a colour, and the greedy action as an arrow (P: pick up, D: drop
# off). A grid is one case: where the passenger is → where they want to go.
# %% ko
# 이미지 중 하나입니다. 각 상태의 가치를 색으로, 탐욕 행동을 화살표로 나타냅니다(P: 승차, D: 하차). 격자 하나는
# *승객이 있는 곳 → 목적지* 한 가지 경우를 나타냅니다.

# %%
Image(events.Images("values/learned")[-1].encoded_image_string, width=620)

# %% en
# ## 8. What it reaches, and what is possible
#
# After 5000 episodes the lecture prints 23.18 steps, 0.0 penalties and −2.39 reward: 99 of 100 episodes solved
# (`sb3-lecture-dqn train` runs it, in one to two minutes). What keeps it from the optimum are its settings, not the
# idea. With larger batches, Adam and masks of the valid actions, the same algorithm is optimal from every start after
# 16,000 steps:
# %% ko
# ## 8. 강의의 결과, 그리고 가능한 최선
#
# 강의에서는 5000 에피소드 뒤에 23.18스텝, 벌점 0.0, 보상 −2.39가 출력됩니다. 100 에피소드 중 99개를 해결한
# 것입니다(`sb3-lecture-dqn train`으로 1~2분이면 실행할 수 있습니다). 최적에 이르지 못하는 이유는 아이디어가 아니라
# 설정에 있습니다. 배치를 키우고, Adam을 쓰고, 유효한 행동만 고르는 마스크를 쓰면, 같은 알고리즘이 16,000스텝 만에
# 모든 시작 상태에서 최적이 됩니다.

# %%
best = LectureDQN.tuned("Taxi-v3", use_masking=True, seed=0, tensorboard_log=folder / "tuned")
best.learn(callback=LectureTensorBoardCallback())
print(exact_test(best))
events = EventAccumulator(best.logger.dir, size_guidance={"images": 0}).Reload()
Image(events.Images("values/learned")[-1].encoded_image_string, width=620)

# %%
record(best, env, folder / "taxi.gif", n_episodes=1, fps=2, seed=3)
Image(folder / "taxi.gif", width=620)

# %% en
# ## Going on
#
# ```bash
# sb3-lecture-dqn train                 # the lecture's run
# sb3-lecture-dqn train --no-double-dqn # without a separate target network
# sb3-lecture-dqn plot runs             # learning curves of all runs
# tensorboard --logdir runs
# ```
#
# `examples/lecture_ladder.py` trains all the rungs of this notebook, with several seeds, and draws one figure.
# %% ko
# ## 더 해 보기
#
# ```bash
# sb3-lecture-dqn train                 # 강의의 학습 그대로
# sb3-lecture-dqn train --no-double-dqn # 타깃 네트워크 없이
# sb3-lecture-dqn plot runs             # 모든 학습 곡선 그리기
# tensorboard --logdir runs
# ```
#
# `examples/lecture_ladder.py`는 이 노트북의 단계를 모두 여러 시드로 학습시켜 한 그림에 그립니다.
