"""A real TensorBoard over a fresh run: its data endpoints, and its pages in headless Chromium."""

import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
from stable_baselines3.common.logger import configure

from sb3_lecture_dqn import LectureDQN, LectureTensorBoardCallback, LectureTestCallback

pytestmark = pytest.mark.slow

# Debian's package `chromium`, with flags that keep it off the internet.
CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update", "--disable-sync",
                  "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
                  "--remote-debugging-pipe", "--window-size=1400,1000")  # fmt: skip
RUN = "lecture"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A run that a second training continued from an earlier point."""
    folder = tmp_path_factory.mktemp("runs")
    model = LectureDQN("Taxi-v3", seed=0, gradient_steps=1)
    for tag, episodes in ((RUN, 30), (RUN, 10)):
        model.set_logger(configure(str(folder / tag), ["tensorboard"]))
        callbacks = [
            LectureTestCallback(verbose=0, n_test_episodes=5, test_freq=(5, "episode")),
            LectureTensorBoardCallback(histogram_freq=(5, "episode"), image_freq=(10, "episode")),
        ]
        model.learn(callback=callbacks, total_episodes=episodes, reset_num_timesteps=episodes == 30)
        model.logger.close()
    return folder


@pytest.fixture(scope="module")
def server(logdir):
    """The address of a TensorBoard process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port),
               "--host", "127.0.0.1", "--reload_interval", "1"]  # fmt: skip
    log = logdir.parent / "tensorboard.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "TensorBoard has not loaded the run in two minutes"
            try:
                if RUN in get(address, "data/runs"):
                    break
            except OSError:
                pass
            time.sleep(0.5)
        time.sleep(3)  # the rest of the run
        yield address
    finally:
        process.terminate()
        process.wait()


def fetch(address, path, **query):
    url = f"{address}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def get(address, path, **query):
    return json.loads(fetch(address, path, **query))


def test_scalars(server):
    tags = get(server, "data/plugin/scalars/tags")[RUN]
    assert {"Steps", "Penalty", "Reward", "Solved", "q_error/mean_abs", "memory/fill", "final/reward"} <= tags.keys()
    points = get(server, "data/plugin/scalars/scalars", run=RUN, tag="Reward")
    assert [step for _, step, _ in points][:4] == [1, 5, 10, 15]


def test_graph(server):
    info = get(server, "data/plugin/graphs/info")[RUN]
    assert info["run_graph"] is True
    graph = fetch(server, "data/plugin/graphs/graph", run=RUN, conceptual="false").decode()
    assert "Embedding[0]" in graph
    assert "PReLU[2]" in graph


def test_histograms(server):
    tags = get(server, "data/plugin/histograms/tags")[RUN]
    assert {"weights/layers.0.weight", "gradients/layers.5.bias"} <= tags.keys()
    histograms = get(server, "data/plugin/histograms/histograms", run=RUN, tag="weights/layers.1.weight")
    assert len(histograms) >= 5
    assert sum(count for _, _, count in histograms[0][2]) == 64 * 64


def test_projector(server):
    assert RUN in get(server, "data/plugin/projector/runs")
    coloured, embedding = get(server, "data/plugin/projector/info", run=RUN)["embeddings"]
    assert fetch(server, "data/plugin/projector/sprite_image", run=RUN, name=coloured["tensorName"])[:4] == b"\x89PNG"
    name = embedding["tensorName"]
    tensor = fetch(server, "data/plugin/projector/tensor", run=RUN, name=name)
    assert len(tensor) == 400 * 64 * 4
    header, *lines = fetch(server, "data/plugin/projector/metadata", run=RUN, name=name).decode().splitlines()
    assert header.split("\t")[:3] == ["label", "taxi row", "taxi column"]
    assert len(lines) == 400
    assert lines[0].startswith("taxi row 0, taxi column 0, passenger R, destination G\t")


def test_images(server):
    tags = get(server, "data/plugin/images/tags")[RUN]
    assert {"values/learned", "values/optimal", "memory/states"} <= tags.keys()
    images = get(server, "data/plugin/images/images", run=RUN, tag="values/learned", sample=0)
    assert len(images) >= 3
    picture = urllib.request.urlopen(f"{server}/data/plugin/images/individualImage?{images[-1]['query']}").read()
    assert picture.startswith(b"\x89PNG")


