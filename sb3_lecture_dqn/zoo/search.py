"""The search space of the algorithms, for ``--optimize`` of the RL Zoo."""

import functools
from typing import TYPE_CHECKING, Any

import torch as th
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.envs.masks import MaskReader
from sb3_lecture_dqn.training.exploration import ANYWHERE

if TYPE_CHECKING:
    import optuna

NET_ARCH = {"small": [64, 64], "medium": [256, 256], "big": [400, 300]}  # the zoo's


def sample_params(
    trial: "optuna.Trial", settings: dict[str, Any], *, masks: bool = False, quantiles: bool = False
) -> dict[str, Any]:
    """
    Draw the parameters of a trial.

    The parameters depend on the settings that the search starts from. Everything that :func:`convert_params` needs is
    drawn; a value that the search does not vary, such as ``deduplicate``, is drawn from one choice.

    :param trial: The trial
    :param settings: The settings that the search starts from, with the name of the policy as ``policy``
    :param masks: Whether the environment offers action masks
    :param quantiles: Whether the algorithm is QR-DQN
    :return: The parameters by their names in the trial
    """
    params: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 2e-2, log=True),
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-3, 0.3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 3, 8),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 16, log=True),
        # Both schedules are drawn and one is used: the TPE sampler works best if all trials have the same search space.
        "exploration_by": trial.suggest_categorical("exploration_by", ["episode", "timestep"]),
        "one_minus_exploration_decay": trial.suggest_float("one_minus_exploration_decay", 1e-3, 0.1, log=True),
        "exploration_fraction": trial.suggest_float("exploration_fraction", 0.05, 0.8),
        "exploration_final_eps": trial.suggest_float("exploration_final_eps", 0.01, 0.2),
        "target_update_by": trial.suggest_categorical("target_update_by", ["episode", "step"]),
        "target_update_episodes": trial.suggest_int("target_update_episodes", 1, 50, log=True),
        "target_update_steps": trial.suggest_int("target_update_steps", 1, 1000, log=True),
        "double_q": trial.suggest_categorical("double_q", [False, True]),
    }
    if settings["policy"] in ("LecturePolicy", "ActionInPolicy"):
        params["hidden_dim_pow"] = trial.suggest_int("hidden_dim_pow", 3, 7)
    elif settings["policy"] != "TablePolicy":
        params["net_arch"] = trial.suggest_categorical("net_arch", list(NET_ARCH))
    if quantiles:
        params["n_quantiles"] = trial.suggest_int("n_quantiles", 5, 100, log=True)
    if masks:
        params["use_masking"] = trial.suggest_categorical("use_masking", [False, True])
    if "explore_least_tried" in settings:  # not every observation space allows it
        params["explore_least_tried"] = trial.suggest_categorical("explore_least_tried", [False, True, ANYWHERE])
    if "replay_buffer_class" not in settings:
        choices: list[float | None] = [None, 0.05, 0.1, 0.2, 0.3, 0.5]
        params["success_fraction"] = trial.suggest_categorical("success_fraction", choices)
        for key, value in settings.get("replay_buffer_kwargs", {}).items():
            if key != "success_fraction":
                params[f"memory_{key}"] = trial.suggest_categorical(f"memory_{key}", [value])
    return params


def convert_params(params: dict[str, Any]) -> dict[str, Any]:
    """
    Convert the parameters of a trial to settings.

    :param params: Parameters that :func:`sample_params` has drawn
    :return: Settings in the format of the zoo's files
    """
    policy_kwargs: dict[str, Any] = {"optimizer_class": th.optim.Adam}
    if "hidden_dim_pow" in params:
        policy_kwargs["hidden_dim"] = 2 ** params["hidden_dim_pow"]
    if "net_arch" in params:
        policy_kwargs["net_arch"] = NET_ARCH[params["net_arch"]]
    if "n_quantiles" in params:
        policy_kwargs["n_quantiles"] = params["n_quantiles"]
    by_episode = params["exploration_by"] == "episode"
    settings = {
        "learning_rate": f"lin_{params['learning_rate']}",
        "gamma": 1 - params["one_minus_gamma"],
        "batch_size": 2 ** params["batch_size_pow"],
        "gradient_steps": params["gradient_steps"],
        "exploration_decay": 1 - params["one_minus_exploration_decay"] if by_episode else None,
        "exploration_fraction": params["exploration_fraction"],
        "exploration_final_eps": params["exploration_final_eps"],
        "target_update_interval": (
            [params["target_update_episodes"], "episode"]
            if params["target_update_by"] == "episode"
            else params["target_update_steps"]
        ),
        "policy_kwargs": policy_kwargs,
    }
    for name in ("double_q", "use_masking", "explore_least_tried"):
        if name in params:
            settings[name] = params[name]
    if "success_fraction" in params:
        memory = {key.removeprefix("memory_"): value for key, value in params.items() if key.startswith("memory_")}
        settings["replay_buffer_kwargs"] = {**memory, "success_fraction": params["success_fraction"]}
    return settings


def sample_for_zoo(
    quantiles: bool,
    env_id: str | None,
    trial: "optuna.Trial",
    n_actions: int,
    n_envs: int,
    additional_args: dict[str, Any],
) -> dict[str, Any]:
    """
    Draw the settings of a trial. The zoo calls this, with its own four last arguments.

    :param quantiles: Whether the algorithm is QR-DQN
    :param env_id: Id of the training environment, ``None`` if not known
    :param trial: The trial. Its study has the settings that the search starts from, as text
    :param n_actions: Not used
    :param n_envs: Not used
    :param additional_args: Its ``her_kwargs`` are the ``replay_buffer_kwargs`` that the search starts from
    :return: Settings as keywords of the algorithm's constructor
    """
    settings = {**trial.study.user_attrs, "replay_buffer_kwargs": additional_args["her_kwargs"]}
    masks = env_id is not None and _offers_masks(env_id)
    drawn = convert_params(sample_params(trial, settings, masks=masks, quantiles=quantiles))
    rate = float(drawn["learning_rate"].removeprefix("lin_"))
    return {**drawn, "learning_rate": LinearSchedule(rate, 0.0, 1.0)}


@functools.cache
def _offers_masks(env_id: str) -> bool:
    env = DummyVecEnv([lambda: make_env(env_id)])
    env.reset()
    try:
        MaskReader(env).at_start()
    except ValueError:
        return False
    finally:
        env.close()
    return True
