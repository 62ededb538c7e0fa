"""The page in Chromium: it drives as Python does, and everything on it can be operated."""

import copy
import json
import re

import numpy as np
import pytest

from sb3_lecture_dqn import LectureDQN, LecturePageCallback, make_env
from sb3_lecture_dqn.show.page.page import page_text, write_page
from tests.show.page.browser import Opener, launch, need_chromium


@pytest.fixture(scope="module")
def browser(lecture, tuned, until_solved, lake):
    """Chromium, after the trainings: Playwright's thread may change anything, so training would go step by step."""
    need_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    opener = Opener(browser)
    yield opener
    opener.close()


DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)', re.DOTALL)


def read_data(page):
    return json.loads(DATA.search(page)[0])


class Trained:
    """A short recorded training, and its page."""

    def __init__(self, folder, model, **budget):
        folder.mkdir()
        self.model = model
        model.learn(callback=LecturePageCallback(folder, test_freq=(50, "episode")), **budget)
        model.save(folder / "model.zip")
        self.file = write_page(folder, folder / "page.html")
        self.data = read_data(self.file.read_text())


@pytest.fixture(scope="module")
def lecture(tmp_path_factory):
    """The lecture's Taxi, stopped when it solves some starts and fails others."""
    return Trained(tmp_path_factory.mktemp("page") / "lecture", LectureDQN("Taxi-v3", seed=0), total_episodes=250)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Taxi with masks."""
    model = LectureDQN.tuned("Taxi-v3", use_masking=True, seed=0, target_update_interval=2000)
    return Trained(tmp_path_factory.mktemp("page") / "tuned", model, total_timesteps=10_000)


@pytest.fixture(scope="module")
def until_solved(tmp_path_factory):
    """Taxi without a budget: it ends with the model of the best test, which is not the last one trained."""
    return Trained(tmp_path_factory.mktemp("page") / "until_solved", LectureDQN.tuned("Taxi-v3", seed=0))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """FrozenLake that does not slip, solved."""
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0, target_update_interval=500)
    return Trained(tmp_path_factory.mktemp("page") / "lake", model, total_timesteps=4000)


@pytest.fixture(scope="module")
def two(tmp_path_factory, lecture, tuned):
    file = tmp_path_factory.mktemp("page") / "two.html"
    file.write_text(page_text({**lecture.data, "runs": lecture.data["runs"] + tuned.data["runs"]}))
    return file


TAXI = make_env("Taxi-v3").unwrapped


def greedy_actions(model):
    masks = {}
    if model.use_masking:
        masks["action_masks"] = np.stack([TAXI.action_mask(s) for s in range(500)]).astype(bool)
    return model.predict(np.arange(500), deterministic=True, **masks)[0]


def drive(actions, start, limit=1000):
    """A greedy episode by gymnasium's own table of Taxi."""
    states, chosen, rewards, ended = [start], [], [], False
    while not ended and len(chosen) < limit:
        action = int(actions[states[-1]])
        ((_, state, reward, ended),) = TAXI.P[states[-1]][action]
        states.append(state)
        chosen.append(action)
        rewards.append(reward)
    return {"states": states, "actions": chosen, "rewards": rewards, "ended": ended}


def last_moment(page):
    return page.evaluate("page.runs[0].nMoments - 1")


def agent_at(page, run=0):
    """Row and column at which the agent is drawn."""
    x, y = page.evaluate(
        """run => {
            const drawn = getComputedStyle(document.querySelectorAll(".agent")[run]);
            const { e, f } = new DOMMatrix(drawn.transform);
            return [e, f];
        }""",
        run,
    )
    return round((y - 50) / 100), round((x - 50) / 100)


def figure(page, name):
    return page.locator(f".tile-{name} .figure").first.inner_text()


def click_cell(page, row, column):
    """Click the middle of a cell of the map."""
    at = page.evaluate(
        """([row, column]) => {
            const map = document.querySelector(".world");
            const point = new DOMPoint(column * 100 + 50, row * 100 + 50).matrixTransform(map.getScreenCTM());
            return [point.x, point.y];
        }""",
        [row, column],
    )
    page.mouse.click(*at)


STARTS = np.flatnonzero(TAXI.initial_state_distrib).tolist()


