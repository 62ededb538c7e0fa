"""The words of a diagnosis, in English and Korean: one entry for every title, sentence and piece of advice."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from sb3_lecture_dqn.envs.grids import GridLayout

LANGUAGES = ("en", "ko")

_Words = Mapping[str, tuple[str, str]]

#: In one sentence how good a policy is
SUMMARIES: _Words = {
    "optimal": (
        "The policy is optimal: it solves {solved:.3%} of the starts, and its mean reward is {reward:.3f}, the highest "
        "possible.",
        "정책이 최적입니다. 시작 상태의 {solved:.3%}를 해결하며, 평균 보상은 가능한 최댓값인 {reward:.3f}입니다.",
    ),
    "limited": (
        "No policy is better within the step limit: the policy solves {solved:.1%} of the starts, and its mean reward "
        "is {reward:.2f}.",
        "스텝 제한 안에서 이보다 나은 정책은 없습니다. 시작 상태의 {solved:.1%}를 해결하며, 평균 보상은 "
        "{reward:.2f}입니다.",
    ),
    "nearly": (
        "The policy is nearly optimal: it solves {solved:.3%} of the starts, and its mean reward is {reward:.3f}; the "
        "best possible is {optimum:.3f}.",
        "정책이 거의 최적입니다. 시작 상태의 {solved:.3%}를 해결하며, 평균 보상은 {reward:.3f}입니다(가능한 최댓값 "
        "{optimum:.3f}).",
    ),
    "table": (
        "The policy is not optimal: it solves {solved:.1%} of the starts (the best possible is {solvable:.1%}), and "
        "its mean reward is {reward:.2f} (the best possible is {optimum:.2f}).",
        "정책이 최적이 아닙니다. 시작 상태의 {solved:.1%}를 해결하며(가능한 최댓값 {solvable:.1%}), 평균 보상은 "
        "{reward:.2f}입니다(가능한 최댓값 {optimum:.2f}).",
    ),
    "no_table": (
        "This environment has no table of transitions, so the best policy is not known. The model was trained for "
        "{steps} steps ({episodes} episodes). This is what it and its memory ({n_held} transitions) tell.",
        "이 환경에는 전이 확률표가 없어서 최적 정책을 알 수 없습니다. 모델은 {steps}스텝({episodes} 에피소드) 동안 "
        "학습했습니다. 모델과 리플레이 메모리(전이 {n_held}개)에서 알 수 있는 것은 다음과 같습니다.",
    ),
    "no_env": (
        "The model has no environment that can be looked at, so the best policy is not known; a tabular one can be "
        "given as env. The model was trained for {steps} steps ({episodes} episodes). This is what it and its memory "
        "({n_held} transitions) tell.",
        "모델에 살펴볼 수 있는 환경이 없어서 최적 정책을 알 수 없습니다. 표로 주어지는 환경이라면 인수 env로 넘길 수 "
        "있습니다. 모델은 {steps}스텝({episodes} 에피소드) 동안 학습했습니다. 모델과 리플레이 메모리(전이 "
        "{n_held}개)에서 알 수 있는 것은 다음과 같습니다.",
    ),
}

TITLES: _Words = {
    "untrained": ("The model is not trained", "학습하지 않은 모델"),
    "no_update": ("Nothing was learnt: there was no update", "업데이트가 없어 아무것도 배우지 못함"),
    "diverged": ("Training has diverged", "학습이 발산함"),
    "time_limit": ("Episodes are too short", "에피소드가 너무 짧음"),
    "epsilon_gone": ("ε was gone before the first success", "첫 성공 전에 ε이 다 줄어듦"),
    "epsilon_late": ("ε was gone before tests saw a success", "테스트에서 성공하기 전에 ε이 다 줄어듦"),
    "never_seen": ("Successes never seen in training", "학습 중 한 번도 보지 못한 성공"),
    "not_in_memory": ("No success is in the memory", "리플레이 메모리에 없는 성공"),
    "gamma_small": ("γ is too small: the horizon is too short", "γ가 너무 작음: 먼 보상이 보이지 않음"),
    "gamma_one": ("γ is 1: a detour costs nothing", "γ가 1: 돌아가도 손해가 없음"),
    "no_replay": ("There is no replay memory", "리플레이 메모리가 없음"),
    "memory_small": ("The memory is too small", "리플레이 메모리가 너무 작음"),
    "memory_distorts": ("The memory distorts chances", "리플레이 메모리가 확률을 왜곡함"),
    "never_tried": ("Right actions never tried", "한 번도 해 보지 않은 올바른 행동"),
    "ties": ("Ties decide", "값이 같아 우연에 맡겨진 선택"),
    "overestimated": ("Action values are too high", "행동 가치의 과대평가"),
    "loop": ("Loops", "제자리 맴돌기"),
    "illegal": ("Illegal actions without end", "끝없이 되풀이되는 잘못된 행동"),
    "bad_end": ("Episodes end badly", "실패로 끝나는 에피소드"),
    "cut": ("Episodes are cut", "도착하기 전에 끊기는 에피소드"),
    "detour": ("Detours", "멀리 돌아서 가는 길"),
    "not_learned": ("Values are not learnt yet", "아직 다 배우지 못한 행동 가치"),
    "no_rewards": ("Nothing to learn from in the memory", "배울 것이 없는 리플레이 메모리"),
    "one_action": ("The policy always does the same", "늘 같은 행동만 하는 정책"),
    "returns": ("Returns of the last training episodes", "최근 학습 에피소드의 누적 보상"),
    "values": ("Action values of the memory's states", "리플레이 메모리에 있는 상태의 행동 가치"),
    "no_memory": ("The memory was not saved", "저장되지 않은 리플레이 메모리"),
}

SENTENCES: _Words = {
    "untrained": (
        "The model has made no step: its action values are those of a new network.",
        "모델이 한 스텝도 학습하지 않았습니다. 행동 가치는 새 신경망의 값 그대로입니다.",
    ),
    "no_update": (
        "In {steps} steps there was no update: learning_starts={learning_starts}, and gradient_steps={gradient_steps}.",
        "{steps}스텝 동안 업데이트가 한 번도 없었습니다: learning_starts={learning_starts}, "
        "gradient_steps={gradient_steps}.",
    ),
    "not_finite": (
        "The network is broken: {share:.1%} of its action values are NaN or infinite, or a weight is.",
        "신경망이 망가졌습니다. 행동 가치의 {share:.1%}가(또는 어떤 가중치가) NaN이거나 무한대입니다.",
    ),
    "beyond_bound": (
        "The largest action value is {largest:.3g} in size, but no return can be beyond {bound:.3g} (largest reward / "
        "(1 - γ)). {share:.1%} of the action values are beyond it.",
        "행동 가치의 크기가 최대 {largest:.3g}인데, 어떤 누적 보상도 {bound:.3g}(가장 큰 보상 / (1 − γ))을 넘을 수 "
        "없습니다. 행동 가치의 {share:.1%}가 이 한계를 넘었습니다.",
    ),
    "beyond_where": ("The largest is at {state}.", "가장 큰 곳은 {state}입니다."),
    "time_limit": (
        "Episodes are cut after {limit} steps. From {n} of {n_starts} starts, no policy can succeed in so few.",
        "에피소드를 {limit}스텝에서 끊습니다. 시작 상태 {n_starts}개 중 {n}개에서는 어떤 정책도 그 안에 성공할 수 "
        "없습니다.",
    ),
    "epsilon_gone_episode": (
        "The memory has no success. ε is {epsilon:.3f}: it reached its lowest value at episode {since}, and "
        "{share:.0%} of the episodes came after that. The policy repeats itself and finds nothing new.",
        "리플레이 메모리에 성공이 하나도 없습니다. ε은 {epsilon:.3f}입니다. 에피소드 {since}에서 최솟값에 도달했고, "
        "전체 에피소드의 {share:.0%}가 그 뒤였습니다. 정책은 같은 행동을 되풀이할 뿐 새로운 것을 찾지 못합니다.",
    ),
    "epsilon_gone_step": (
        "The memory has no success. ε is {epsilon:.3f}: it reached its lowest value at step {since}, and {share:.0%} "
        "of the steps came after that. The policy repeats itself and finds nothing new.",
        "리플레이 메모리에 성공이 하나도 없습니다. ε은 {epsilon:.3f}입니다. 스텝 {since}에서 최솟값에 도달했고, 전체 "
        "스텝의 {share:.0%}가 그 뒤였습니다. 정책은 같은 행동을 되풀이할 뿐 새로운 것을 찾지 못합니다.",
    ),
    "epsilon_late": (
        "The first test that solved a start came after episode {first}, when ε had been at its lowest value, "
        "{epsilon:.3g}, since episode {since}. When the training itself first succeeded is not logged.",
        "테스트에서 처음 성공한 것은 에피소드 {first} 뒤인데, ε은 에피소드 {since}부터 이미 "
        "최솟값({epsilon:.3g})이었습니다. 학습 중에 언제 처음 성공했는지는 기록되어 있지 않습니다.",
    ),
    "never_seen": (
        "In {episodes} episodes ({steps} steps), {n} of {n_ends} successful ends never happened: {ends}.",
        "{episodes} 에피소드({steps}스텝) 동안, 성공으로 끝나는 경우 {n_ends}가지 중 {n}가지가 한 번도 일어나지 "
        "않았습니다: {ends}.",
    ),
    "not_in_memory": (
        "{n} of {n_ends} successful ends are not in the memory: {ends}. The memory forgets, so it cannot be known "
        "whether they happened in these {episodes} episodes ({steps} steps).",
        "성공으로 끝나는 경우 {n_ends}가지 중 {n}가지가 리플레이 메모리에 없습니다: {ends}. 메모리가 오래된 전이를 "
        "잊으므로, {episodes} 에피소드({steps}스텝) 동안 일어났는지는 알 수 없습니다.",
    ),
    "all_ends_missing": (
        "So the network cannot know that there is anything to reach.",
        "그래서 신경망은 도달할 목표가 있다는 것을 알 수 없습니다.",
    ),
    "ends_missing": (
        "So the network cannot know their reward.",
        "그래서 신경망은 그 보상을 알 수 없습니다.",
    ),
    "gamma_small": (
        "With γ = {gamma:g}, rewards count for about {horizon:.1f} steps. In {share:.0%} of the {n_wrong} states where "
        "the policy goes wrong, even the exact values of the right action and of the others differ by too little to be "
        "learnt (median {gap:.2g}; all values range over {range:.3g}).",
        "γ = {gamma:g}이면 약 {horizon:.1f}스텝 뒤의 보상까지만 의미가 있습니다. 정책이 잘못 행동하는 상태 "
        "{n_wrong}개 중 {share:.0%}에서는, 정확한 값조차 올바른 행동과 다른 행동의 차이가 너무 작아 배울 수 "
        "없습니다(중앙값 {gap:.2g}, 전체 값의 범위 {range:.3g}).",
    ),
    "gamma_one": (
        "With γ = {gamma:g}, a later reward is worth as much as an early one. In {share:.0%} of the {n_wrong} states "
        "where the policy goes wrong, even the exact values of the right action and of others hardly differ: nothing "
        "says which way is the shorter one.",
        "γ = {gamma:g}이면 늦은 보상도 이른 보상과 가치가 같습니다. 정책이 잘못 행동하는 상태 {n_wrong}개 중 "
        "{share:.0%}에서는, 정확한 값조차 올바른 행동과 다른 행동이 거의 같아서 어느 길이 더 짧은지 알 수 없습니다.",
    ),
    "no_replay": (
        "Every update uses only the transition just seen: what was learnt about the other {needed} state-action pairs "
        "is overwritten meanwhile.",
        "업데이트마다 방금 본 전이만 씁니다. 그동안 다른 상태-행동 쌍 {needed}개에 대해 배운 것은 덮어쓰입니다.",
    ),
    "no_replay_of_world": (
        "Every update uses only the transition just seen: older ones are forgotten.",
        "업데이트마다 방금 본 전이만 쓰고, 그 전의 전이는 잊습니다.",
    ),
    "memory_small": (
        "The memory holds transitions of {held} state-action pairs ({share:.1%}); there are {needed}. It forgets the "
        "others, and the network is never reminded of them.",
        "리플레이 메모리에는 상태-행동 쌍 {needed}개 중 {held}개({share:.1%})의 전이만 있습니다. 나머지는 "
        "잊어버리므로 신경망이 다시 학습할 기회가 없습니다.",
    ),
    "memory_of_last_steps": (
        "The memory holds {held} transitions, {share:.2%} of the training's {steps} steps.",
        "리플레이 메모리의 전이는 {held}개로, 학습한 {steps}스텝의 {share:.2%}입니다.",
    ),
    "memory_distorts": (
        "An action has up to {n_outcomes} outcomes, so an action value is a mean, for which each outcome must weigh as "
        "often as it happens. The states' values are off by {mean_over:+.3g} on average, by {max_over:+.3g} at most.",
        "한 행동의 결과가 최대 {n_outcomes}가지이므로 행동 가치는 여러 결과의 평균입니다. 따라서 각 결과를 실제로 "
        "일어나는 비율대로 뽑아야 합니다. 상태의 가치는 참값과 평균 {mean_over:+.3g}, 최대 {max_over:+.3g} 차이가 "
        "납니다.",
    ),
    "stored_once": (
        "But the memory stores equal transitions once, so a rare outcome weighs as much as a frequent one.",
        "그런데 메모리가 같은 전이를 한 번만 저장하므로, 드문 결과가 흔한 결과와 같은 비중을 가집니다.",
    ),
    "drawn_by_share": (
        "But a fixed share of a minibatch is drawn from the successes ({success_fraction:g}).",
        "그런데 미니배치의 일정 비율({success_fraction:g})을 성공에서만 뽑습니다.",
    ),
    "forgets_failures": (
        "But the memory forgets failures and keeps successes.",
        "그런데 메모리가 실패는 잊고 성공은 남겨 둡니다.",
    ),
    "never_tried": (
        "In {n} of the {n_wrong} states where the policy goes wrong, the right action was never tried. In all, {pairs} "
        "of {n_pairs} state-action pairs were never tried.",
        "정책이 잘못 행동하는 상태 {n_wrong}개 중 {n}개에서는 올바른 행동을 한 번도 해 보지 않았습니다. 전체로는 "
        "상태-행동 쌍 {n_pairs}개 중 {pairs}개를 한 번도 해 보지 않았습니다.",
    ),
    "ties": (
        "In {n} of the {n_wrong} states where the policy goes wrong, the two highest action values differ by less than "
        "{tie:g}: the choice among them means nothing.",
        "정책이 잘못 행동하는 상태 {n_wrong}개 중 {n}개에서, 가장 높은 두 행동 가치의 차이가 {tie:g}보다 작습니다. "
        "그중 무엇을 고르는지는 의미가 없습니다.",
    ),
    "ties_in_memory": (
        "In {share:.0%} of {n} states of the memory, the two highest action values differ by less than {tie:g}: the "
        "choice among them means nothing.",
        "메모리의 상태 {n}개 중 {share:.0%}에서, 가장 높은 두 행동 가치의 차이가 {tie:g}보다 작습니다. 그중 무엇을 "
        "고르는지는 의미가 없습니다.",
    ),
    "overestimated": (
        "In {n} of the {n_wrong} states where the policy goes wrong, the chosen action is overestimated, by {mean:.3g} "
        "on average. Most at {state}: the value of {action} is {q:.3g}, the optimal one {optimal_q:.3g}. A maximum "
        "over noisy values is too high, and targets pass that on.",
        "정책이 잘못 행동하는 상태 {n_wrong}개 중 {n}개에서, 선택한 행동의 가치가 평균 {mean:.3g}만큼 과대평가되어 "
        "있습니다. 가장 심한 곳은 {state}입니다. {action}의 가치는 {q:.3g}인데 최적값은 {optimal_q:.3g}입니다. 오차가 "
        "있는 값들 가운데 최댓값을 고르면 실제보다 높아지고, 이것이 타깃을 통해 퍼집니다.",
    ),
    "above_returns": (
        "The highest action values are {mean:.3g} on average over the states of the memory, but none of the last {n} "
        "training episodes had a return above {high:.3g}.",
        "메모리의 상태에서 가장 높은 행동 가치는 평균 {mean:.3g}인데, 최근 학습 에피소드 {n}개의 누적 보상은 모두 "
        "{high:.3g} 이하입니다.",
    ),
    "loop": (
        "From {n} of {n_starts} starts, the policy walks in a circle until the limit of {limit} steps "
        "(number of such loops: {n_loops}).",
        "시작 상태 {n_starts}개 중 {n}개에서, 정책이 {limit}스텝 제한까지 같은 길을 맴돕니다. 이런 고리가 {n_loops}개 "
        "있습니다.",
    ),
    "stands": (
        "From {n} of {n_starts} starts, the policy ends up standing still, as at a wall: its action changes nothing, "
        "until the limit of {limit} steps (number of such states: {n_loops}).",
        "시작 상태 {n_starts}개 중 {n}개에서, 정책이 벽에 막힌 듯 한자리에 멈춥니다. 행동해도 상태가 바뀌지 않은 채 "
        "{limit}스텝 제한에 이릅니다. 이런 상태가 {n_loops}개 있습니다.",
    ),
    "loop_or_stands": (
        "From {n} of {n_starts} starts, the policy walks in a circle or stands still, until the limit of {limit} steps "
        "(number of such loops: {n_loops}).",
        "시작 상태 {n_starts}개 중 {n}개에서, 정책이 {limit}스텝 제한까지 같은 길을 맴돌거나 한자리에 멈춥니다. 이런 "
        "고리가 {n_loops}개 있습니다.",
    ),
    "illegal": (
        "From {n} of {n_starts} starts, the policy repeats illegal actions until the limit of {limit} steps "
        "(number of such loops: {n_loops}).",
        "시작 상태 {n_starts}개 중 {n}개에서, 정책이 {limit}스텝 제한까지 잘못된 행동을 되풀이합니다. 이런 고리가 "
        "{n_loops}개 있습니다.",
    ),
    "loops_drawn": (
        "The loop in which the most starts end ({n_first}) is drawn first; arrows and letters are the chosen actions.",
        "가장 많은 시작 상태({n_first}개)에서 빠지는 고리를 먼저 그렸습니다. 화살표와 글자는 선택한 행동입니다.",
    ),
    "bad_end": (
        "From {n} of {n_starts} starts, episodes mostly end without success (with probability {probability:.0%}).",
        "시작 상태 {n_starts}개 중 {n}개에서, 에피소드가 대부분 성공 없이 끝납니다(확률 {probability:.0%}).",
    ),
    "cut": (
        "From {n} of {n_starts} starts, the policy goes on, but does not arrive within {limit} steps.",
        "시작 상태 {n_starts}개 중 {n}개에서, 정책이 계속 나아가지만 {limit}스텝 안에 도착하지 못합니다.",
    ),
    "detour": (
        "From {n} of {n_starts} starts, the policy succeeds as often as possible, but loses {lost:.3g} of the "
        "best reward on average.",
        "시작 상태 {n_starts}개 중 {n}개에서, 정책이 최대한 성공하기는 하지만, 보상이 가능한 최댓값보다 평균 "
        "{lost:.3g}만큼 적습니다.",
    ),
    "not_learned": (
        "The greedy action is wrong in {n} of {n_visited} states on the way. The action values are off by {mean:.3g} "
        "on average, the highest of a state by {mean_over:+.3g}; the optimal ones range over {range:.3g}.",
        "도중에 지나는 상태 {n_visited}개 중 {n}개에서 탐욕 행동이 틀립니다. 행동 가치의 오차는 평균 "
        "{mean:.3g}(상태별 최댓값의 오차는 평균 {mean_over:+.3g})이고, 최적값의 범위는 {range:.3g}입니다.",
    ),
    "memory_error": (
        "On the transitions of the memory, the values miss their targets by {memory_error:.3g} on average.",
        "메모리의 전이에서 행동 가치와 타깃의 차이는 평균 {memory_error:.3g}입니다.",
    ),
    "no_rewards": (
        "All {n} transitions of the memory have the same reward, {reward:g}, and none ends an episode.",
        "메모리의 전이 {n}개가 모두 보상 {reward:g}이고, 에피소드를 끝내는 전이가 하나도 없습니다.",
    ),
    "only_zero_rewards": (
        "All {n} transitions of the memory have the reward 0: in {episodes} episodes, nothing good or bad is recorded.",
        "메모리의 전이 {n}개가 모두 보상 0입니다. {episodes} 에피소드 동안 좋은 일도 나쁜 일도 기록되지 않았습니다.",
    ),
    "one_action": (
        "In {share:.1%} of {n} states of the memory, the greedy action is action {action}.",
        "메모리의 상태 {n}개 중 {share:.1%}에서 탐욕 행동이 행동 {action}입니다.",
    ),
    "returns": (
        "The last {n} episodes had returns from {low:.3g} to {high:.3g}; the mean of the earlier half is {early:.3g}, "
        "of the later half {late:.3g}. ε is {epsilon:.3g} now, so they include random actions.",
        "최근 에피소드 {n}개의 누적 보상은 {low:.3g}에서 {high:.3g} 사이입니다. 앞 절반의 평균은 {early:.3g}, 뒤 "
        "절반의 평균은 {late:.3g}입니다. 지금 ε이 {epsilon:.3g}이므로 무작위 행동의 결과도 섞여 있습니다.",
    ),
    "values_of_memory": (
        "Over {n} states of the memory, the highest action value is {mean:.3g} on average ({low:.3g} to {high:.3g}). "
        "The greedy action is action {action} in {share:.0%} of them. The memory's rewards go from {low_reward:.3g} to "
        "{high_reward:.3g}, and {n_ends:.1%} of its transitions end an episode.",
        "메모리의 상태 {n}개에서 가장 높은 행동 가치는 평균 {mean:.3g}({low:.3g} ~ {high:.3g})입니다. 그중 "
        "{share:.0%}에서 탐욕 행동이 행동 {action}입니다. 메모리의 보상은 {low_reward:.3g}에서 {high_reward:.3g} "
        "사이이고, 전이의 {n_ends:.1%}가 에피소드를 끝냅니다.",
    ),
    "bound_of_returns": (
        "With these rewards, no return can be beyond {bound:.3g}.",
        "이 보상으로는 어떤 누적 보상도 {bound:.3g}을 넘을 수 없습니다.",
    ),
    "no_memory": (
        "The model has no replay memory with it, so what it saw in training cannot be known.",
        "모델에 리플레이 메모리가 들어 있지 않아, 학습 중에 무엇을 보았는지 알 수 없습니다.",
    ),
}

ADVICE: _Words = {
    "train": ("train it: model.learn()", "학습시키기: model.learn()"),
    "tuned": ("LectureDQN.tuned(env), which chooses all settings", "모든 설정을 골라 주는 LectureDQN.tuned(env)"),
    "updates": (
        "a smaller learning_starts, and gradient_steps of at least 1",
        "더 작은 learning_starts, 그리고 1 이상의 gradient_steps",
    ),
    "target_network": (
        "a target network: double_dqn=True (it is {double_dqn})",
        "타깃 네트워크: double_dqn=True (지금 {double_dqn})",
    ),
    "replay": (
        "a replay memory: store_and_replay=True (it is {store_and_replay})",
        "리플레이 메모리: store_and_replay=True (지금 {store_and_replay})",
    ),
    "lower_lr": (
        "a lower learning_rate, such as {lower_lr:g} (it is {learning_rate:g})",
        "더 작은 학습률, 예를 들어 learning_rate={lower_lr:g} (지금 {learning_rate:g})",
    ),
    "higher_lr": (
        "a higher learning_rate (it is {learning_rate:g})",
        "더 큰 학습률 learning_rate (지금 {learning_rate:g})",
    ),
    "slide_lr": (
        "the lecture's slide says lr=0.01, but its optimiser trains with 0.001",
        "강의 슬라이드에는 lr=0.01이라고 쓰여 있지만 실제 옵티마이저는 0.001로 학습합니다",
    ),
    "huber": ("loss='huber' (it is {loss!r})", "loss='huber' (지금 {loss!r})"),
    "clip": ("max_grad_norm=10 (gradients are not clipped)", "max_grad_norm=10 (지금은 기울기를 제한하지 않음)"),
    "step_limit": ("a higher max_episode_steps (it is {limit})", "더 큰 max_episode_steps (지금 {limit})"),
    "longer": (
        "a longer training (so far {episodes} episodes, {steps} steps)",
        "더 긴 학습 (지금까지 {episodes} 에피소드, {steps}스텝)",
    ),
    "epsilon_decay": (
        "an exploration_decay nearer to 1 (it is {exploration_decay})",
        "1에 더 가까운 exploration_decay (지금 {exploration_decay})",
    ),
    "epsilon_fraction": (
        "a larger exploration_fraction (it is {exploration_fraction:g})",
        "더 큰 exploration_fraction (지금 {exploration_fraction:g})",
    ),
    "epsilon_floor": (
        "a higher exploration_final_eps (it is {exploration_final_eps:g})",
        "더 큰 exploration_final_eps (지금 {exploration_final_eps:g})",
    ),
    "explore_more": (
        "more exploration (exploration_final_eps is {exploration_final_eps:g})",
        "더 많은 탐험 (exploration_final_eps는 지금 {exploration_final_eps:g})",
    ),
    "least_tried": (
        "explore_least_tried=True (it is {explore_least_tried})",
        "explore_least_tried=True (지금 {explore_least_tried})",
    ),
    "masks": (
        "use_masking=True (it is {use_masking}): the environment says which actions are valid",
        "use_masking=True (지금 {use_masking}): 이 환경은 유효한 행동을 알려 줍니다",
    ),
    "gamma": ("gamma={better_gamma:g} (it is {gamma:g})", "gamma={better_gamma:g} (지금 {gamma:g})"),
    "buffer_size": ("a larger buffer_size (it is {buffer_size})", "더 큰 buffer_size (지금 {buffer_size})"),
    "no_deduplicate": (
        "replay_buffer_kwargs=dict(deduplicate=False) (it is True)",
        "replay_buffer_kwargs=dict(deduplicate=False) (지금 True)",
    ),
    "no_success_fraction": (
        "success_fraction=None (it is {success_fraction})",
        "success_fraction=None (지금 {success_fraction})",
    ),
    "double_q": (
        "double_q=True, van Hasselt's Double DQN (it is {double_q})",
        "Double DQN: double_q=True (지금 {double_q})",
    ),
    "checkpoint": (
        "diagnose the folder of a run with checkpoints, or a model right after its training",
        "체크포인트가 있는 실행 폴더나, 학습을 막 마친 모델을 진단하기",
    ),
}

_TRY = ("Try: {}.", "해 볼 것: {}.")
#: Korean names of the columns of grids, and of what they contain
_KOREAN = {
    "taxi row": "택시 행",
    "taxi column": "택시 열",
    "row": "행",
    "column": "열",
    "passenger": "승객",
    "destination": "목적지",
    "cell": "칸",
    "in taxi": "택시 안",
}


def _of(pair: tuple[str, str], language: str) -> str:
    return pair[LANGUAGES.index(language)]


def summary(state: str, numbers: Mapping[str, Any], language: str) -> str:
    """
    Say how good a policy is.

    :param state: Key of the sentence
    :param numbers: Numbers in it
    :param language: Language
    :return: The sentence
    """
    return _shorter(_of(SUMMARIES[state], language).format(**numbers))


def title(kind: str, language: str) -> str:
    """
    Name a kind of findings.

    :param kind: The kind
    :param language: Language
    :return: The title
    """
    return _of(TITLES[kind], language)


def text(sentences: Sequence[str], numbers: Mapping[str, Any], language: str) -> str:
    """
    Write the text of a finding.

    :param sentences: Keys of its sentences
    :param numbers: Numbers and names in them
    :param language: Language
    :return: The text
    """
    return " ".join(_of(SENTENCES[key], language).format(**numbers) for key in sentences)


def advice(keys: Sequence[str], numbers: Mapping[str, Any], language: str) -> str:
    """
    Write the advice of a finding.

    :param keys: Keys of its pieces
    :param numbers: The present values of settings
    :param language: Language
    :return: The advice; empty if there is none
    """
    if not keys:
        return ""
    return _of(_TRY, language).format("; ".join(_of(ADVICE[key], language).format(**numbers) for key in keys))


def _shorter(sentence: str) -> str:
    """Write 100 % without decimals."""
    return sentence.replace("100.000%", "100%").replace("100.0%", "100%")


def state(number: int, layout: GridLayout | None, language: str) -> str:
    """
    Name a state.

    :param number: The state
    :param layout: The grid of the environment, if there is one
    :param language: Language
    :return: Its properties on the grid, or its number
    """
    name = f"state {number}" if language == "en" else f"상태 {number}"
    if layout is None:
        return name
    parts = [(column, values[number]) for column, values in layout.columns.items() if column != "cell"]
    return f"{name} ({', '.join(f'{_named(column, language)} {_named(value, language)}' for column, value in parts)})"


def _named(word: Any, language: str) -> str:
    return _KOREAN.get(str(word), str(word)) if language == "ko" else str(word)


def action(number: int, layout: GridLayout | None) -> str:
    """
    Name an action.

    :param number: The action
    :param layout: The grid of the environment, if there is one
    :return: Its name on the grid, or its number
    """
    return str(number) if layout is None else layout.action_names[number]


def ends(states: Sequence[int], layout: GridLayout | None, language: str, most: int = 8) -> str:
    """
    Name states in which successful episodes end: in Taxi by the destination.

    :param states: The states
    :param layout: The grid of the environment, if there is one
    :param language: Language
    :param most: Most names
    :return: Their names
    """
    if layout is not None and "destination" in layout.columns:
        places = list(dict.fromkeys(str(layout.columns["destination"][s]) for s in states))
        return f"{_named('destination', language)} {', '.join(places)}"
    names = [state(s, layout, language) for s in states[:most]]
    return ", ".join([*names, *["..."] * (len(states) > most)])


def wrapped(paragraph: str, width: int, indent: str = "", first: str = "") -> list[str]:
    """
    Wrap a paragraph for a terminal, in which a Korean letter is two columns wide.

    :param paragraph: The text
    :param width: Columns of a line at most
    :param indent: Start of every line but the first
    :param first: Start of the first line
    :return: The lines
    """
    lines, line, at = [], first, columns(first)
    is_empty = True
    for word in paragraph.split():
        if not is_empty and at + 1 + columns(word) > width:
            lines.append(line)
            line, at, is_empty = indent, columns(indent), True
        line, at = (line + word, at + columns(word)) if is_empty else (f"{line} {word}", at + 1 + columns(word))
        is_empty = False
    return [*lines, line]


def columns(written: str) -> int:
    """
    Count the columns of a text in a terminal.

    :param written: The text, one line
    :return: Their number
    """
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in written)
