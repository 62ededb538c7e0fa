"""The lines that `train` prints in the lecture's words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn import DivergedError, LectureDQN, LectureQRDQN, TestResult
from sb3_lecture_dqn.commands import lecture_words
from sb3_lecture_dqn.evaluation.result import compact_header, compact_line

LECTURES = TestResult(23.18, 0.0, -2.39, 0.99, 100)  # its printed result after 5000 episodes


def test_before_the_training_it_is_the_lectures_four_lines():
    told = lecture_words.introduction(LectureDQN("Taxi-v3", double_dqn=False))
    assert told == "Action Space Discrete(6)\nState Space Discrete(500)\nStore & replay: True\nDouble DQN: False"
    told = lecture_words.introduction(LectureQRDQN("FrozenLake-v1", store_and_replay=False))
    assert told == "Action Space Discrete(4)\nState Space Discrete(16)\nStore & replay: False\nDouble DQN: True"


def test_after_the_training_it_is_the_lectures_four_lines_and_the_share_of_solved_episodes():
    assert lecture_words.results(LECTURES).splitlines() == [
        "Results after 100 episodes:",
        "Average timesteps per episode: 23.18",
        "Average penalty per episode: 0.0",
        "Average reward per episode: -2.39",
        "Solved episodes: 99.0%",
    ]


@pytest.mark.parametrize(
    ("solved", "knows", "told"), [(0.0, True, False), (0.5, True, False), (0.51, True, True), (0.0, False, True)]
)
def test_the_optimality_is_explained_and_left_out_where_it_means_nothing(solved, knows, told):
    result = TestResult(1000.0, 0.0, -1000.0, solved, 100, optimality=0.6968, knows_success=knows)
    line = "Optimality: 0.6968 (0: as the random policy, 1: the best possible)"
    assert (line in lecture_words.results(result)) == told
    assert ("Solved episodes" in lecture_words.results(result)) == knows


def test_a_compact_line_has_the_figures_under_their_names():
    assert compact_header(True) == "  episode        step      steps  penalties     reward   solved"
    assert compact_line(5000, 471_923, LECTURES) == "     5000      471923      23.18       0.00      -2.39    99.0%"
    assert compact_header(False).split()[-1] == "ended"


numbers = st.one_of(st.floats(-1e300, 1e300), st.sampled_from([math.nan, math.inf, -math.inf, -99_999.999]))
counts = st.integers(0, 10**15)


@given(counts, counts, st.tuples(numbers, numbers, numbers), st.floats(0, 1) | st.just(math.nan))
def test_a_compact_line_is_never_wider_than_a_terminal_and_keeps_its_columns(episode, step, averages, solved):
    line = compact_line(episode, step, TestResult(*averages, solved, 100))
    assert len(line) == len(compact_header(True)) <= 80
    texts = line.split()
    assert len(texts) == 6
    for text, figure in zip(texts, (episode, step, *averages), strict=False):
        assert math.isnan(figure) or math.isclose(float(text), figure, rel_tol=1e-2, abs_tol=0.0051)


def test_a_divergence_is_told_in_paragraphs_of_a_terminals_width():
    error = DivergedError(
        "the loss of update 137 is nan: " + "training has diverged, " * 9, "What helps: a lower rate."
    )
    error.growth = "Before, the largest action value was 0.835 at the start."
    lines = lecture_words.divergence(error).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if not line.startswith("  ")] == [lines[0], error.growth, error.advice]
    assert lines[0].startswith("sb3-lecture-dqn: the loss of update 137 is nan: training")