@pytest.mark.parametrize("name", ["lecture", "tuned", "until_solved"])
def test_all_300_greedy_episodes_are_those_of_python(name, request, open_page):
    trained = request.getfixturevalue(name)
    actions = greedy_actions(trained.model)
    page = open_page(trained.file)
    assert page.evaluate("[...page.runs[0].starts]") == STARTS
    assert len(STARTS) == 300
    episodes = page.evaluate(
        """starts => starts.map((s) => {
            const { states, actions, rewards, ended } = page.episode(s, page.runs[0].nMoments - 1);
            return [states.join(" "), actions.join(" "), rewards.join(" "), ended];
        })""",
        STARTS,
    )
    expected = [drive(actions, start, trained.model.max_episode_steps or 1000) for start in STARTS]
    for episode, own in zip(expected, episodes, strict=True):
        assert own == [" ".join(map(str, episode[part])) for part in ("states", "actions", "rewards")] + [
            episode["ended"]
        ]
    n_solved = sum(episode["ended"] for episode in expected)
    assert page.locator(".tile-solved .note").inner_text() == f"{n_solved} of 300"


def test_the_drawn_agent_goes_the_way_of_python(lecture, open_page):
    actions = greedy_actions(lecture.model)
    page = open_page(lecture.file)
    solved = [start for start in STARTS if drive(actions, start)["ended"]]
    for start in [solved[0], solved[len(solved) // 2], solved[-1]]:
        page.evaluate("s => page.view.setStart(s)", start)
        episode = drive(actions, start)
        for state in episode["states"]:
            row, column, passenger, _ = TAXI.decode(state)
            assert agent_at(page) == (row, column)
            assert page.locator(".agent.full").count() == (passenger == 4)
            if state != episode["states"][-1]:
                page.click("#step")
        badge = page.locator(".badge").inner_text()
        assert badge.startswith("Delivered, +20")
        assert badge.endswith(f"{len(episode['actions'])} steps, return {sum(episode['rewards'])}".replace("-", "−"))
        assert page.locator("#announcement").inner_text() == badge


def test_the_slider_shows_the_moment(lecture, open_page):
    page = open_page(lecture.file)
    q = lecture.model.q_net(lecture.model.policy.obs_to_tensor(np.arange(500))[0]).detach().numpy()
    page.evaluate("page.view.setStart(page.runs[0].starts[7])")
    shown = [
        float(text.replace("−", "-").replace(",", "")) for text in page.locator(".bars .amount").all_text_contents()
    ]
    np.testing.assert_allclose(shown, q[STARTS[7]], atol=0.006)
    arrows = lambda: page.locator(".signs > g").evaluate_all("groups => groups.map((g) => g.outerHTML)")  # noqa: E731

    last = arrows()
    assert figure(page, "epsilon") == "0.100"
    slider = page.locator("#slider")
    slider.press("Home")
    page.wait_for_function("() => document.querySelector('.tile-epsilon .figure').textContent === '0.990'")
    assert figure(page, "solved") == "0 %"
    assert slider.get_attribute("aria-valuetext") == "Episode 0"
    assert arrows() != last
    assert page.locator(".signs > g.wrong").count() > 5
    slider.press("ArrowRight")
    assert page.evaluate("page.view.place") == 1

    box = slider.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 11)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 9, box["y"] + 11, steps=5)
    page.mouse.up()
    assert page.evaluate("page.view.place") == last_moment(page)
    page.wait_for_function("text => document.querySelector('.tile-epsilon .figure').textContent === text", arg="0.100")
    assert arrows() == last


def test_wrong_arrows_are_those_that_the_optimum_does_not_take(lecture, open_page):
    page = open_page(lecture.file)
    optimal = page.evaluate("[...page.runs[0].optimalActions]")
    actions = greedy_actions(lecture.model)
    page.evaluate("s => page.view.setStart(s)", TAXI.encode(2, 2, 0, 1))
    groups = page.locator(".signs > g")
    for row in range(5):
        for column in range(5):
            state = TAXI.encode(row, column, 0, 1)
            is_wrong = optimal[6 * state + int(actions[state])] == 0
            assert ("wrong" in groups.nth(5 * row + column).get_attribute("class")) == is_wrong


def test_a_start_is_chosen_by_clicks(lecture, open_page):
    page = open_page(lecture.file)
    page.click("label.choice-B >> nth=0")  # the passenger's
    page.click("label.choice-Y >> nth=1")  # the destination's
    click_cell(page, 3, 4)
    assert page.evaluate("page.view.start") == TAXI.encode(3, 4, 3, 2)
    assert agent_at(page) == (3, 4)
    assert "passenger B, to Y" in page.locator(".status").inner_text()
    page.get_by_label("Agent").select_option(str(TAXI.encode(0, 2, 3, 2)))
    assert agent_at(page) == (0, 2)
    page.click("label.choice-taxi")
    assert page.evaluate("page.view.start") == TAXI.encode(0, 2, 4, 2)
    assert "no episode starts here" in page.locator(".status").inner_text()
    page.click("#random-start")
    assert page.evaluate("page.view.start") in STARTS


