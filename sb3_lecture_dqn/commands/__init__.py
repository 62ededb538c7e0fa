"""
The commands of ``sb3-lecture-dqn``, one file each, which has

- ``SUMMARY``: one line for the help,
- ``EXAMPLES``: words of the command and what they do; the help of all commands shows the first one,
- ``add_options(parser)``: the command's options,
- ``run(args)``: what the command does; it returns the exit code.

To add a command, write such a file, and add its name to :data:`COMMANDS`. The files import heavy modules (PyTorch,
gymnasium, NumPy) within ``run``, so that help and wrong options are answered at once.
"""

#: The commands in the order of the help
COMMANDS = ("train", "test", "diagnose", "watch", "plot", "page", "ablate")
