"""An environment like the model's own is like it: against plain loops on environments that were made by hand."""

import copy
import os
import pathlib
import threading
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle, RecordConstructorArgs
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from sb3_lecture_dqn import (
    LectureCheckpointCallback,
    LectureDQN,
    LectureTestCallback,
    NotTabularError,
    TabularModel,
    TabularVecEnv,
    exact_test,
    run_test,
)
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError, same
from sb3_lecture_dqn.evaluation.environment import make_test_env
from sb3_lecture_dqn.evaluation.like_model import env_like_model, step_limit_of
from tests.pairs import every

LIMIT = 40


class Doubled(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


class Shifted(gym.ObservationWrapper, RecordConstructorArgs):
    def __init__(self, env, by=0.1):
        RecordConstructorArgs.__init__(self, by=by)
        super().__init__(env)
        self.by = by

    def observation(self, observation):
        return observation + np.float32(self.by)


def scaled(env):
    factor = 3.0
    return wrappers.TransformReward(env, lambda reward: factor * reward)


def stacked(env):
    return wrappers.FlattenObservation(wrappers.FrameStackObservation(env, 3))


def mirrored(env):
    return wrappers.TransformObservation(env, lambda obs: -obs, env.observation_space)


# Wrappers, and those that give the same test: without normalised rewards
CHAINS = {
    "bare": (lambda env: env, None),
    "TimeLimit": (lambda env: wrappers.TimeLimit(env, 7), None),
    "two limits": (lambda env: wrappers.TimeLimit(wrappers.TimeLimit(env, 9), 11), None),
    "TransformReward": (scaled, None),
    "ClipReward": (lambda env: wrappers.ClipReward(env, 0.0, 0.5), None),
    "TransformObservation": (mirrored, None),
    "FrameStack": (stacked, None),
    "TimeAware": (wrappers.TimeAwareObservation, None),
    "Sticky": (lambda env: wrappers.StickyAction(env, 0.5), None),
    "Delay": (lambda env: wrappers.DelayObservation(env, 2), None),
    "MaxAndSkip": (lambda env: wrappers.MaxAndSkipObservation(env, 2), None),
    "Rescale": (lambda env: wrappers.DtypeObservation(env, np.float64), None),
    "own reward": (Doubled, None),
    "own observation": (Shifted, None),
    "NormalizeObservation": (wrappers.NormalizeObservation, None),
    "both": (lambda env: scaled(wrappers.NormalizeObservation(wrappers.TimeLimit(env, 15))), None),
    "NormalizeReward": (wrappers.NormalizeReward, lambda env: env),
    "around NormalizeReward": (lambda env: scaled(wrappers.NormalizeReward(Doubled(env))), Doubled),
    "skip around it": (
        lambda env: wrappers.MaxAndSkipObservation(wrappers.NormalizeReward(env), 2),
        lambda env: wrappers.MaxAndSkipObservation(env, 2),
    ),
    "statistics of episodes": (wrappers.RecordEpisodeStatistics, lambda env: env),
    "Monitor inside": (lambda env: wrappers.ClipReward(Monitor(env), 0.0, 0.5), None),
}


def chain(env):
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def plain_test(model, env, n_episodes, seed, normalize):
    """Each episode from a seed of its own, as the sub-environments of a test have them."""
    steps, total = 0, 0.0
    for episode in range(n_episodes):
        obs, _ = env.reset(seed=seed + episode)
        over = False
        while not over:
            action, _ = model.predict(normalize(obs), deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(int(action))
            steps, total, over = steps + 1, total + np.float32(reward), terminated or truncated
    return steps / n_episodes, total / n_episodes


@pytest.mark.parametrize(
    ("name", "with_vec_normalize", "algorithm"), every(2, CHAINS, [False, True], [LectureDQN, DQN])
)
def test_the_figures_are_those_of_a_plain_loop_on_an_environment_made_by_hand(name, with_vec_normalize, algorithm):
    wrap, as_tested = CHAINS[name]
    env = wrap(gym.make("CartPole-v1", max_episode_steps=LIMIT))
    venv = DummyVecEnv([lambda: Monitor(env)])
    model = algorithm("MlpPolicy", VecNormalize(venv) if with_vec_normalize else venv, seed=0, learning_starts=5)
    model.learn(60)
    env.unwrapped.gravity, env.unwrapped.length = 25.0, 0.9  # from now on
    env.unwrapped.polemass_length = 0.2

    by_hand = (as_tested or wrap)(gym.make("CartPole-v1", max_episode_steps=LIMIT))
    by_hand.unwrapped.gravity, by_hand.unwrapped.length, by_hand.unwrapped.polemass_length = 25.0, 0.9, 0.2
    for one in chain(by_hand):
        if isinstance(one, wrappers.NormalizeObservation):
            one.obs_rms = next(w.obs_rms for w in chain(env) if isinstance(w, wrappers.NormalizeObservation))
            one.update_running_mean = False
    normalize = model.get_vec_normalize_env().normalize_obs if with_vec_normalize else lambda obs: obs

    before = copy.deepcopy([vars(one) for one in chain(env)]), env.unwrapped.np_random.bit_generator.state
    result = run_test(model, n_episodes=4, seed=7)
    after = [vars(one) for one in chain(env)], env.unwrapped.np_random.bit_generator.state
    assert same(before, after), "the test has changed the training's environment"
    steps, reward = plain_test(model, by_hand, 4, 7, normalize)
    assert (result.mean_steps, result.mean_reward) == (steps, pytest.approx(reward, abs=1e-5))


def test_as_sb3_with_the_trainings_statistics():
    env = wrappers.NormalizeObservation(gym.make("CartPole-v1"))
    model = LectureDQN("MlpPolicy", env, seed=1, learning_rate=1e-3).learn(300)
    result = run_test(model, n_episodes=5, seed=3)
    env.update_running_mean = False
    venv = model.get_env()
    lengths = []
    for seed in range(3, 8):
        venv.seed(seed)
        lengths.append(evaluate_policy(model, venv, 1, warn=False)[0])
    assert result.mean_reward == np.mean(lengths)


def test_the_tables_of_the_training_are_tested_on():
    env = gym.make("FrozenLake-v1", desc=None, map_name=None, is_slippery=False)  # a random map
    model = LectureDQN(env, seed=0).learn(20)
    own = TabularModel.from_env(env)
    assert make_test_env(model, None, None, 1).model.same_as(own)
    for actions in env.unwrapped.P.values():
        for action in actions:
            actions[action] = [(p, s, -5.0, end) for p, s, _, end in actions[action]]
    assert (make_test_env(model, None, None, 1).model.rewards == -5).all()
    assert exact_test(model).mean_reward == -5 * exact_test(model).mean_steps


def test_tables_behind_what_only_writes_or_shows(tmp_path):
    env = gym.make("FrozenLake-v1", render_mode="rgb_array")
    env = wrappers.RecordEpisodeStatistics(wrappers.RecordVideo(env, str(tmp_path / "videos"), lambda _: False))
    assert isinstance(make_test_env(LectureDQN(Monitor(env)), None, None, 3), TabularVecEnv)


def test_a_wrapper_around_a_table_is_stepped():
    model = LectureDQN(Doubled(gym.make("FrozenLake-v1")), seed=0)
    with pytest.raises(NotTabularError, match=r"Doubled around .*FrozenLake"):
        exact_test(model)
    assert run_test(model, n_episodes=2).n_episodes == 2

    class Halved(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            obs, rewards, dones, infos = self.venv.step_wait()
            return obs, rewards / 2, dones, infos

    model = LectureDQN(Halved(TabularVecEnv("FrozenLake-v1")))
    with pytest.raises(NotTabularError, match="Halved"):
        exact_test(model)
    with pytest.raises(CannotCopyError, match=r"env=None: .*TabularVecEnv.* cannot be copied"):
        run_test(model)


def test_videos_of_the_training_are_left_alone(tmp_path):
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env = wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    model = LectureDQN("MlpPolicy", env, seed=0)
    model.learn(total_episodes=2)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "videos").iterdir()}
    test = make_test_env(model, None, None, 2)
    assert not any(isinstance(w, wrappers.RecordVideo) for sub in test.envs for w in chain(sub))
    assert test.envs[0].unwrapped.screen is None, "a picture is drawn on the training's surface"
    run_test(model, n_episodes=3)
    model.learn(total_episodes=1, callback=LectureTestCallback(test_freq=5, n_test_episodes=2, verbose=0))
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    env.close()


def test_nothing_is_shown(monkeypatch):
    monkeypatch.setitem(os.environ, "SDL_VIDEODRIVER", "dummy")
    for env in (
        gym.make("CartPole-v1", render_mode="human"),
        wrappers.HumanRendering(gym.make("CartPole-v1", render_mode="rgb_array")),
    ):
        model = LectureDQN("MlpPolicy", env, seed=0).learn(3)
        for sub in make_test_env(model, None, None, 2).envs:
            assert sub.render_mode != "human"
            assert sub.unwrapped.screen is None
        env.close()


def registered(monkeypatch, make, **settings):
    spec = EnvSpec("Own-v0", lambda **kwargs: make(**kwargs), disable_env_checker=True, **settings)
    monkeypatch.setitem(gym.registry, "Own-v0", spec)
    return "Own-v0"


class Own(gym.Env):
    """Its reward is a setting; it counts in all episodes, and has a generator of its own."""

    observation_space = spaces.Box(-9, 9, (1,))
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, reward=1.0, render_mode=None):
        self.worth, self.render_mode = reward, render_mode
        self.rng = np.random.default_rng(0)
        self.n_steps_ever = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.n_steps += 1
        self.n_steps_ever += 1
        return np.float32(self.rng.normal(size=1).clip(-9, 9)), self.worth, self.n_steps == 5, False, {}


