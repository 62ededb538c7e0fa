"""
The words of the graders, in English and Korean: a hint for each mistake.

A hint says what the answer does and why that is wrong. It leaves the repair to the student.
"""

LANGUAGES = ("en", "ko")

#: Hints by exercise and key, as (English, Korean)
HINTS: dict[str, dict[str, tuple[str, str]]] = {
    "epsilon": {
        "per_step": (
            "ε falls with every step here, so exploration is over after a few episodes. The lecture counts episodes.",
            "ε이 스텝마다 줄어들어 에피소드 몇 개 만에 탐험이 끝납니다. 강의에서는 에피소드를 기준으로 셉니다.",
        ),
        "no_floor": (
            "ε has no floor: it goes towards 0, and the agent stops exploring. It should never be below the minimum.",
            "ε에 하한이 없습니다. 0에 가까워져 더 이상 탐험하지 않게 됩니다. 최솟값보다 작아지면 안 됩니다.",
        ),
        "min": (
            "This takes the smaller of the two numbers, so ε is at the minimum from the start. A floor needs "
            "the larger.",
            "둘 중 작은 값을 고르므로 처음부터 ε이 최솟값입니다. 하한을 두려면 큰 값을 골라야 합니다.",
        ),
        "from_zero": (
            "The exponent is one too small: the first episode is number 1, and its ε is 0.99, not 1.",
            "지수가 1만큼 작습니다. 첫 에피소드의 번호는 1이고, 이때 ε은 1이 아니라 0.99입니다.",
        ),
        "times": (
            "decay times the episode grows. ε should shrink by the factor decay with each episode: a power.",
            "decay에 에피소드 번호를 곱하면 커집니다. 에피소드마다 decay배로 줄어야 하므로 거듭제곱이 필요합니다.",
        ),
        "constant": (
            "ε does not depend on the episode: it is the same in all of them.",
            "ε이 에피소드 번호와 관계없이 항상 같습니다.",
        ),
    },
    "store": {
        "no_duplicate_check": (
            "A transition that its list already holds is stored again. The few successes would fill up with copies.",
            "리스트에 이미 있는 전이를 다시 저장합니다. 같은 전이의 복사본이 쌓이게 됩니다.",
        ),
        "same_in_part": (
            "Transitions count as duplicates if they agree in {fields}. Compare whole transitions: they may "
            "differ in the rest.",
            "{fields}만 같아도 중복으로 봅니다. 나머지가 다를 수 있으니 전이 전체를 비교해야 합니다.",
        ),
        "oldest": (
            "A full fail list loses its oldest transition, or always that of the same slot. The lecture overwrites a "
            "random slot.",
            "실패 리스트가 가득 차면 가장 오래된 전이나 늘 같은 자리의 전이를 버립니다. 강의에서는 무작위로 "
            "고른 자리에 덮어씁니다.",
        ),
        "newest": (
            "A full fail list always loses its newest transition. The lecture overwrites a random slot.",
            "실패 리스트가 가득 차면 항상 가장 최근 전이를 버립니다. 강의에서는 무작위로 고른 자리에 덮어씁니다.",
        ),
        "refused": (
            "Once the fail list is full, nothing new gets in: the agent goes on learning from its first steps only.",
            "실패 리스트가 가득 차면 새 전이가 들어가지 못합니다. 처음에 경험한 전이로만 계속 학습하게 됩니다.",
        ),
        "no_bound": (
            "The fail list grows beyond fail_size.",
            "실패 리스트가 fail_size보다 커집니다.",
        ),
        "bounds_success": (
            "The success list is bounded too. Successes are rare: only the fail list has a bound.",
            "성공 리스트에도 크기 제한이 걸려 있습니다. 성공은 드물기 때문에 실패 리스트에만 제한을 둡니다.",
        ),
        "bounds_both": (
            "The bound counts both lists together. fail_size is that of the fail list alone, however many successes "
            "there are.",
            "두 리스트의 길이를 합쳐서 크기를 제한합니다. fail_size는 성공이 몇 개이든 실패 리스트만의 크기 "
            "제한입니다.",
        ),
        "by_reward": (
            "The list is chosen by the reward. What counts is `done`: whether the episode ended with this transition.",
            "보상을 보고 리스트를 고릅니다. 기준은 보상이 아니라 done, 즉 이 전이로 에피소드가 끝났는지입니다.",
        ),
        "swapped": (
            "The two lists are swapped: transitions that end the episode belong to success.",
            "두 리스트가 뒤바뀌었습니다. 에피소드를 끝낸 전이가 성공 리스트에 들어가야 합니다.",
        ),
        "stores_nothing": (
            "Nothing is stored. Change the lists in place, with append or by an index; `success = success + [...]` "
            "makes a new list.",
            "아무것도 저장되지 않습니다. append나 인덱스로 받은 리스트 자체를 바꾸세요. `success = success + "
            "[...]`는 새 리스트를 만듭니다.",
        ),
        "not_from_rng": (
            "The slot does not come from rng, so a run cannot be repeated. Use int(rng.random() * n).",
            "자리를 rng로 고르지 않았습니다. 그러면 실행을 재현할 수 없습니다. int(rng.random() * n)을 쓰세요.",
        ),
        "other_call": (
            "rng.{name} is random too, but draws other numbers. Use int(rng.random() * n), so that runs can be "
            "compared.",
            "rng.{name}도 무작위이지만 다른 수를 뽑습니다. 실행 결과를 비교할 수 있도록 int(rng.random() * "
            "n)을 쓰세요.",
        ),
        "draws_too_often": (
            "The lists are right, but rng.random() was called {given} times instead of {expected}. Draw only "
            "if a new "
            "transition meets a full fail list.",
            "리스트는 맞지만 rng.random()을 {expected}번이 아니라 {given}번 호출했습니다. 새 전이를 넣을 때 "
            "실패 리스트가 가득 찬 경우에만 뽑으세요.",
        ),
    },
    "draw": {
        "equal_chance": (
            "Half of the draws are successes (here {share:.0%}), however few there are. Draw uniformly over "
            "both lists "
            "together: here 2 of 8.",
            "성공 전이가 아무리 적어도 절반이 성공에서 뽑힙니다(여기서는 {share:.0%}). 두 리스트를 합친 "
            "전체에서 균등하게 뽑으세요. 여기서는 8개 중 2개입니다.",
        ),
        "only_fail": (
            "Only the fail list is drawn from, so the agent never learns from a success.",
            "실패 리스트에서만 뽑습니다. 그러면 성공으로부터 배울 수 없습니다.",
        ),
        "only_success": (
            "Only the success list is drawn from.",
            "성공 리스트에서만 뽑습니다.",
        ),
        "never_last": (
            "The last transition is never drawn. rng.random() is below 1, so int(rng.random() * n) reaches n - 1.",
            "마지막 전이가 절대 뽑히지 않습니다. rng.random()은 1보다 작으므로 int(rng.random() * n)의 "
            "최댓값은 n - 1입니다.",
        ),
        "fail_first": (
            "Uniform, and right in that; but the positions start with the success list, then comes the fail list.",
            "균등하게 뽑는 것은 맞습니다. 다만 번호는 성공 리스트부터 매기고 그다음이 실패 리스트입니다.",
        ),
        "newest_only": (
            "This always gives the newest transition: without a random draw, consecutive steps are learned in order.",
            "항상 가장 최근 전이만 나옵니다. 무작위로 뽑지 않으면 이어진 스텝을 순서대로 학습하게 됩니다.",
        ),
        "not_from_rng": (
            "The draw does not come from rng, so a run cannot be repeated. Use int(rng.random() * n).",
            "rng로 뽑지 않았습니다. 그러면 실행을 재현할 수 없습니다. int(rng.random() * n)을 쓰세요.",
        ),
        "other_call": (
            "rng.{name} is random too, but draws other numbers. Use int(rng.random() * n), so that runs can be "
            "compared.",
            "rng.{name}도 무작위이지만 다른 수를 뽑습니다. 실행 결과를 비교할 수 있도록 int(rng.random() * "
            "n)을 쓰세요.",
        ),
        "removes": (
            "The drawn transition is gone from the memory. Draw with replacement: it may be drawn again.",
            "뽑은 전이가 메모리에서 사라집니다. 복원 추출이므로 뽑은 뒤에도 남아 있어야 합니다.",
        ),
        "grows": (
            "A draw changes the memory: the list {name} has grown from {before} to {now}. `both = {name}` is no copy, "
            "and `+=` and extend change the list itself.",
            "뽑기만 했는데 메모리가 바뀝니다. {name} 리스트의 길이가 {before}에서 {now}(으)로 늘었습니다. "
            "`both = {name}`로는 복사되지 않으며, `+=`와 extend는 리스트 자체를 바꿉니다.",
        ),
    },
    "target_value": {
        "wrong_axis": (
            "max over the wrong axis: this is the best transition for each action. Rows are transitions, columns are "
            "actions; max over the columns of a row.",
            "max의 축이 틀렸습니다. 지금은 행동마다 값이 가장 큰 전이를 고릅니다. 행이 전이, 열이 행동이므로 각 행 "
            "안에서 최댓값을 구하세요.",
        ),
        "max_of_all": (
            "max over the whole minibatch: every transition gets the same number. Each row needs its own maximum.",
            "미니배치 전체에서 최댓값 하나를 구했으므로 모든 전이가 같은 값을 씁니다. 행마다 최댓값을 따로 구하세요.",
        ),
        "mean": (
            "This is the mean over the actions. Q-learning assumes that the best action follows: the maximum.",
            "행동들의 평균을 썼습니다. Q-러닝은 다음에 최선의 행동을 한다고 보므로 최댓값이 필요합니다.",
        ),
        "argmax": (
            "argmax is the number of the best action. The target needs its value.",
            "argmax는 가장 좋은 행동의 번호입니다. 타깃에는 그 행동의 가치가 필요합니다.",
        ),
        "through_done": (
            "This bootstraps through the end of an episode. After a terminal state nothing follows: y is the reward.",
            "끝난 에피소드 너머까지 부트스트랩합니다. 종료 상태 다음에는 아무것도 없으므로 y는 보상뿐입니다.",
        ),
        "cut_is_done": (
            "A cut episode is treated as an end. It was only stopped from outside (truncated); what would have "
            "followed "
            "still counts.",
            "중단된(truncated) 에피소드를 종료(terminated)로 다룹니다. 바깥에서 끊었을 뿐이므로 그 뒤의 가치도 "
            "반영해야 합니다.",
        ),
        "only_truncated": (
            "The wrong flag: cut episodes get no future, but delivered passengers do. Use terminated.",
            "플래그가 바뀌었습니다. 중단된 에피소드에는 미래가 없고 종료된 에피소드에는 미래가 있습니다. "
            "terminated를 쓰세요.",
        ),
        "inverted": (
            "terminated is used the wrong way round: only ends have a future here.",
            "terminated를 반대로 썼습니다. 지금은 끝난 전이에만 미래의 가치가 더해집니다.",
        ),
        "by_reward": (
            "The end of an episode is read off the reward. What counts is `terminated`: after +20 an episode may go "
            "on, and it may end with -1.",
            "보상을 보고 에피소드의 끝을 판단합니다. 기준은 terminated입니다. +20을 받고도 계속될 수 있고, -1을 "
            "받고 끝날 수도 있습니다.",
        ),
        "no_reward_at_end": (
            "At the end of an episode the target is 0 here: the reward of the last step is lost, +20 in Taxi.",
            "에피소드가 끝날 때 타깃이 0이 됩니다. 마지막 스텝의 보상(Taxi에서는 +20)이 사라집니다.",
        ),
        "no_reward": (
            "The reward is missing: nothing tells the agent what is good.",
            "보상이 빠졌습니다. 무엇이 좋은지 알 수 없게 됩니다.",
        ),
        "no_gamma": (
            "The future is not discounted: gamma is missing.",
            "미래의 가치를 할인하지 않았습니다. gamma가 빠졌습니다.",
        ),
        "gamma_on_reward": (
            "gamma discounts the reward too. It belongs to the future only.",
            "보상까지 gamma로 할인합니다. gamma는 미래의 가치에만 곱합니다.",
        ),
        "fixed_gamma": (
            "There is a number in place of gamma. It is an argument, and may differ from call to call.",
            "gamma 자리에 정해진 숫자를 썼습니다. gamma는 인수이므로 호출할 때마다 다를 수 있습니다.",
        ),
        "column": (
            "The shape is {given}, not {expected}: there is a column, of shape (B, 1). Of a column and a row of shape "
            "(B,) PyTorch makes a square matrix, in which every transition meets every other.",
            "모양이 {given}인데 {expected}이어야 합니다. 모양이 (B, 1)인 열벡터가 있습니다. 이를 모양이 (B,)인 벡터와 "
            "함께 계산하면 PyTorch가 정사각 행렬을 만들어 모든 전이를 서로 짝짓습니다.",
        ),
        "not_a_tensor": (
            "The answer is a {given}. Return a tensor with one number for each transition.",
            "{given}을(를) 돌려주었습니다. 전이마다 수가 하나씩 있는 텐서를 돌려주세요.",
        ),
    },
    "sgd_step": {
        "no_step": (
            "No weight changes. backward() only computes gradients; who makes the step?",
            "가중치가 변하지 않습니다. backward()는 기울기만 계산합니다. 실제로 가중치를 바꾸는 것은 무엇일까요?",
        ),
        "no_backward": (
            "optimizer.step() comes when the gradients of this loss are not there. It uses those of the last "
            "backward(): zero_grad, backward, step.",
            "optimizer.step()을 호출할 때 이 손실의 기울기가 없습니다. step은 마지막 backward()가 계산한 기울기를 "
            "씁니다. 순서는 zero_grad, backward, step입니다.",
        ),
        "no_zero_grad": (
            "The first step is right, the next are not: gradients add up until they are cleared.",
            "첫 스텝은 맞지만 다음부터 틀립니다. 기울기는 지우기 전까지 계속 더해집니다.",
        ),
        "through_target": (
            "Gradients flow through the target: without a target network, y moves instead of only Q(s, a). y is a "
            "number to reach; compute it without gradients.",
            "타깃으로도 기울기가 흐릅니다. 타깃 네트워크가 없을 때 Q(s, a)뿐 아니라 y까지 움직입니다. y는 "
            "도달할 목표이므로 기울기 없이 계산하세요.",
        ),
        "wrong_sign": (
            "The step goes uphill: the error grows. SGD subtracts the gradient of what you call backward() on.",
            "오차가 커지는 방향으로 움직입니다. SGD는 backward()를 호출한 값의 기울기를 뺍니다.",
        ),
        "through_done": (
            "This bootstraps through done: where a transition ends the episode, y is the reward alone.",
            "done인 전이에서도 부트스트랩합니다. 에피소드를 끝낸 전이의 y는 보상뿐입니다.",
        ),
        "online_target": (
            "The maximum comes from net. With a separate target network it should come from target.",
            "최댓값을 net으로 계산합니다. 별도의 타깃 네트워크가 있으면 target으로 계산해야 합니다.",
        ),
        "columns": (
            "Shapes (B, 1) and (B,) make a (B, B) difference: every Q is compared with every y. With one transition "
            "nobody notices.",
            "모양이 (B, 1)인 텐서에서 (B,)인 텐서를 빼면 모양이 (B, B)가 되어 모든 Q를 모든 y와 비교합니다. 전이가 "
            "하나일 때는 드러나지 않습니다.",
        ),
        "all_actions": (
            "The values of all actions are pulled towards y. Only the action that was taken has been seen: "
            "pick Q(s, a).",
            "모든 행동의 가치를 y 쪽으로 끌어당깁니다. 실제로 한 행동의 결과만 알 수 있으므로 Q(s, a)만 고르세요.",
        ),
        "sum": (
            "The step is B times too long: the loss is the sum over the minibatch. Take the mean.",
            "스텝이 B배로 큽니다. 손실이 미니배치 전체의 합이기 때문입니다. 평균을 쓰세요.",
        ),
        "half": (
            "The step is half as long: the loss has a factor 1/2. The lecture's squared error has none.",
            "스텝이 절반으로 작습니다. 손실에 1/2이 곱해져 있습니다. 강의의 제곱 오차에는 1/2이 없습니다.",
        ),
        "absolute": (
            "The loss is the absolute error. The lecture takes the square.",
            "손실로 절대 오차를 썼습니다. 강의에서는 제곱 오차를 씁니다.",
        ),
        "huber": (
            "The loss is Huber's: it helps against divergence, but the lecture takes the square.",
            "손실로 후버(Huber) 손실을 썼습니다. 발산을 막는 데 도움이 되지만 강의에서는 제곱 오차를 씁니다.",
        ),
        "fixed_gamma": (
            "There is a number in place of gamma. It is an argument, and may differ from call to call.",
            "gamma 자리에 정해진 숫자를 썼습니다. gamma는 인수이므로 호출할 때마다 다를 수 있습니다.",
        ),
        "changes_target": (
            "The step changes the target network. Only net learns; target waits for its copy.",
            "이 스텝에서 타깃 네트워크가 바뀝니다. net만 학습하고, target은 복사될 때까지 그대로여야 합니다.",
        ),
        "wrong_step": (
            "The weights after the step are not the right ones. Check in turn: Q(s, a), y, the loss, the three calls "
            "zero_grad, backward, step.",
            "스텝 뒤의 가중치가 정답과 다릅니다. Q(s, a), y, 손실, 그리고 zero_grad, backward, step 호출을 "
            "차례로 확인하세요.",
        ),
    },
    "renew_target": {
        "reference": (
            "This shares the weights instead of copying them: when net learns, target moves with it, as if "
            "there were "
            "no target network.",
            "가중치를 복사하지 않고 함께 씁니다. net이 학습하면 target도 함께 움직여 타깃 네트워크가 없는 것과 "
            "같습니다.",
        ),
        "rebinds": (
            "target never changes. `target = ...` only gives another object this name inside the function.",
            "target이 전혀 바뀌지 않습니다. `target = ...`은 함수 안에서 그 이름을 다른 객체에 붙일 뿐입니다.",
        ),
        "returns_copy": (
            "target itself does not change: the function returns something new ({given}). Change the given network.",
            "target 자체는 바뀌지 않고 새로운 객체({given})를 돌려줍니다. 받은 네트워크를 바꾸세요.",
        ),
        "direction": (
            "The wrong direction: net has got the old weights of target, and what it learned is lost.",
            "방향이 반대입니다. net이 target의 옛 가중치를 받아 학습한 내용이 사라집니다.",
        ),
        "partial": (
            "Not everything is copied: {names} still has the old numbers.",
            "일부만 복사되었습니다. {names}의 값이 예전 그대로입니다.",
        ),
        "mixed": (
            "target has neither its old weights nor those of net. The lecture copies net as it is.",
            "target의 가중치가 예전 값도 net의 값도 아닙니다. 강의에서는 net을 그대로 복사합니다.",
        ),
        "every_episode": (
            "target is copied after every episode, so it hardly ever differs from net. Copy after every {every}th.",
            "에피소드가 끝날 때마다 복사하여 target과 net이 거의 같습니다. 에피소드 {every}개마다 복사하세요.",
        ),
        "negated": (
            "target is copied after all episodes but those that are due: `episode % every` is 0 when it is due.",
            "복사해야 할 때만 빼고 복사합니다. 복사할 차례에는 `episode % every`가 0입니다.",
        ),
        "fixed_every": (
            "The copies do not depend on `every`: they come after {given}, and every is {every} here.",
            "복사 시점이 every에 따라 달라지지 않습니다. 여기서 every는 {every}인데 {given}번 에피소드 뒤에 "
            "복사됩니다.",
        ),
        "off_by_one": (
            "The copies come one episode too early or too late: after {given} instead of {expected}.",
            "복사 시점이 에피소드 하나만큼 어긋납니다. {expected}번이 아니라 {given}번 에피소드 뒤에 복사됩니다.",
        ),
    },
    "test": {
        "explores": (
            "{given} of {expected} actions were not greedy. A test measures what was learned: no exploration.",
            "행동 {expected}개 중 {given}개가 탐욕적이지 않습니다. 테스트는 학습한 결과를 재는 것이므로 "
            "탐험하지 않습니다.",
        ),
        "smallest": (
            "The action of the smallest value is taken.",
            "가치가 가장 작은 행동을 고릅니다.",
        ),
        "limit_is_solved": (
            "An episode that reaches the step limit counts as solved. Only `terminated` means that it was delivered.",
            "스텝 제한에 걸린 에피소드까지 해결한 것으로 셉니다. terminated일 때만 승객을 내려 준 것입니다.",
        ),
        "solved_below_limit": (
            "An episode that delivers with its last allowed step counts as unsolved. Look at `terminated`, not "
            "at the "
            "number of steps.",
            "마지막으로 허용된 스텝에서 성공한 에피소드를 실패로 셉니다. 스텝 수가 아니라 terminated를 보세요.",
        ),
        "no_limit": (
            "An episode goes on after {steps} steps. A greedy policy can loop forever: cut it after max_steps.",
            "{steps}스텝이 지나도 에피소드가 계속됩니다. 탐욕 정책은 영원히 맴돌 수 있으므로 max_steps에서 끊으세요.",
        ),
        "one_step_more": (
            "Episodes are cut one step too late: after {steps} steps at most.",
            "에피소드를 한 스텝 늦게 끊습니다. 최대 {steps}스텝까지만 진행하세요.",
        ),
        "no_reset": (
            "An episode begins where the last one ended. Call env.reset() before each.",
            "이전 에피소드가 끝난 자리에서 시작합니다. 에피소드마다 env.reset()을 호출하세요.",
        ),
        "no_break": (
            "The steps go on after the environment has ended the episode (`terminated`). Nothing leaves the loop "
            "there.",
            "환경이 에피소드를 끝낸(terminated) 뒤에도 스텝을 계속합니다. 그때 반복문을 빠져나가는 코드가 없습니다.",
        ),
        "stale_state": (
            "All actions of an episode are those of its first state. The environment has gone on: env.step tells "
            "where.",
            "한 에피소드의 모든 행동을 첫 상태만 보고 고릅니다. 환경은 다른 상태로 넘어갔고, 그 상태는 env.step이 "
            "알려 줍니다.",
        ),
        "number_of_episodes": (
            "n_episodes is {expected} here: so many episodes are to be played (played: {given}), and the averages are "
            "over so many.",
            "여기서 n_episodes는 {expected}입니다. 에피소드를 그만큼 진행하고(지금은 {given}개) 그 수로 평균을 내야 "
            "합니다.",
        ),
        "totals": (
            "These are totals. Divide by the number of episodes, each of them.",
            "합계입니다. 네 값을 모두 에피소드 수로 나누세요.",
        ),
        "per_step": (
            "Penalties and reward are divided by the number of steps. The lecture's averages are per episode.",
            "벌점과 보상을 스텝 수로 나누었습니다. 강의의 평균은 에피소드당 평균입니다.",
        ),
        "negative_is_penalty": (
            "Every negative reward counts as a penalty. A step costs -1; a penalty is an illegal action, -10.",
            "음수 보상을 모두 벌점으로 셉니다. 한 스텝의 보상은 -1이고, 벌점은 잘못된 행동의 -10뿐입니다.",
        ),
        "penalty_reward": (
            "The rewards of the penalties are summed. Count the penalties.",
            "벌점의 보상을 더했습니다. 벌점의 횟수를 세세요.",
        ),
        "discounted": (
            "The rewards are discounted. The test reports the plain sum.",
            "보상을 할인했습니다. 테스트에서는 할인하지 않은 합을 보고합니다.",
        ),
        "last_only": (
            "These are the figures of the last episode only. Set the sums to 0 before the first episode, not in each.",
            "마지막 에피소드의 값뿐입니다. 합계는 매 에피소드가 아니라 맨 처음에 한 번만 0으로 두세요.",
        ),
        "solved_only": (
            "Only solved episodes are averaged, so a policy that fails looks good. All episodes count.",
            "해결한 에피소드만 평균을 냅니다. 그러면 실패하는 정책도 좋아 보입니다. 모든 에피소드를 포함하세요.",
        ),
        "not_four": (
            "Return four numbers: steps, penalties, reward, share of solved episodes. This is {given!r}.",
            "스텝 수, 벌점, 보상, 해결한 비율의 네 수를 돌려주세요. 지금은 {given!r}입니다.",
        ),
    },
}

