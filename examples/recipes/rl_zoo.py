"""
The RL Zoo from a script of your own, with an algorithm of your own beside those of this package.

    python examples/recipes/rl_zoo.py --env Taxi-v3 --n-timesteps 2000 --eval-freq 1000

Needs the extra ``zoo``. Without a script: ``python -m sb3_lecture_dqn.zoo train --algo lecture_dqn --env Taxi-v3``.
"""

import sys

from rl_zoo3.train import train

from sb3_lecture_dqn import LectureDQN, zoo


class MyDQN(LectureDQN):
    """Your changes."""


zoo.ALGOS["my_dqn"] = MyDQN
zoo.register("Taxi-v3")  # with the search space of `--optimize`

if __name__ == "__main__":
    sys.argv[1:1] = ["--algo", "my_dqn", "--conf-file", zoo.hyperparams_files()["lecture_dqn"]]
    with zoo.masked_evaluation():  # for models that use masks; it changes nothing else of the zoo or of SB3
        train()
