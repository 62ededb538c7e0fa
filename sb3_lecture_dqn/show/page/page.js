"use strict";
// The page: what is shown at present, the controls, the keys.

const SPEEDS = [1, 2, 4, 8, 16, 32, 64]; // steps a second
const TRAINING_PACE = 80; // milliseconds a moment, when the training plays

class Page {
    constructor(runs, raw) {
        Object.assign(this, {
            runs, raw, places: slidePlaces(runs), place: 0, start: runs[0].starts[0], speed: 2, explores: false, seed: 1,
            marked: null, timer: null, trainingTimer: null, frame: null, failingAt: -1,
        });
        const area = runs.length > 1 ? ["0", "1"] : [""];
        const range = barRange(runs);
        const goTo = (s) => this.setStart(s);
        this.views = runs.map((run, i) => ({
            run,
            tiles: new Tiles(run, area[i]),
            map: new WorldMap(run, (row, column) => this.#clickCell(i, row, column)),
            status: html("p", { class: "status" }),
            bars: new Bars(run, area[i], range),
            memory: new Memory(run, area[i], goTo),
            update: new UpdateView(run, area[i], goTo),
            diagnosis: new Diagnosis(run, area[i], (states, title) => this.showStates(i, states, title)),
        }));
        this.chooser = new Chooser(runs[0], (s) => this.setStart(s));
        this.charts = CURVES.map((kind) => new Chart(kind, runs, (episode) => this.goToEpisode(episode)));
        this.#build(area);
        this.#listen();
        this.#watchSight();
        this.place = this.places.length - 1;
        this.#startEpisodes();
        this.translate();
    }

    get moments() {
        return this.places[this.place].moments;
    }

    get playing() {
        return this.timer !== null;
    }

    // Building

    #build(area) {
        const stage = byId("stage");
        stage.className = this.runs.length > 1 ? "two" : "one";
        this.views.forEach(({ tiles, map, status, bars, memory, update, diagnosis, run }, i) => {
            const name = this.runs.length > 1 ? html("h2", { class: `run-name run${i}` }, html("span", { class: "letter" }, "AB"[i]), ` ${run.name}`) : null;
            const legend = html("p", { class: "legend map-legend" });
            this.views[i].legend = legend;
            const drive = this.runs.length > 1 ? null : byId("drive"); // two maps have the controls in common
            stage.append(tiles.element, html("section", { class: `card map run${area[i]}` }, name, map.element, status, drive, legend), bars.element);
            byId("memories").append(memory.element);
            byId("updates").append(update.element);
            byId("diagnoses").append(diagnosis.element);
        });
        byId("chooser").append(this.chooser.element);
        byId("curves").append(...this.charts.map((chart) => chart.element));
        setAll(byId("slider"), { max: this.places.length - 1 });
        document.body.classList.toggle("two-runs", this.runs.length > 1);
        this.#buildTicks();
    }