def test_a_model_learnt_by_id_is_tested_with_what_was_set_since(monkeypatch):
    model = LectureDQN("MlpPolicy", registered(monkeypatch, Own), seed=0)
    assert run_test(model, n_episodes=2).mean_reward == 5
    model.get_env().set_attr("worth", 3.0)
    assert model.get_env().envs[0].unwrapped.worth == 3, "SB3's Monitor has it, and the environment has not"
    assert run_test(model, n_episodes=2).mean_reward == 15


def test_an_attribute_that_the_environment_does_not_see_is_asked_about(monkeypatch):
    model = DQN("MlpPolicy", registered(monkeypatch, Own), seed=0)
    model.get_env().set_attr("worth", 3.0)  # SB3 sets it on the Monitor
    with pytest.raises(CannotCopyError, match=r"'worth' was set on the Monitor.*goes on with 1\.0"):
        run_test(model, n_episodes=2)
    model.get_env().set_attr("remark", "mine")
    vars(model.get_env().envs[0]).pop("worth")
    assert run_test(model, n_episodes=2).mean_reward == 5


def test_random_numbers_are_others_in_every_environment(monkeypatch):
    model = LectureDQN("MlpPolicy", gym.make(registered(monkeypatch, Own)), seed=0).learn(7)
    own = model.get_env().envs[0].unwrapped
    drawn = []
    for _ in range(2):
        venv = make_test_env(model, None, None, 3)
        venv.seed(1)
        venv.reset()
        drawn.append([env.unwrapped.rng.random() for env in venv.envs])
    assert drawn[0] == drawn[1], "the same for the same state of the training"
    assert len({*drawn[0], np.random.default_rng(0).random(), copy.deepcopy(own.rng).random()}) == 5


