"""``python -m sb3_lecture_dqn`` is the command ``sb3-lecture-dqn``."""

import sys

from sb3_lecture_dqn.cli import main

if __name__ == "__main__":
    sys.exit(main())