    /** Over the slider: target copies as ticks, events as signs. */
    #buildTicks() {
        const at = (index) => `calc(9px + (100% - 18px) * ${index / Math.max(1, this.places.length - 1)})`;
        const marks = [];
        this.places.forEach((place, index) => {
            const before = this.places[index - 1];
            const isCopy = this.runs.some((run, i) => place.moments[i] !== before?.moments[i] && run.moments.why[place.moments[i]].includes("target_copy"));
            if (isCopy) marks.push(html("i", { class: "tick", style: `left:${at(index)}` }));
        });
        this.runs.forEach((run, i) => run.events.forEach((event) => {
            const index = this.#placeOf(event.episode);
            marks.push(html("i", { class: `event run${i}`, style: `left:${at(index)}` }, svg("svg", { viewBox: "-8 -8 16 16" }, eventSign(event.kind))));
        }));
        byId("ticks").replaceChildren(...marks);
    }

    /** The first place not earlier than an episode; the last one if there is none. */
    #placeOf(episode) {
        const found = this.places.findIndex((place) => place.episode >= episode);
        return found < 0 ? this.places.length - 1 : found;
    }

    // Moving in time

    goTo(place) {
        place = Math.min(Math.max(place, 0), this.places.length - 1);
        if (place === this.place) return;
        this.place = place;
        byId("slider").value = place;
        this.marked = null;
        this.frame ??= requestAnimationFrame(() => this.newEpisode()); // once a frame, however often the slider moves
    }

    goToEpisode(episode) {
        let nearest = 0;
        this.places.forEach((place, index) => {
            if (Math.abs(place.episode - episode) <= Math.abs(this.places[nearest].episode - episode)) nearest = index;
        });
        this.goTo(nearest);
    }

    // The episode

    /** Put the agents back to the start. */
    newEpisode() {
        cancelAnimationFrame(this.frame);
        this.frame = null;
        this.#startEpisodes();
        this.show();
    }

    #startEpisodes() {
        this.episodes = this.runs.map((run, i) =>
            new Episode(run, this.start, this.moments[i], this.explores ? run.moments.epsilon[this.moments[i]] : 0, this.seed));
    }

    setStart(s, keepFailing = false) {
        this.start = s;
        if (!keepFailing) this.failingAt = -1;
        this.newEpisode();
    }

    step() {
        if (this.frame !== null) this.newEpisode(); // the slider moved, and is not drawn yet
        const before = this.episodes.map((episode) => episode.over);
        this.episodes.forEach((episode) => episode.over || episode.step());
        if (this.episodes.every((episode) => episode.over || episode.loop)) this.pause();
        this.showEpisodes();
        const news = this.episodes.flatMap((episode, i) => (episode.over && !before[i]) || (episode.loop && episode.steps === episode.loop[0] + episode.loop[1])
            ? [`${this.runs.length > 1 ? `${"AB"[i]}: ` : ""}${this.#endText(episode)}`] : []);
        if (news.length) byId("announcement").textContent = news.join(" ");
    }

    stepBack() {
        if (this.explores || this.runs.some((run) => run.nOutcomes > 1)) return; // chance cannot be taken back
        const steps = Math.max(...this.episodes.map((episode) => episode.steps)) - 1;
        this.episodes = this.episodes.map((episode) => {
            const again = new Episode(episode.run, this.start, episode.moment);
            while (again.steps < steps && !again.over) again.step();
            return again;
        });
        this.showEpisodes();
    }

    play() {
        if (this.episodes.every((episode) => episode.over || episode.loop)) {
            this.seed++;
            this.newEpisode();
        }
        this.pause();
        this.timer = setInterval(() => this.step(), 1000 / SPEEDS[this.speed]);
        this.#showButtons();
    }

    pause() {
        clearInterval(this.timer);
        this.timer = null;
        this.#showButtons();
    }

    togglePlay() {
        if (this.playing) this.pause();
        else this.play();
    }

    setSpeed(speed) {
        this.speed = Math.min(Math.max(speed, 0), SPEEDS.length - 1);
        byId("speed").value = this.speed;
        this.#showButtons();
        if (this.playing) this.play();
    }

    setExplores(explores) {
        this.explores = explores;
        this.newEpisode();
        this.#showButtons();
    }

    toggleTraining() {
        if (this.trainingTimer !== null) this.#stopTraining();
        else {
            if (this.place === this.places.length - 1) this.goTo(0);
            this.trainingTimer = setInterval(() => {
                if (this.place === this.places.length - 1) this.#stopTraining();
                else this.goTo(this.place + 1);
            }, TRAINING_PACE);
            this.#showButtons();
        }
    }

    #stopTraining() {
        clearInterval(this.trainingTimer);
        this.trainingTimer = null;
        this.#showButtons();
    }

    /** Go to the next start that an agent fails at this moment, one by one. */
    showFailing() {
        const failing = [...new Set(this.runs.flatMap((run, i) => run.failing(this.moments[i])))].sort((a, b) => a - b);
        if (failing.length === 0) {
            byId("failing-text").textContent = say("noneFails");
            return;
        }
        this.failingAt = (this.failingAt + 1) % failing.length;
        this.pause();
        if (this.explores) this.setExplores(false);
        this.setStart(this.runs[0].starts[failing[this.failingAt]], true);
        byId("failing-text").textContent = say("failingText", { i: this.failingAt + 1, n: failing.length });
        // On a telephone the map is above the button.
        document.querySelector(".world").scrollIntoView({ block: "nearest" });
        if (!prefersStillness()) this.play();
    }

    randomStart() {
        const { starts, startProbability } = this.runs[0];
        let left = Math.random();
        const index = startProbability.findIndex((share) => (left -= share) < 0);
        this.setStart(starts[Math.max(index, 0)]);
    }

    #clickCell(i, row, column) {
        const run = this.runs[i];
        const s = run.places.at(run.places.caseOf[this.episodes[i].state], row, column);
        if (s >= 0 && run.acting[s]) this.setStart(s);
    }

    /** Ring the states of a finding on the map, and go to the first of them. Findings speak of the end of training. */
    showStates(i, states, title) {
        this.goTo(this.places.length - 1);
        const first = states.find((s) => this.runs[i].acting[s]) ?? states[0];
        this.setStart(first);
        this.marked = { run: i, states: new Set(states) };
        this.show();
        byId("announcement").textContent = title;
        byId("stage").scrollIntoView({ behavior: prefersStillness() ? "auto" : "smooth" });
    }

    // Showing

    show() {
        const { episode } = this.places[this.place];
        const slider = byId("slider");
        slider.value = this.place;
        slider.setAttribute("aria-valuetext", say("episodeText", { episode: number(episode, 0) }));
        slider.style.setProperty("--share", this.places.length > 1 ? this.place / (this.places.length - 1) : 0);
        this.#showMomentText(episode);
        if (this.shownMoments !== String(this.moments) || this.shownLanguage !== language) {
            byId("failing-text").textContent = "";
            if (this.shownMoments !== String(this.moments)) this.failingAt = -1;
        }
        this.shownMoments = String(this.moments);
        this.shownLanguage = language;
        this.chooser.show(this.start);
        this.#showButtons();
        this.stale = new Set(Object.keys(this.blocks));
        this.#drawStale();
    }

    /** Draw what is in sight and not up to date; what is out of sight waits until nothing has changed for a while. */
    #drawStale(everything = false) {
        clearTimeout(this.later);
        for (const block of this.stale) {
            if (!everything && !this.inSight.has(block)) continue;
            this.stale.delete(block);
            this.blocks[block]();
        }
        if (this.stale.size) this.later = setTimeout(() => this.#drawStale(true), 300);
    }

    #watchSight() {
        const each = (draw) => () => this.views.forEach((view, i) => draw(view, this.moments[i], i));
        this.blocks = {
            stage: each((view, m, i) => {
                view.tiles.show(m);
                view.shownCase = null;
                this.#drawEpisode(view, i);
            }),
            curves: () => this.charts.forEach((chart) => chart.show(this.moments, this.places[this.place].episode)),
            memories: each(({ memory, run }, m, i) => memory.show(m, run.places.caseOf[this.episodes[i].state])),
            updates: each(({ update }, m) => update.show(m)),
        };
        this.inSight = new Set(["stage"]);
        this.stale = new Set();
        const observer = new IntersectionObserver((entries) => {
            for (const { target, isIntersecting } of entries) {
                if (isIntersecting) this.inSight.add(target.id);
                else this.inSight.delete(target.id);
            }
            this.#drawStale();
        }, { rootMargin: "150px" });
        for (const id of Object.keys(this.blocks)) observer.observe(byId(id));
    }

    #showMomentText(episode) {
        const m = this.moments[0], { moments } = this.runs[0];
        const parts = [html("b", {}, say("episodeText", { episode: number(episode, 0) })), html("span", {}, say("ofEpisodes", { n: number(this.places[this.places.length - 1].episode, 0) }))];
        if (this.runs.length === 1) {
            parts.push(html("span", { class: "wide" }, say("stepText", { step: number(moments.step[m], 0) })));
            const why = moments.why[m].map((word) => WORDS[language][`why_${word}`] ?? word);
            parts.push(html("span", { class: "why" }, why.join(" · ")));
        }
        byId("moment-text").replaceChildren(...parts);
    }

    /** Show where the agents are. */
    showEpisodes() {
        if (!this.stale.has("stage")) this.views.forEach((view, i) => this.#drawEpisode(view, i));
        this.#drawStale();
    }

    #drawEpisode(view, i) {
        const episode = this.episodes[i], { run } = view;
        const caseIndex = run.places.caseOf[episode.state];
        if (view.shownCase !== caseIndex) {
            view.shownCase = caseIndex;
            view.map.showMoment(this.moments[i], caseIndex, this.marked?.run === i ? this.marked.states : null);
            this.stale.add("memories");
        }
        view.map.showEpisode(episode);
        view.bars.show(this.moments[i], episode.state);
        this.#showStatus(view, episode);
    }

    #showStatus({ status, map, run }, episode) {
        const last = episode.steps - 1;
        const ended = episode.over || episode.loop;
        const parts = [];
        if (episode.steps > 0) {
            const explored = episode.explored[last] ? ` (${say("atRandom")})` : "";
            parts.push(html("span", {}, say("stepNumber", { n: episode.steps })), html("span", {}, `${actionText(run, episode.actions[last])}${explored}`),
                html("span", {}, rewardText(episode.rewards[last])), html("span", {}, say("total", { total: number(episode.total, Number.isInteger(episode.total) ? 0 : 2) })));
        } else parts.push(html("span", {}, this.#startText(run)));
        const badge = html("b", { class: `badge ${episode.success ? "good" : ended ? "bad" : "none"}` }, ended ? this.#endText(episode) : "");
        status.replaceChildren(...parts, badge);
        map.describe(say("mapText", { state: stateText(run, episode.state), action: actionText(run, run.action(episode.moment, episode.state)) }));
    }

    #startText(run) {
        if (!run.acting[this.start]) return say("noAction", { state: stateText(run, this.start) });
        return say(run.starts.includes(this.start) ? "startsAt" : "placedAt", { state: stateText(run, this.start) });
    }

    #endText(episode) {
        const values = { steps: episode.steps, total: number(episode.total, Number.isInteger(episode.total) ? 0 : 2), reward: rewardText(episode.rewards[episode.steps - 1] ?? 0) };
        if (episode.success) return say(episode.run.kind === "taxi" ? "delivered" : "reached", values);
        if (episode.ended) return say("endedBadly", values);
        if (episode.steps >= episode.run.limit) return say("cut", values);
        const [from, length] = episode.loop;
        return say(length === 1 ? "stuck" : "loops", { from, length, limit: number(episode.run.limit, 0) });
    }

    #showButtons() {
        const play = byId("play"), training = byId("play-training");
        play.textContent = say(this.playing ? "pause" : "play");
        play.setAttribute("aria-pressed", this.playing);
        const label = say(this.trainingTimer !== null ? "pauseTraining" : "playTraining");
        setAll(training, { "aria-label": label, title: label, "aria-pressed": String(this.trainingTimer !== null) });
        training.textContent = this.trainingTimer !== null ? "❚❚" : "▶";
        byId("greedy").setAttribute("aria-pressed", !this.explores);
        byId("explore").setAttribute("aria-pressed", this.explores);
        byId("explore").textContent = say("explore", { epsilon: [...new Set(this.runs.map((run, i) => number(run.moments.epsilon[this.moments[i]])))].join(" / ") });
        byId("speed-text").textContent = say("perSecond", { n: SPEEDS[this.speed] });
    }

    /** Write every word in the present language. */
    translate() {
        language = document.documentElement.lang === "ko" ? "ko" : "en";
        for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
        for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
        for (const element of document.querySelectorAll("[data-title]")) element.title = say(element.dataset.title);
        for (const button of document.querySelectorAll("[data-lang]")) button.setAttribute("aria-pressed", button.dataset.lang === language);
        const named = this.runs.map((run) => run.name);
        byId("subtitle").textContent = [this.runs[0].envId, ...(this.runs.length > 1 ? [] : named)].join(" · ");
        byId("curve-legend").replaceChildren(...curveLegend(this.runs));
        byId("settings").replaceChildren(...settingsTable(this.runs));
        const withSigns = this.runs[0].layout.isList ? [] : ["rightArrow", "wrongArrow", "agentTrail"];
        this.views.forEach(({ legend, map }) => legend.replaceChildren(...legendItems(withSigns), ramp(map.range)));
        byId("help-legend").replaceChildren(...this.runs[0].actionNames.map((_, a) => html("span", { class: "legend-item" }, inlineSign(this.runs[0], a), actionText(this.runs[0], a))));
        byId("key-list").replaceChildren(...KEYS.flatMap(([keys, word]) => [html("dt", {}, ...keys.split(" ").map((key) => html("kbd", {}, key))), html("dd", {}, say(word))]));
        byId("footer").textContent = say("footer", { version: this.raw.version, created: this.raw.created });
        this.views.forEach(({ diagnosis }) => diagnosis.show());
        this.chooser.translate();
        this.show();
    }

    setLanguage(next) {
        document.documentElement.lang = next;
        rememberInAddress("lang", next);
        this.translate();
    }

    toggleTheme() {
        const next = theme() === "dark" ? "light" : "dark";
        document.documentElement.dataset.theme = next;
        rememberInAddress("theme", next);
        this.translate();
    }

    // Listening

    #listen() {
        const click = (id, act) => byId(id).addEventListener("click", act);
        click("play", () => this.togglePlay());
        click("step", () => this.pauseAnd(() => this.step()));
        click("reset", () => this.pauseAnd(() => this.newEpisode()));
        click("greedy", () => this.setExplores(false));
        click("explore", () => this.setExplores(true));
        click("failing", () => this.showFailing());
        click("random-start", () => this.randomStart());
        click("play-training", () => this.toggleTraining());
        click("earlier", () => this.goTo(this.place - 1));
        click("later", () => this.goTo(this.place + 1));
        click("theme", () => this.toggleTheme());
        click("help", () => byId("help-dialog").showModal());
        byId("slider").addEventListener("input", (event) => this.goTo(Number(event.target.value)));
        byId("speed").addEventListener("input", (event) => this.setSpeed(Number(event.target.value)));
        for (const button of document.querySelectorAll("[data-lang]")) button.addEventListener("click", () => this.setLanguage(button.dataset.lang));
        document.addEventListener("keydown", (event) => this.#key(event));
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
            if (new URLSearchParams(location.hash.slice(1)).has("theme")) return;
            document.documentElement.dataset.theme = event.matches ? "dark" : "light";
            this.translate();
        });
    }

    pauseAnd(act) {
        this.pause();
        act();
    }

    #key(event) {
        if (event.ctrlKey || event.metaKey || event.altKey || byId("help-dialog").open) return;
        const target = event.target;
        if (target.matches("input, select") && event.key !== "?") return; // they have keys of their own
        if (event.key === " " && target.matches("button, summary")) return;
        const act = {
            " ": () => this.togglePlay(),
            ArrowRight: () => (event.shiftKey ? this.goTo(this.place + 1) : this.pauseAnd(() => this.step())),
            ArrowLeft: () => (event.shiftKey ? this.goTo(this.place - 1) : this.pauseAnd(() => this.stepBack())),
            ".": () => this.goTo(this.place + 1),
            ",": () => this.goTo(this.place - 1),
            "[": () => this.goTo(0),
            "]": () => this.goTo(this.places.length - 1),
            t: () => this.toggleTraining(),
            r: () => this.pauseAnd(() => this.newEpisode()),
            f: () => this.showFailing(),
            n: () => this.randomStart(),
            e: () => this.setExplores(!this.explores),
            "+": () => this.setSpeed(this.speed + 1),
            "=": () => this.setSpeed(this.speed + 1),
            "-": () => this.setSpeed(this.speed - 1),
            l: () => this.setLanguage(language === "en" ? "ko" : "en"),
            d: () => this.toggleTheme(),
            "?": () => byId("help-dialog").showModal(),
        }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
        if (!act) return;
        event.preventDefault();
        act();
    }
}

