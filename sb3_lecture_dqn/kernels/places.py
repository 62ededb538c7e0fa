"""Where the numbers of the compiled loop are in its arrays, for the loop and for its callers."""

#: Numbers of ``counts``: totals that go in and come out; the steps or episodes when it was last asked whether a copy of
#: the target is due; and of the running rollout, the steps of each environment so far, the episodes before it, and
#: whether a step waits to be finished
(
    CLOCK,
    N_CALLS,
    EPISODES,
    TIMESTEPS,
    UPDATES,
    SUCCESSES,
    FAILURES,
    COPIES_COUNTED,
    COLLECTED,
    EPISODES_BEFORE,
    WAITS,
    N_COUNTS,
) = range(12)
#: Numbers of ``limits``. The loop comes back after MAX_ROLLOUTS, or after the rollout that reaches one of the others;
#: with PAUSES, also between a step of the environments and the rest of the work for it, where callbacks are called
MAX_ROLLOUTS, STOP_STEP, STOP_EPISODE, PAUSES, N_LIMITS = range(5)
#: Numbers of ``switches``: the settings
(
    TRAIN_FREQ,
    TRAIN_BY_EPISODE,
    GRADIENT_STEPS,
    LEARNING_STARTS,
    COPY_EVERY_CALLS,
    COPY_EVERY_STEPS,
    COPY_EVERY_EPISODES,
    HAS_TARGET,
    EXPLORES_BY_EPISODE,
    EPSILONS_FROM,
    LEAST_TRIED,
    CRITERION,
    BOOTSTRAPS_TIMEOUTS,
    IS_LATEST_ONLY,
    DEDUPLICATES,
    MAX_SUCCESSES,
    MAX_FAILURES,
    MAX_TOGETHER,
    STEP_LIMIT,
    ACTS_BY_MASKS,
    N_SWITCHES,
) = range(21)
#: ``switches[LEAST_TRIED]``
NOT_COUNTED, IN_THE_STATE, ANYWHERE = range(3)
#: More tries than any
MANY = 2**62
#: Which transitions are successes
TERMINAL, POSITIVE_REWARD, NEVER = range(3)
#: Columns of ``ended``: what Monitor says of an episode, and what the log has when it ends
RETURN, LENGTH, AT_TIMESTEP, EPSILON, LOSS, RATE, UPDATES_SO_FAR, N_COLUMNS = range(8)
#: Numbers of ``last``: progress after the last finished step; exploration rate, also of a step that waits, and of the
#: last finished step; mean loss and learning rate of the last updates; sum of the losses of the last rollout's updates,
#: and their number
PROGRESS, LAST_EPSILON, FINISHED_EPSILON, LAST_LOSS, LAST_RATE, LOSS_SUM, N_UPDATED, N_LAST = range(8)
#: Rows of ``schedules``: what the exploration rate and the learning rate are at the start, at the end, and after which
#: share of the budget the end is reached; and the budget, in steps and in episodes, of which one is 0
EXPLORATION, LEARNING, BUDGET = range(3)
#: Numbers of ``results``: why the loop came back; finished rollouts and steps of each environment; episodes that these
#: steps ended; episodes that have begun, also in a step that waits; whether there were updates; steps of each
#: environment in the rollout of the last step, up to it
STATUS, ROLLOUTS, STEPS, ENDED, BEGUN, UPDATED, IN_ROLLOUT, N_RESULTS = range(8)
#: ``results[STATUS]``
DONE, UPDATE_FAILED, MEMORY_EMPTY = range(3)
