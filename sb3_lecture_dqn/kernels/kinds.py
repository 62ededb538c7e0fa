"""Numbers that identify networks, activations, optimisers and losses in the kernels."""

#: What a network takes: a row of a table that is its result; the embedding of one state; that and the embedding of an
#: action; a vector made of parts
TABLE, STATE_IN, ACTION_IN, PARTS_IN = range(4)
#: Parts of an input: the embedding of a code, the one-hot vector of a code, numbers as they are
EMBEDDED, ONE_HOT, NUMBERS = range(3)
#: Activations: none, PReLU, LeakyReLU (ReLU has slope 0), Tanh, ELU
LINEAR, PRELU, LEAKY_RELU, TANH, ELU = range(5)
SGD, NESTEROV, ADAM, ADAMW, RMSPROP = range(5)
MSE, HUBER, QUANTILE = range(3)

#: Number of the kernels' arithmetic. Raise it after a change that gives other bits, so that runs are not continued with
#: other rounding than they began with
ARITHMETIC = 2
