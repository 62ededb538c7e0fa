"""``python -m sb3_lecture_dqn.zoo``."""

import sys

from sb3_lecture_dqn.zoo.scripts import main

if __name__ == "__main__":
    sys.exit(main())
