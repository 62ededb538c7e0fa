"""
A callback of your own that says when it is due, so that training need not stop for it at every step.

    python examples/recipes/own_callback.py
"""

from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import Due, LectureDQN


class LowerGamma(BaseCallback):
    """Lowers the discount factor every thousand calls."""

    def next_due(self) -> Due:
        return Due(calls=1000 - self.n_calls % 1000)  # without this method, it would be called at every step

    def _on_step(self) -> bool:
        if self.n_calls % 1000 == 0:  # it may be called more often
            self.model.gamma *= 0.99
            print(f"step {self.num_timesteps}: gamma={self.model.gamma:.3f}")
        return True


LectureDQN("Taxi-v3", seed=0, verbose=1).learn(5000, callback=LowerGamma())
