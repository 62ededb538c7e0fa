"""Numbers that identify networks, optimisers and losses in the kernels."""

TABLE, STATE_IN, ACTION_IN = range(3)
SGD, ADAM = range(2)
MSE, HUBER = range(2)
