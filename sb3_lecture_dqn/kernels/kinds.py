"""The numbers by which kernels know networks, optimisers and losses."""

TABLE, STATE_IN, ACTION_IN = range(3)
SGD, ADAM = range(2)
MSE, HUBER = range(2)