const KEYS = [
    ["Space", "key_play"], ["→ ←", "key_step"], [". ,", "key_moment"], ["[ ]", "key_ends"], ["T", "key_training"], ["F", "key_failing"],
    ["N", "key_random"], ["R", "key_reset"], ["E", "key_explore"], ["+ −", "key_speed"], ["L", "key_language"], ["D", "key_theme"], ["?", "key_help"],
];

/** The bar that says which colour is which value. */
function ramp(range) {
    const stops = Array.from({ length: 9 }, (_, i) => cssColour(rampColour(range.share(range.low + (i / 8) * (range.high - range.low)))));
    return html("span", { class: "legend-item ramp" }, number(range.low, 1), html("i", { style: `background:linear-gradient(90deg,${stops.join(",")})` }),
        number(range.high, 1), html("span", {}, say("legend_value")));
}

/** The choice of a start: passenger and destination, or a list of cases; and the cell. */
class Chooser {
    constructor(run, onChoice) {
        Object.assign(this, { run, onChoice });
        const { cases } = run.places;
        this.unique = (name) => [...new Set(cases.map((one) => one[name]).filter((word) => word !== null && word !== undefined))];
        this.element = html("div", { class: "chooser" });
    }

    translate() {
        const { run } = this;
        this.parts = {};
        const parts = [];
        if (this.unique("destination").length) {
            this.parts.passenger = this.#radios("passenger", this.unique("passenger"));
            this.parts.destination = this.#radios("destination", this.unique("destination"));
            parts.push(this.parts.passenger, this.parts.destination);
        } else if (run.places.cases.length > 1) {
            this.parts.caseList = this.#list("sheet", run.places.cases.map((one, i) => [i, one.title]), (i) => this.#chooseCase(Number(i)));
            parts.push(this.parts.caseList.label);
        }
        this.parts.cell = this.#list("cellOfAgent", [], (s) => this.onChoice(Number(s)));
        this.element.replaceChildren(...parts, this.parts.cell.label);
        this.shownCase = null;
    }