def test_starts_that_it_fails_come_one_by_one(lecture, open_page):
    actions = greedy_actions(lecture.model)
    failing = [start for start in STARTS if not drive(actions, start)["ended"]]
    assert 3 < len(failing) < 300
    page = open_page(lecture.file)
    for i, start in enumerate(failing[:3]):
        page.click("#failing")
        assert page.evaluate("page.view.start") == start
        assert (
            page.locator("#failing-text").inner_text()
            == f"Start {i + 1} of the {len(failing)} that fail at this moment"
        )
    while page.locator(".badge.bad").count() == 0:
        page.click("#step")
    assert re.match(r"Loops: the \d+ states since step \d+ repeat|Stuck here", page.locator(".badge").inner_text())


def test_when_it_fails_no_start_the_page_says_so(lake, open_page):
    page = open_page(lake.file)
    assert figure(page, "solved") == "100 %"
    page.click("#failing")
    assert "There are none" in page.locator("#failing-text").inner_text()


def test_it_plays_and_pauses(lake, open_page):
    page = open_page(lake.file)
    page.evaluate("page.view.setSpeed(6)")
    page.click("#play")
    page.wait_for_selector(".badge.good")
    assert page.locator(".badge").inner_text().startswith("Goal reached")
    assert page.locator("#play").inner_text() == "▶ Play"
    page.click("#reset")
    assert page.evaluate("page.view.episodes[0].steps") == 0
    page.evaluate("page.view.setSpeed(0)")
    page.click("#play")
    page.click("#play")
    assert page.evaluate("[page.view.playing, page.view.episodes[0].steps]") == [False, 0]


def test_exploration_has_the_moments_epsilon(lecture, open_page):
    page = open_page(lecture.file)
    page.click("#explore")
    assert page.locator("#explore").inner_text() == "ε-greedy (0.10)"
    explored = page.evaluate(
        """() => { let explored = 0, steps = 0;
            for (let seed = 0; seed < 30; seed++) {
                const episode = new Episode(page.runs[0], page.runs[0].starts[0], 0, 0.25, seed);
                while (!episode.over) episode.step();
                explored += episode.explored.filter(Boolean).length; steps += episode.steps;
            }
            return explored / steps; }"""
    )
    assert explored == pytest.approx(0.25, abs=0.01)
    assert page.evaluate("page.view.episodes[0].epsilon") == pytest.approx(0.1)