@pytest.mark.parametrize("exact", [False, True])
def test_a_callback_follows_what_training_changes(exact, monkeypatch):
    env = gym.make("FrozenLake-v1", is_slippery=False) if exact else gym.make(registered(monkeypatch, Own))

    class Change(BaseCallback):
        def _on_step(self):
            if self.n_calls == 11 and exact:
                for actions in env.unwrapped.P.values():
                    for action in actions:
                        actions[action] = [(p, s, -1.0, end) for p, s, _, end in actions[action]]
            elif self.n_calls == 11:
                env.unwrapped.worth = 2.0
            return True

    test = LectureTestCallback(test_freq=10, n_test_episodes=3, exact=exact, verbose=0, max_episode_steps=4)
    LectureDQN("LecturePolicy" if exact else "MlpPolicy", env, seed=0).learn(20, [Change(), test])
    before, after = (result.mean_reward for _, result in test.results)
    assert (before, after) == ((0, -test.results[1][1].mean_steps) if exact else (4, 8))


def test_training_is_the_same_with_and_without_tests():
    def trained(callback):
        env = wrappers.NormalizeObservation(wrappers.StickyAction(gym.make("CartPole-v1"), 0.3))
        model = LectureDQN("MlpPolicy", env, seed=0, learning_rate=1e-3)
        model.learn(150, callback)
        return model, env

    test = LectureTestCallback(test_freq=20, n_test_episodes=3, verbose=0)
    (plain, env), (tested, env_of_tested) = trained(None), trained(test)
    assert len(test.results) == 7
    for name, weights in plain.get_parameters()["policy"].items():
        assert (weights == tested.get_parameters()["policy"][name]).all(), name
    assert env.unwrapped.np_random.bit_generator.state == env_of_tested.unwrapped.np_random.bit_generator.state
    assert np.array_equal(env.obs_rms.mean, env_of_tested.obs_rms.mean)
    again = LectureTestCallback(test_freq=20, n_test_episodes=3, verbose=0)
    trained(again)
    assert again.results == test.results


