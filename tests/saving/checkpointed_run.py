"""
A run that goes on from its newest checkpoint, for ``ckpt-chaos``, which kills it at every change of a file::

    python tests/saving/checkpointed_run.py FOLDER ENGINE [--step-by-step]

The folder gets the checkpoints, and at the end ``result.txt``, a checksum of all that came of the run.
"""

import argparse
import hashlib
from pathlib import Path

import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in

#: Environment steps, and between two checkpoints
N_STEPS, SAVE_FREQ = 100, 40


class EveryStep(BaseCallback):
    """Does not say when it is due, so that there is no compiled loop."""

    def _on_step(self) -> bool:
        return True


def outcome_of(model: LectureDQN) -> str:
    """Checksum of what a run ends with."""
    memory = model.replay_buffer.get_state()
    numbers = [value.numpy().tobytes() for value in model.policy.state_dict().values()]
    numbers += [memory["success"].tobytes(), memory["fail"].tobytes()]
    states = (model.num_timesteps, model._episode_num, model._n_updates, memory["rng"], model._exploration.get_state())
    return hashlib.sha256(b"".join(numbers) + repr(states).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("engine", choices=["torch", "numba"])
    parser.add_argument("--step-by-step", action="store_true", help="without the compiled loop")
    args = parser.parse_args()
    th.set_num_threads(1)
    checkpoints = args.folder / "checkpoints"
    if checkpoints_in(checkpoints):
        model = LectureDQN.resume(checkpoints)
        print(f"resumed from step {model.num_timesteps}")
    else:
        settings = {"engine": args.engine, "policy_kwargs": {"hidden_dim": 4}, "gradient_steps": 1}
        model = LectureDQN("FrozenLake-v1", seed=0, **settings)
        print("resumed from step 0")
    saving = LectureCheckpointCallback(SAVE_FREQ, checkpoints, keep=None, verbose=0)
    model.learn(N_STEPS, callback=[saving, EveryStep()] if args.step_by_step else saving)
    (args.folder / "result.txt").write_text(outcome_of(model))


if __name__ == "__main__":
    main()
