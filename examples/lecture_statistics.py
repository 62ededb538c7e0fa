"""The lecture's run for several seeds, tested exactly over all starts. It takes some seconds a seed with numba."""

import argparse
import time

from sb3_lecture_dqn import LectureDQN, LectureTestCallback, exact_test

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--episodes", type=int, default=5000)
args = parser.parse_args()

print("| seed | env steps | solved starts | steps | reward | penalties | successes, failures held | seconds |")
print("|---|---|---|---|---|---|---|---|")
for seed in args.seeds:
    started = time.perf_counter()
    model = LectureDQN("Taxi-v3", seed=seed, device="cpu")
    model.learn(callback=LectureTestCallback(verbose=0), total_episodes=args.episodes)
    seconds = time.perf_counter() - started
    result, memory = exact_test(model), model.replay_buffer
    print(
        f"| {seed} | {model.num_timesteps:,} | {result.success_rate:.1%} | {result.mean_steps:.2f} "
        f"| {result.mean_reward:.2f} | {result.mean_penalties:.2f} | {memory.success_size}, {memory.fail_size} "
        f"| {seconds:.0f} |",
        flush=True,
    )