# What cannot be copied is asked for


class Plain(gym.Wrapper):
    pass


class Written(gym.ObservationWrapper, RecordConstructorArgs):
    def __init__(self, env, file):
        RecordConstructorArgs.__init__(self, file=file)
        super().__init__(env)
        self.file = file

    def observation(self, observation):
        return observation


class OwnStatistics(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.mean, self.count = np.zeros(1), 0

    def observation(self, observation):
        self.count += 1
        self.mean = self.mean + (observation - self.mean) / self.count
        return observation - self.mean.astype(np.float32)


class Locked(Own):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Given(Own):
    def __deepcopy__(self, memo):
        return Given()


class Gone(Own):
    def __del__(self):
        pass


def like_in_vecs(make, n=2):
    return DummyVecEnv([lambda k=k: make(k) for k in range(n)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Own, "Own, has no gymnasium spec"),
        (lambda: Plain(gym.make("CartPole-v1")), "what Plain around .* does besides"),
        (lambda: Written(gym.make("CartPole-v1"), "logs/episodes.csv"), "Written .*may write: its file is 'logs/"),
        (lambda: Written(gym.make("CartPole-v1"), pathlib.Path("episodes")), "Written .*may write: its file is "),
        (lambda: OwnStatistics(gym.make("CartPole-v1")), "OwnStatistics .* keeps mean, count from one episode"),
        (lambda: spec_of(Locked()), "'lock' of Locked .* cannot be copied"),
        (lambda: spec_of(Given()), "Given defines how it is copied"),
        (lambda: spec_of(Gone()), "Gone defines how it is copied"),
        (lambda: SubprocVecEnv([lambda: gym.make("CartPole-v1")]), "in processes of its own"),
        (
            lambda: like_in_vecs(lambda k: gym.make("CartPole-v1", max_episode_steps=9 + k)),
            "0 and 1 .* differ in _max_episode_steps of TimeLimit",
        ),
        (lambda: like_in_vecs(lambda k: spec_of(Own(reward=k))), "0 and 1 .* differ in worth of Own"),
        (
            lambda: like_in_vecs(lambda k: (lambda env: Doubled(env) if k else env)(gym.make("CartPole-v1"))),
            "0 and 1 .* are wrapped differently",
        ),
        (
            lambda: like_in_vecs(lambda k: gym.make("FrozenLake-v1", is_slippery=bool(k))),
            "0 and 1 .* have different tables",
        ),
        (
            lambda: like_in_vecs(lambda k: wrappers.TransformReward(gym.make("CartPole-v1"), lambda r: k * r)),
            "0 and 1 .* differ in func of TransformReward",
        ),
        (
            lambda: wrappers.TransformReward(gym.make("CartPole-v1"), lambda r: r * GLOBAL.unwrapped.gravity),
            "uses the global variable 'GLOBAL'",
        ),
    ],
)
def test_what_cannot_be_copied_is_asked_for(make, message):
    env = make()
    policy = "LecturePolicy" if isinstance(env.observation_space, spaces.Discrete) else "MlpPolicy"
    model = (
        PPO("MlpPolicy", env, n_steps=8, batch_size=8) if isinstance(env, SubprocVecEnv) else LectureDQN(policy, env)
    )
    if not isinstance(env, SubprocVecEnv):
        model.learn(20)
    try:
        with pytest.raises(CannotCopyError, match=rf"^env=None: .*{message}.*; give a test environment, env=\.\.\.$"):
            run_test(model)
        with pytest.raises(CannotCopyError, match=rf"^test_env=None: .*{message}.*, test_env=\.\.\.$"):
            model.learn(20, LectureTestCallback())
        assert model.get_env() is not None
    finally:
        env.close()