    #radios(name, words) {
        const group = html("fieldset", { class: "segments radios" }, html("legend", {}, say(name)));
        for (const word of words) {
            const input = html("input", { type: "radio", name, value: word });
            input.addEventListener("change", () => this.#choosePlaces());
            group.append(html("label", { class: `stand-choice choice-${word}` }, input, html("span", {}, word === "taxi" ? say("inTaxi") : word)));
        }
        return group;
    }

    #list(name, options, onChoice) {
        const select = html("select", {}, ...options.map(([value, text]) => html("option", { value }, text)));
        select.addEventListener("change", () => onChoice(select.value));
        return { select, label: html("label", { class: "field" }, html("span", {}, say(name)), select) };
    }

    #choosePlaces() {
        const chosen = (name) => this.element.querySelector(`input[name=${name}]:checked`)?.value;
        const caseIndex = this.run.places.caseNamed(chosen("passenger"), chosen("destination"));
        if (caseIndex >= 0) this.#chooseCase(caseIndex);
    }

    /** Keep the cell if the agent may act there in the new case; else take the first cell in which it may. */
    #chooseCase(caseIndex) {
        const { run } = this;
        const states = [...run.places.stateOf[caseIndex]].filter((s) => s >= 0 && run.acting[s]);
        const same = run.places.at(caseIndex, ...run.places.cell(this.start));
        const next = states.includes(same) ? same : states[0];
        if (next !== undefined) this.onChoice(next);
        else this.show(this.start);
    }

    show(start) {
        const { run } = this;
        this.start = start;
        const caseIndex = run.places.caseOf[start], one = run.places.cases[caseIndex];
        if (this.shownCase !== caseIndex) this.#fillCells(caseIndex);
        this.shownCase = caseIndex;
        if (this.parts.caseList) this.parts.caseList.select.value = caseIndex;
        for (const name of ["passenger", "destination"]) {
            for (const input of this.element.querySelectorAll(`input[name=${name}]`)) {
                input.checked = input.value === one[name];
                const wanted = name === "passenger" ? [input.value, one.destination] : [one.passenger, input.value];
                const there = run.places.caseNamed(...wanted);
                input.disabled = there < 0 || !run.places.stateOf[there].some((s) => s >= 0 && run.acting[s]);
            }
        }
        this.parts.cell.select.value = start;
    }

    #fillCells(caseIndex) {
        const { run } = this;
        const states = [...run.places.stateOf[caseIndex]].filter((s) => s >= 0 && run.acting[s]);
        this.parts.cell.select.replaceChildren(...states.map((s) => {
            const [row, column] = run.places.cell(s);
            return html("option", { value: s }, run.layout.isList ? say("stateNumber", { s }) : say("cell", { row, column }));
        }));
    }
}