#: Messages of all exercises
MESSAGES: dict[str, tuple[str, str]] = {
    "right": ("✔ {exercise}: right ({points} points)", "✔ {exercise}: 정답입니다 ({points}점)"),
    "not_yet": ("✘ {exercise}: {hint}", "✘ {exercise}: {hint}"),
    "blank": (
        "not filled in yet. Replace `raise NotImplementedError()` by your code.",
        "아직 채우지 않았습니다. `raise NotImplementedError()`를 지우고 코드를 작성하세요.",
    ),
    "nothing": (
        "the function returns None. Is `return` missing?",
        "함수가 None을 돌려줍니다. return을 빠뜨리지 않았나요?",
    ),
    "crash": ("the function fails with {error}, at `{line}`.", "함수에서 오류가 났습니다: {error}, 위치: `{line}`"),
    "wrong": (
        "not right yet. For {case} it gives {given}; right is {expected}.",
        "아직 정답이 아닙니다. {case}일 때 결과는 {given}이고, 정답은 {expected}입니다.",
    ),
    "missing": ("{file} has no function {exercise}.", "{file}에 {exercise} 함수가 없습니다."),
    "unknown": (
        "there is no exercise {exercise}; the exercises are {known}.",
        "{exercise}라는 연습 문제는 없습니다. 연습 문제: {known}",
    ),
    "total": ("{points} of {total} points", "{total}점 중 {points}점"),
}


def words(language: str, key: str, exercise: str | None = None, **details: object) -> str:
    """
    Return a hint or a message.

    :param language: "en" or "ko"
    :param key: Its key
    :param exercise: The exercise, for a hint. A message has the same words in all exercises
    :param details: What the text mentions
    :return: The text
    :raises ValueError: If the language is another
    """
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r} must be 'en' or 'ko'")
    texts = {**MESSAGES, **HINTS.get(exercise or "", {})}
    return texts[key][LANGUAGES.index(language)].format(exercise=exercise, **details)