def test_hparams(server):
    def post(path, body):
        request = urllib.request.Request(f"{server}/data/plugin/hparams/{path}", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return json.loads(urllib.request.urlopen(request, timeout=60).read())

    experiment = post("experiment", {"experimentName": "", "hparamsLimit": 100})
    assert {"gamma", "learning_rate", "double_dqn", "env_id"} <= {info["name"] for info in experiment["hparamInfos"]}
    metrics = [info["name"] for info in experiment["metricInfos"]]
    assert {metric["tag"] for metric in metrics} >= {"final/reward", "final/optimality"}
    columns = [{"metric": metric} for metric in metrics] + [{"hparam": "gamma"}]
    statuses = ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN", "STATUS_FAILURE"]
    body = {"experimentName": "", "allowedStatuses": statuses, "colParams": columns, "startIndex": 0, "sliceSize": 10}
    (group,) = post("session_groups", body)["sessionGroups"]
    assert group["hparams"]["gamma"] == 0.75
    assert {value["name"]["tag"] for value in group["metricValues"]} >= {"final/reward", "final/steps"}


class Browser:
    """Headless Chromium, controlled by its DevTools protocol over a pipe."""

    def __init__(self, profile):
        command_read, self.command = os.pipe()
        self.answer, answer_write = os.pipe()

        def wire():
            # First copies with higher numbers, because one of the ends may have number 3 or 4.
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 5) for end in (command_read, answer_write)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self.process = subprocess.Popen(
            [CHROMIUM, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=wire,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        self.pending, self.events, self.number = b"", [], 0
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    session = None

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.command, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read(60)
            assert answer is not None, f"no answer to {method}"
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self, seconds):
        """Return the next message, ``None`` after a timeout."""
        while b"\0" not in self.pending:
            if not select.select([self.answer], [], [], seconds)[0]:
                return None
            self.pending += os.read(self.answer, 1 << 20)
        message, _, self.pending = self.pending.partition(b"\0")
        message = json.loads(message)
        if "method" in message:
            self.events.append(message)
        return message

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self):
        """Return all text of the page, also inside web components."""
        return self.evaluate(
            "(() => { const walk = node => node.nodeType === 3 ? node.textContent + '\\n' :"
            " ['SCRIPT', 'STYLE'].includes(node.nodeName) ? '' :"
            " [...(node.nodeName === 'IFRAME' && node.contentDocument ? [node.contentDocument.body] : []),"
            " ...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes].map(walk).join('');"
            " return walk(document.body); })()"
        )

    def open(self, url, wanted):
        """Load a page and wait until it shows a text."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + 90
        while wanted not in (self.text() or ""):
            assert time.monotonic() < deadline, f"{url} does not show {wanted!r} but {self.text()!r}"
            self.read(0.5)
        settled = time.monotonic() + 4
        while time.monotonic() < settled:
            self.read(0.5)

    def errors(self):
        """Return the errors on the console and the exceptions."""
        found = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["exception"].get("description"))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append([argument.get("value") for argument in params["args"]])
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.command)
        os.close(self.answer)


@contextmanager
def running_browser(profile):
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert CHROMIUM is not None, "install Chromium for this test: apt-get install -y chromium"
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("timeseries", "Reward"),
        ("images", "values/learned"),
        ("graphs", "LectureNetwork"),
        ("histograms", "weights/layers.0.weight"),
        ("projector", "tensors found"),
        ("text", "finished"),
        ("hparams", "final/optimality"),
    ],
)
def test_the_pages_load_without_errors(server, browser, page, wanted, tmp_path):
    # SCREENSHOTS=folder keeps the screenshots.
    folder = pathlib.Path(os.environ.get("SCREENSHOTS", tmp_path))
    try:
        browser.open(f"{server}/#{page}", wanted)
    finally:
        browser.screenshot(folder / f"tensorboard_{page}.png")
    assert browser.errors() == []