function prefersStillness() {
    return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Language and theme stay in the address, so that a link or a reload keeps them. */
function rememberInAddress(name, value) {
    const words = new URLSearchParams(location.hash.slice(1));
    words.set(name, value);
    history.replaceState(null, "", `#${words}`);
}

/** Say on the page what is wrong with its data. */
function showFault(fault) {
    byId("loading").hidden = true;
    byId("message").hidden = false;
    byId("message").textContent = fault instanceof BadData ? say(fault.word, fault.values) : say("damaged", { where: String(fault.message ?? fault) });
    for (const name of ["title", "skip"]) for (const element of document.querySelectorAll(`[data-word=${name}]`)) element.textContent = say(name);
}

async function open() {
    language = document.documentElement.lang === "ko" ? "ko" : "en";
    for (const name of ["title", "loading", "skip"]) document.querySelector(`[data-word=${name}]`).textContent = say(name);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // the first paint comes first
    try {
        const { raw, runs } = await readData(byId("data").textContent);
        if (runs.length > 1 && !sameWorld(...runs)) throw new BadData("otherWorlds");
        byId("loading").hidden = true;
        for (const id of ["main", "timeline"]) byId(id).hidden = false;
        const page = new Page(runs, raw);
        // For tests and the curious: the page's own episodes, by number of run, state and moment.
        window.page = {
            runs, view: page, ready: true,
            episode(start, moment, { run = 0, epsilon = 0, seed = 0 } = {}) {
                const { states, actions, rewards, success, ended, steps } = wholeEpisode(runs[run], start, moment, epsilon, seed);
                return { states, actions, rewards, success, ended, steps };
            },
        };
    } catch (fault) {
        console.warn(fault);
        showFault(fault);
    }
}

function sameWorld(one, other) {
    return one.envId === other.envId && one.nStates === other.nStates && one.nActions === other.nActions && String(one.next) === String(other.next);
}

open();