GLOBAL = gym.make("CartPole-v1")


def spec_of(env):
    env.spec = EnvSpec("Own-v0", type(env))
    return env


def test_sub_environments_that_differ_only_in_their_episodes_are_alike(monkeypatch):
    own = registered(monkeypatch, Own)
    model = PPO("MlpPolicy", make_vec_env(own, 3), n_steps=8, batch_size=8).learn(30)
    assert run_test(model, n_episodes=4).mean_reward == 5
    masked = DummyVecEnv([lambda: ActionMasker(gym.make("CartPole-v1"), lambda _: np.array([True, False]))] * 2)
    model = LectureDQN("MlpPolicy", masked, use_masking=True, seed=0).learn(40)
    assert 8 <= run_test(model, n_episodes=4).mean_steps <= 11


def test_functions_are_copied_with_what_they_have_captured():
    """Else a counting function would be changed by tests, and one that looks at its environment sees the training's."""
    env = gym.make("CartPole-v1")
    counts = [0]

    def counted(reward):
        counts[0] += 1
        return reward + env.unwrapped.steps_beyond_terminated if env.unwrapped.steps_beyond_terminated else reward

    model = LectureDQN("MlpPolicy", wrappers.TransformReward(env, counted), seed=0).learn(30)
    test = make_test_env(model, None, None, 2)
    function = next(w.func for w in chain(test.envs[0]) if isinstance(w, wrappers.TransformReward))
    captured = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
    assert captured["env"].cell_contents.unwrapped is test.envs[0].unwrapped
    run_test(model, n_episodes=3)
    assert counts == [30]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_test(model, n_episodes=2)


class Engine:
    """Something in C that Python cannot copy."""

    def __reduce_ex__(self, _):
        raise TypeError("cannot pickle 'Engine'")


class Physics(EzPickle, Own):
    def __init__(self, reward=1.0, render_mode=None):
        EzPickle.__init__(self, reward, render_mode)
        Own.__init__(self, reward, render_mode)
        self.engine = Engine()
        self.made_for = render_mode


