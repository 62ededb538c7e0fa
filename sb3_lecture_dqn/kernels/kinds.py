"""Numbers that identify networks, optimisers and losses in the kernels."""

TABLE, STATE_IN, ACTION_IN = range(3)
SGD, ADAM = range(2)
MSE, HUBER = range(2)

#: Number of the kernels' arithmetic. Raise it after a change that gives other bits, so that runs are not continued with
#: other rounding than they began with
ARITHMETIC = 2
