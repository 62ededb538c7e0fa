"""Running a plan on a Ray cluster."""

import os
import pathlib
import warnings
from typing import Any

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.study.plan import Plan, Trial
from sb3_lecture_dqn.study.runner import CHECKPOINT_FREQ, MAX_LOSSES, open_study, trials_folder
from sb3_lecture_dqn.study.trial import Row, attempt


def run_plan_on_ray(
    plan: Plan,
    folder: str | pathlib.Path,
    address: str | None = None,
    processes: int | None = None,
    checkpoint_freq: int = CHECKPOINT_FREQ,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """
    Run the unfinished trials of a plan by Ray Tune, which starts a lost trial again on another node.

    Works like :func:`run_plan`, with the same rows: either function can continue a study of the other. All nodes must
    have the package installed, and must share the folder, because it holds the table of results and the checkpoints.

    :param plan: See :func:`run_plan`
    :param folder: See :func:`run_plan`
    :param address: Address of the cluster, or ``"auto"``. ``None`` for the cluster of an earlier ``ray.init``, or else
        for a cluster on this machine, which ends with the call
    :param processes: Number of trials at once on a cluster that this call starts, ``None`` for one on every core. Any
        other cluster runs one trial on every core
    :param checkpoint_freq: See :func:`run_plan`
    :param progress: See :func:`run_plan`
    :return: See :func:`run_plan`
    :raises ImportError: If Ray is not installed
    :raises KeyboardInterrupt: If Ctrl-C stops Ray Tune
    :raises ValueError: See :func:`run_plan`
    """
    # One of Ray's loggers is enough, and its own output would break the progress bar.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        import ray
        from ray import tune
        from ray.tune.logger import JsonLoggerCallback
    except ImportError as error:
        raise ImportError("a study on Ray needs Ray Tune: pip install 'sb3-lecture-dqn[ray]'") from error
    if processes is not None:
        check_number("processes", processes, 1, integer=True)
        if address is not None or ray.is_initialized():
            raise ValueError(f"processes={processes}: only for a cluster that this call starts; leave it out")
    check_number("checkpoint_freq", checkpoint_freq, 1, integer=True)

    with open_study(plan, folder, progress) as (table, waiting, record):
        if not waiting:
            return table.rows()

        class Recorder(tune.Callback):  # type: ignore[misc]
            def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
                record(waiting[trial.config["index"]], result["row"])

            def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                error = f"the trial was lost {MAX_LOSSES + 1} times: {trial.error_file or 'see the logs of Ray'}"
                record(waiting[trial.config["index"]], {"error": error})

        started_here = not ray.is_initialized()
        if started_here:
            ray.init(address, num_cpus=processes, log_to_driver=False, logging_level="warning")
        try:
            trainable = tune.with_parameters(
                _train, trials=waiting, folder=trials_folder(folder), checkpoint_freq=checkpoint_freq
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray's own
                tune.Tuner(
                    tune.with_resources(trainable, {"cpu": 1}),
                    param_space={"index": tune.grid_search(list(range(len(waiting))))},
                    tune_config=tune.TuneConfig(reuse_actors=True),  # a new process takes seconds to import
                    run_config=tune.RunConfig(
                        storage_path=str(pathlib.Path(folder).resolve() / "ray"),
                        failure_config=tune.FailureConfig(max_failures=MAX_LOSSES),
                        callbacks=[Recorder(), JsonLoggerCallback()],  # without the second Tune complains at the end
                        verbose=0,
                    ),
                ).fit()
        finally:
            if started_here:
                ray.shutdown()
        rows = table.rows()
        keys = {trial.key for trial in waiting}
        if any(row["state"] == "waiting" and (row["task"], row["setting"], row["seed"]) in keys for row in rows):
            raise KeyboardInterrupt  # Ray Tune returns after Ctrl-C
        return rows


def _train(config: dict[str, Any], trials: list[Trial], folder: pathlib.Path, checkpoint_freq: int) -> None:
    from ray import tune

    row: Row = attempt(trials[config["index"]], folder, checkpoint_freq)
    tune.report({"row": row})