def test_a_click_on_a_curve_goes_to_that_episode(lecture, open_page):
    page = open_page(lecture.file)
    chart = page.locator(".chart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    share = 50 / 360 + 0.4 * (360 - 62) / 360  # two fifths of the curve's width
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    assert page.evaluate("page.view.places[page.view.place].episode") == 100
    page.wait_for_function("() => document.querySelector('#moment-text').textContent.startsWith('Episode 100')")


def test_the_memory_and_the_update_are_those_of_the_data(lecture, open_page):
    page = open_page(lecture.file)
    page.locator("#memories .facts dd").first.wait_for()
    facts = page.locator("#memories .facts dd").all_inner_texts()
    memory = lecture.model.replay_buffer
    assert facts[0] == str(memory.success.size)
    assert facts[1].replace(",", "") == str(memory.fail.size)
    page.locator("#updates .formula").first.wait_for()
    update = page.evaluate("page.runs[0].moments.updates.at(-1)[0]")
    assert update["y"] == pytest.approx(update["r"] + (0 if update["done"] else 0.75 * update["max"]), abs=1e-4)
    assert f"{update['before']:.4f}".replace("-", "−") in page.locator("#updates .equation").inner_text()
    pressed = page.locator("#updates .chip.number[aria-pressed=true]")
    assert pressed.get_attribute("aria-label") == "Transition 1"
    if page.locator("#updates .chip.number").count() > 1:
        page.locator("#updates .chip.number").nth(1).click()
        assert pressed.get_attribute("aria-label") == "Transition 2"


def test_a_finding_shows_its_states_on_the_map(lecture, tmp_path, open_page):
    states = [TAXI.encode(2, column, 1, 3) for column in (1, 2)]
    data = copy.deepcopy(lecture.data)
    finding = {
        "kind": "loop",
        "title": "A loop",
        "text": "It drives to and fro.",
        "advice": "Train on.",
        "states": states,
    }
    data["runs"][0]["diagnosis"] = {"en": [finding], "ko": [{**finding, "title": "맴돌기"}]}
    file = tmp_path / "finding.html"
    file.write_text(page_text(data))
    page = open_page(file)
    page.keyboard.press("[")
    page.click(".finding button")
    assert page.evaluate("page.view.place") == last_moment(page)
    page.wait_for_selector(".signs > g.marked")
    assert page.locator(".signs > g").evaluate_all(
        "groups => groups.flatMap((g, i) => g.classList.contains('marked') ? [i] : [])"
    ) == [11, 12]
    assert agent_at(page) == (2, 1)
    page.keyboard.press("l")
    assert page.locator(".finding h3").inner_text() == "맴돌기"


def test_two_runs_go_in_step(two, lecture, tuned, open_page):
    page = open_page(two)
    assert page.locator(".world").count() == 2
    episodes = page.evaluate("page.runs.map((run) => run.moments.episode)")
    for share in (0.2, 0.6, 1):
        page.evaluate("share => page.view.goTo(Math.round(share * (page.view.places.length - 1)))", share)
        place = page.evaluate("page.view.places[page.view.place]")
        expected = [max(m for m, episode in enumerate(run) if episode <= place["episode"]) for run in episodes]
        assert place["moments"] == expected
    start = STARTS[40]
    page.evaluate("s => page.view.setStart(s)", start)
    ways = [drive(greedy_actions(run.model), start)["states"] for run in (lecture, tuned)]
    for step in range(1, 5):
        page.keyboard.press("ArrowRight")
        for run, way in enumerate(ways):
            assert agent_at(page, run) == tuple(TAXI.decode(way[min(step, len(way) - 1)]))[:2]
    assert "learning_rate" in page.locator("#settings table").first.inner_text()


def test_keys(lecture, open_page):
    page = open_page(lecture.file)
    press = page.keyboard.press
    last = last_moment(page)
    press("ArrowRight")
    press("ArrowRight")
    assert page.evaluate("page.view.episodes[0].steps") == 2
    press("ArrowLeft")
    assert page.evaluate("page.view.episodes[0].steps") == 1
    press("r")
    assert page.evaluate("page.view.episodes[0].steps") == 0
    press("Shift+ArrowLeft")
    press(",")
    assert page.evaluate("page.view.place") == last - 2
    press(".")
    press("[")
    assert page.evaluate("page.view.place") == 0
    press("]")
    assert page.evaluate("page.view.place") == last
    press("Space")
    assert page.evaluate("page.view.playing")
    press("Space")
    assert not page.evaluate("page.view.playing")
    press("+")
    assert page.locator("#speed-text").inner_text() == "8/s"
    press("e")
    assert page.locator("#explore").get_attribute("aria-pressed") == "true"
    press("f")
    assert "that fail" in page.locator("#failing-text").inner_text()
    press("l")
    assert page.locator("h1").inner_text() == "에이전트가 배우는 과정"
    press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    press("?")
    assert page.locator("#help-dialog").is_visible()
    press("Escape")
    assert page.locator("#help-dialog").is_hidden()
    press("[")
    press("t")
    page.wait_for_function("() => document.querySelector('#slider').value !== '0'")
    press("t")


def test_the_language_is_the_browsers_then_the_choice(lecture, open_page):
    page = open_page(lecture.file, "", locale="ko-KR")
    assert page.locator("#play").inner_text() == "▶ 재생"
    page.click("[data-lang=en]")
    assert page.locator("#play").inner_text() == "▶ Play"
    assert "lang=en" in page.url
    page.reload()
    page.wait_for_selector("#main:not([hidden])")
    assert page.locator("h1").inner_text() == "See my agent learn"
    assert open_page(lecture.file, "", locale="en-US").locator("html").get_attribute("lang") == "en"


def test_every_word_has_both_languages(lecture, open_page):
    page = open_page(lecture.file)
    words = page.evaluate("WORDS")
    assert list(words["en"]) == list(words["ko"])
    for name, english in words["en"].items():
        korean = words["ko"][name]
        if name == "names":
            assert set(page.evaluate("page.runs[0].actionNames")) <= set(korean)
            continue
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", korean)), name
        assert not re.search(r"[가-힣]", english), name
        assert re.search(r"[가-힣]", korean) or name == "ofEpisodes", name


def test_nothing_english_is_left_on_the_korean_page(lecture, open_page):
    page = open_page(lecture.file, "lang=ko")
    text = page.locator("main, #timeline, header").all_inner_texts()
    english = page.evaluate("WORDS.en")
    fixed = [word for name, word in english.items() if name != "names" and "{" not in word and len(word) > 3]
    assert [word for word in fixed if any(word in part for part in text)] == []


def test_dark_and_light(lecture, open_page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (open_page(lecture.file, "", color_scheme=scheme) for scheme in ("light", "dark"))
    light_ground, dark_ground = light.evaluate(ground), dark.evaluate(ground)
    assert light_ground != dark_ground
    light.click("#theme")
    assert light.evaluate(ground) == dark_ground
    assert "theme=dark" in light.url
    light.reload()
    light.wait_for_selector("#main:not([hidden])")
    assert light.evaluate(ground) == dark_ground


@pytest.mark.parametrize("name", ["lecture", "lake", "two"])
def test_nothing_is_wider_than_a_phone(name, request, open_page):
    made = request.getfixturevalue(name)
    page = open_page(getattr(made, "file", made), size=(390, 844))
    for _ in ("English", "Korean"):
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        edges = page.locator("#drive button, #choose button, #timeline button").evaluate_all(
            "buttons => buttons.flatMap((b) => [b.getBoundingClientRect().left, b.getBoundingClientRect().right])"
        )
        assert min(edges) >= 0
        assert max(edges) <= 390
        page.keyboard.press("l")


EN_LIGHT, EN_DARK, KO_LIGHT, KO_DARK = (
    f"lang={lang}&theme={theme}" for lang in ("en", "ko") for theme in ("light", "dark")
)


@pytest.mark.parametrize(
    ("name", "words"),
    [("lecture", KO_DARK), ("two", EN_LIGHT)]
    + [
        pytest.param(name, words, marks=pytest.mark.slow)
        for name, words in [
            ("lecture", EN_LIGHT), ("lecture", EN_DARK), ("lecture", KO_LIGHT),
            ("two", EN_DARK), ("two", KO_LIGHT), ("two", KO_DARK),
            *((name, words) for name in ("tuned", "lake") for words in (EN_LIGHT, EN_DARK, KO_LIGHT, KO_DARK)),
        ]
    ],
)  # fmt: skip
def test_axe_finds_no_serious_fault(name, words, request, open_page):
    from axe_playwright_python.sync_playwright import Axe

    made = request.getfixturevalue(name)
    page = open_page(getattr(made, "file", made), words, size=(1400, 4000))  # so that every part is drawn
    page.click("#failing")
    found = Axe().run(page).response
    assert len(found["passes"]) > 20
    serious = [fault for fault in found["violations"] if fault["impact"] in ("serious", "critical")]
    assert [
        (fault["id"], fault["nodes"][0]["html"][:200], fault["nodes"][0]["failureSummary"]) for fault in serious
    ] == []


def cut(packed):
    packed["data"] = packed["data"][:400]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(format=2), "has format 2, but this page reads format 1"),
        (lambda data: data.update(runs=[]), "damaged (runs)"),
        (lambda data: data["runs"][0]["world"]["next"].update(data="AAAA"), "damaged (next)"),
        (lambda data: cut(data["runs"][0]["moments"]["q"]), "damaged (q)"),
        (lambda data: data["runs"][0]["moments"]["greedy"].update(shape=[1, 2]), "damaged (greedy"),
        (lambda data: data["runs"][0]["moments"].update(episode=[1]), "damaged (episode)"),
        (lambda data: data["runs"][0].pop("world"), "damaged (runs[0])"),
    ],
    ids=["format", "no runs", "not deflated", "cut", "shape", "length", "missing"],
)
def test_bad_data_are_named_on_the_page(change, said, lake, tmp_path, open_page):
    data = copy.deepcopy(lake.data)
    change(data)
    file = tmp_path / "bad.html"
    file.write_text(DATA.sub(lambda _: json.dumps(data).replace("<", "\\u003c"), lake.file.read_text()))
    page = open_page(file)
    assert said in page.locator("#message").inner_text()
    assert "sb3-lecture-dqn page" in page.locator("#message").inner_text()
    assert page.locator("#main").is_hidden()
