"""연습 문제 일곱 개. 채운 다음: python examples/exercises/check.py examples/exercises/exercises_ko.py --language ko"""

import torch


# ## 1. 탐험: ε
#
# 에피소드 $i = 1, 2, \dots$에서는 확률 $\varepsilon_i = \max(0.1, 0.99^i)$로 무작위 행동을 합니다. 0.99가 `decay`,
# 0.1이 `minimum`입니다. `total_steps`는 지금까지 모든 에피소드에서 진행한 스텝 수입니다.
def epsilon(episode, total_steps, decay, minimum):
    """Return the probability of a random action in an episode; the first episode is number 1."""
    # YOUR CODE HERE
    raise NotImplementedError()


# ## 2. 리플레이 메모리: 저장
#
# 전이는 튜플 $(s, a, s', r, done)$입니다. 에피소드를 끝낸 전이(`done`)는 크기 제한이 없는 리스트 `success`에
# 넣습니다. 나머지는 최대 `fail_size`개를 담는 리스트 `fail`에 넣습니다. 해당 리스트에 이미 있는 전이는 다시
# 저장하지 않습니다. `fail`이 가득 차 있으면 무작위로 고른 자리에 덮어씁니다. 자리 n개 중에서 `int(rng.random() *
# n)`번을 고릅니다.
def store(transition, success, fail, fail_size, rng):
    """Store a transition (s, a, s', r, done) in one of the two lists. Change the list in place; return nothing."""
    # YOUR CODE HERE
    raise NotImplementedError()


# ## 3. 리플레이 메모리: 추출
#
# 두 리스트를 합친 전체에서 전이 하나를 균등하게 복원 추출하세요. 0번이 첫 번째 성공 전이이고, 마지막 성공 전이
# 다음에 실패 전이가 이어집니다. 번호는 `int(rng.random() * n)`으로 뽑습니다.
def draw(success, fail, rng):
    """Return one transition of the two lists."""
    # YOUR CODE HERE
    raise NotImplementedError()


# ## 4. 타깃 값
#
# 에피소드가 종료되면 $y = r$, 그렇지 않으면 $y = r + \gamma \max_{a'} Q_{target}(s', a')$입니다. 1000스텝에서
# 중단된(`truncated`) 에피소드는 종료된 것이 아닙니다. `terminated`만 종료입니다. 전이 B개의 미니배치에 대해 $y$를
# 계산하세요. `reward`, `terminated`, `truncated`의 모양은 (B,)이고 `next_values`의 모양은 (B, n_actions)입니다.
def target_value(reward, terminated, truncated, next_values, gamma):
    """Return the targets y, a tensor of shape (B,). reward is float32, terminated and truncated are bool."""
    # YOUR CODE HERE
    raise NotImplementedError()


# ## 5. SGD 한 스텝
#
# 미니배치에 대한 $(Q(s, a) - y)^2$의 평균을 줄이는 방향으로 한 스텝 움직이세요. $s'$의 가치는 `target` 네트워크로
# 계산하고, $y$로는 기울기가 흐르지 않게 합니다. `batch`는 (states, actions, rewards, next_states, dones) 튜플이며
# 각각의 모양은 (B,)입니다. 강의에서는 B가 1입니다. (타깃 네트워크를 쓰지 않으면 `target`이 곧 `net`입니다.)
def sgd_step(net, target, optimizer, batch, gamma):
    """Change the weights of net by one step of its optimizer. net(states) has the shape (B, n_actions)."""
    states, actions, rewards, next_states, dones = batch
    # YOUR CODE HERE
    raise NotImplementedError()


# ## 6. 타깃 네트워크
#
# 에피소드 `every`개마다(강의에서는 20개마다) `net`의 가중치를 `target`에 복사합니다. 그 사이에는 `net`이 무엇을
# 학습하든 `target`은 그대로입니다. 이 함수는 에피소드가 끝날 때마다 그 번호 1, 2, …와 함께 호출됩니다.
def renew_target(net, target, episode, every):
    """Copy the weights of net to target if it is time. Change target in place; return nothing."""
    # YOUR CODE HERE
    raise NotImplementedError()


# ## 7. 테스트
#
# 탐욕 정책으로 에피소드 `n_episodes`개를 최대 `max_steps`스텝씩 진행하세요. 에피소드당 평균 스텝 수, 벌점
# 횟수(보상이 -10인 스텝), 보상과 함께 해결한 에피소드의 비율을 돌려주세요. 환경이 끝낸(`terminated`) 에피소드가
# 해결한 에피소드입니다. 환경의 사용법은 gymnasium과 같습니다. `state, _ = env.reset()`, `state, reward, terminated,
# truncated, _ = env.step(action)`. 상태는 정수이고 `net`에는 모양이 (B,)인 텐서를 넣습니다.
def test(net, env, n_episodes, max_steps):
    """Return (steps, penalties, reward, solved): four averages over the episodes."""
    # YOUR CODE HERE
    raise NotImplementedError()