def test_an_environment_that_its_constructor_makes_gets_what_was_set_since(monkeypatch):
    """As those of MuJoCo, Box2D and Atari: to copy one by `copy` forgets attributes."""
    env = gym.make(registered(monkeypatch, Physics), reward=2.0, render_mode="human")
    model = LectureDQN("MlpPolicy", env, seed=0).learn(8)
    assert run_test(model, n_episodes=2).mean_reward == 10
    env.unwrapped.worth = 7.0
    assert run_test(model, n_episodes=2).mean_reward == 35
    (sub,) = make_test_env(model, None, None, 1).envs
    assert sub.unwrapped.engine is not env.unwrapped.engine
    assert sub.unwrapped.render_mode is None


# Step limits


def test_frames_are_still_stacked_and_a_given_limit_takes_the_place_of_all():
    env = wrappers.TimeLimit(gym.make("CartPole-v1", max_episode_steps=9), 7)
    model = LectureDQN("MlpPolicy", VecFrameStack(DummyVecEnv([lambda: env]), 3), seed=0)
    assert step_limit_of(model.get_env()) == model.max_episode_steps == 7
    assert step_limit_of(env_like_model(model)) == 7
    test = env_like_model(model, 2, 30)
    assert [step_limit_of(DummyVecEnv([lambda sub=sub: sub])) for sub in test.unwrapped.envs] == [30, 30]
    assert isinstance(test, VecFrameStack)
    assert run_test(model, n_episodes=3).mean_steps <= 7


def test_an_episode_without_a_limit_is_warned_of(monkeypatch):
    class Long(Own):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, self.n_steps == 10_500, False, {}

    model = LectureDQN("MlpPolicy", registered(monkeypatch, Long))
    with pytest.warns(UserWarning, match="max_episode_steps=None, and an episode of the test has had 10000 steps"):
        assert run_test(model, n_episodes=1).mean_steps == 10_500


# Which environment a file knows


def lake():
    return gym.make("FrozenLake-v1", is_slippery=False)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda model, path: model.set_env(lake()) or model,
        lambda model, path: model.set_env(VecNormalize(model.get_env(), norm_obs=False)) or model,
        lambda model, path: (model.save(path), LectureDQN.load(path, env=lake()))[1],
        lambda model, path: (model.save(path), LectureDQN.load(path, env=lake(), trust=True))[1],
    ],
)
def test_a_file_knows_the_environment_that_was_trained_on_or_none(change, trust, tmp_path):
    model = change(LectureDQN("FrozenLake-v1", seed=0), tmp_path / "before")
    assert model.env_id is None
    assert model.max_episode_steps == 100
    model.learn(10)
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model", trust=trust)
    with pytest.raises(ValueError, match=r"env=None: the model has no environment.*; give a test environment"):
        run_test(loaded)
    with pytest.raises(ValueError, match=r"env=None: the model has no environment.*; give a test environment"):
        exact_test(loaded)
    with pytest.raises(ValueError, match=r"env=None: the model has no environment.*load\(path, env=\.\.\.\)"):
        loaded.learn(10)
    assert exact_test(loaded, lake()) == exact_test(model, lake())


def test_a_file_knows_the_environment_that_was_made_by_the_models_id(tmp_path):
    model = LectureDQN("Taxi-v3", max_episode_steps=30, seed=0)
    model.set_env(model.get_env())
    for _ in range(2):
        model.learn(5)
        model.save(tmp_path / "model")
        model = LectureDQN.load(tmp_path / "model")
        assert (model.env_id, model.max_episode_steps, model.env) == ("Taxi-v3", 30, None)
    assert step_limit_of(env_like_model(model)) == 30


def test_a_checkpoint_knows_none_after_set_env(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.set_env(lake())
    model.learn(20, LectureCheckpointCallback(10, tmp_path))
    with pytest.raises(ValueError, match="env=None, but the run had an environment object without an id"):
        LectureDQN.resume(tmp_path)
    assert LectureDQN.resume(tmp_path, env=lake()).learn(40).num_timesteps == 40


def test_an_id_that_makes_another_environment_every_time_is_asked_about(monkeypatch, tmp_path):
    spec = EnvSpec("Anywhere-v0", "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv", max_episode_steps=50)
    spec.kwargs = {"desc": None, "map_name": None}
    monkeypatch.setitem(gym.registry, "Anywhere-v0", spec)
    model = LectureDQN("Anywhere-v0", seed=0)
    model.learn(20, [LectureTestCallback(test_freq=5, verbose=0), LectureCheckpointCallback(10, tmp_path)])
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    asks = pytest.raises(CannotCopyError, match=r"FrozenLakeEnv is made with another .*desc.* every time")
    with asks:
        run_test(loaded)
    with asks:
        exact_test(loaded)
    with asks:
        loaded.learn(10)
    with asks:
        LectureDQN.resume(tmp_path)
    assert run_test(loaded, model.get_env()).n_episodes == 100


# What version 1.0 wrote

GOLDEN = pathlib.Path(__file__).parent.parent / "saving" / "golden"


def test_a_run_of_1_0_keeps_its_limit():
    loaded = LectureDQN.load(GOLDEN / "dqn-1.0.0.zip")
    assert (loaded.env_id, loaded.max_episode_steps) == ("FrozenLake-v1", 1000)
    assert step_limit_of(env_like_model(loaded)) == 1000
    loaded.learn(3)
    assert step_limit_of(loaded.get_env()) == 1000
    resumed = LectureDQN.resume(GOLDEN / "dqn-1.0.0.checkpoint.zip", exact=False)
    test = LectureTestCallback(test_freq=100, n_test_episodes=2, verbose=0)
    resumed.learn(callback=test)
    assert step_limit_of(resumed.get_env()) == step_limit_of(test.test_env) == resumed.max_episode_steps == 1000


@pytest.mark.parametrize(("env_id", "limit"), [("Taxi-v3", 200), ("CartPole-v1", 500)])
def test_none_in_a_file_is_the_registered_limit(env_id, limit, tmp_path):
    """That is what version 1.0 meant by it."""
    model = LectureDQN("MlpPolicy", env_id, seed=0).learn(3)
    model.max_episode_steps = None
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    assert step_limit_of(env_like_model(loaded)) == loaded.max_episode_steps == limit
    assert step_limit_of(loaded.learn(3).get_env()) == limit


@pytest.mark.parametrize(("given", "expected"), [(None, 1000), (60, 60)])
def test_tests_of_a_run_of_1_0_are_cut_where_that_cut_them(given, expected):
    model = LectureDQN("TablePolicy", gym.make("Taxi-v3"), seed=0)
    test = LectureTestCallback(test_freq=10, n_test_episodes=2, max_episode_steps=given, verbose=0)
    model.learn(5, test)
    state = test.get_state()
    del state["max_episode_steps"]
    if given is None:
        with pytest.warns(UserWarning, match="version 1.0 began this run, and truncates test episodes after 1000"):
            test.set_state(state)
    else:
        test.set_state(state)
    model.learn(10, test, reset_num_timesteps=False)
    assert test.results[-1][1].mean_steps == expected, "the table goes south for ever"


def test_no_success_is_given_by_none():
    class Unknown(Own):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, {**info, "is_success": None}

    env = Unknown()
    assert run_test(LectureDQN("MlpPolicy", env), env, n_episodes=3).success_rate == 1


def test_sb3s_evalcallback_does_not_warn_of_the_arrays(recwarn):
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.learn(10, EvalCallback(Monitor(gym.make("FrozenLake-v1")), eval_freq=5, n_eval_episodes=1, verbose=0))
    assert not [warning for warning in recwarn if "same type" in str(warning.message)]
    other = VecNormalize(DummyVecEnv([lambda: Monitor(gym.make("FrozenLake-v1"))]), norm_obs=False)
    with pytest.warns(UserWarning, match="not of the same type"):
        model.learn(10, EvalCallback(other, eval_freq=5, n_eval_episodes=1, verbose=0))
