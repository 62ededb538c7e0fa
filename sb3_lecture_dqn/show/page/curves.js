"use strict";
// The curves over training, with the slider's position.

const CURVES = [
    { name: "solved", of: (run) => run.moments.solved, text: percent, range: () => ({ low: 0, high: 1, ticks: [0, 0.5, 1] }), best: (run) => solvableShare(run), tick: (v) => `${100 * v} %` },
    { name: "reward", of: (run) => run.moments.reward, text: (v) => number(v), best: (run) => run.optimum.mean_reward },
    { name: "steps", of: (run) => run.moments.steps, text: (v) => number(v, 1), best: (run) => run.optimum.mean_steps },
    { name: "epsilon", of: (run) => run.moments.epsilon, text: (v) => number(v, 3), range: () => ({ low: 0, high: 1, ticks: [0, 0.5, 1] }) },
    { name: "loss", of: (run) => run.moments.loss, text: (v) => number(v, 4) },
    { name: "q_error", of: (run) => run.moments.q_error, text: (v) => number(v, 3) },
];

function solvableShare(run) {
    return run.optimum.solvable / run.starts.length;
}

/** How a chart's axis goes: by size, or by powers of ten (of either sign) where values span many. */
function chartScale(values, fixed) {
    if (fixed) return { ...fixed, map: (v) => v, digits: 1 };
    const finite = values.filter((v) => Number.isFinite(v));
    if (finite.length === 0) return { low: 0, high: 1, ticks: [], map: (v) => v, digits: 0 };
    const low = Math.min(...finite), high = Math.max(...finite);
    const smallest = Math.min(...finite.filter((v) => v > 0));
    if (high - low > 200) return powersScale(low, high);
    if (low > 0 && high / smallest > 50) return logScale(low, high);
    return { ...niceRange(Math.min(low, 0), high > low ? high : low + 1, 2), map: (v) => v };
}

/** Powers of ten on both sides of zero, linear within ±1. */
function powersScale(low, high) {
    const map = (v) => Math.sign(v) * Math.log10(1 + Math.abs(v));
    const ticks = [0];
    for (let power = 1; 10 ** (power - 1) < Math.max(-low, high); power++) {
        if (10 ** power <= -low * 1.0001) ticks.push(-(10 ** power));
        if (10 ** power <= high * 1.0001) ticks.push(10 ** power);
    }
    return { low: Math.min(low, 0), high: Math.max(high, 0), ticks: thin(ticks.sort((a, b) => a - b)), map, digits: 0, isPowers: true };
}

function logScale(low, high) {
    const ticks = [];
    for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power++) ticks.push(10 ** power);
    return { low, high, ticks: thin(ticks), map: Math.log10, digits: null, isPowers: true };
}

function thin(ticks) {
    const every = Math.ceil(ticks.length / 5);
    return ticks.filter((tick, i) => i % every === 0 || tick === 0);
}

function tickText(scale, value) {
    if (!scale.isPowers) return number(value, scale.digits);
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 0.01 && size < 1e5) return number(value, size < 1 ? Math.round(-Math.log10(size)) : 0).replaceAll(",", "");
    return number(value, 0);
}

/** One chart: a curve for every run, the optimum, marks of events, and where the slider stands. */
class Chart {
    static WIDTH = 360;
    static HEIGHT = 170;
    static BOX = { left: 50, right: 12, top: 16, bottom: 24 };

    constructor(kind, runs, onEpisode) {
        Object.assign(this, { kind, runs });
        this.heading = html("h3");
        this.now = html("span", { class: "now" });
        this.drawing = svg("svg", { viewBox: `0 0 ${Chart.WIDTH} ${Chart.HEIGHT}`, role: "img", class: "chart" });
        this.element = html("figure", { class: "card curve" }, html("figcaption", {}, this.heading, this.now), this.drawing);
        this.lastEpisode = Math.max(1, ...runs.flatMap((run) => run.moments.episode));
        const values = runs.flatMap((run) => kind.of(run)).filter((value) => value !== null);
        const best = kind.best ? runs.map(kind.best).filter(Number.isFinite) : [];
        this.scale = chartScale([...values, ...best], kind.range?.());
        this.#draw();
        this.#listen(onEpisode);
    }

    x(episode) {
        const { left, right } = Chart.BOX;
        return left + (episode / this.lastEpisode) * (Chart.WIDTH - left - right);
    }

    y(value) {
        const { map, low, high } = this.scale;
        const { top, bottom } = Chart.BOX;
        const share = (map(value) - map(low)) / (map(high) - map(low) || 1);
        return Chart.HEIGHT - bottom - Math.min(Math.max(share, 0), 1) * (Chart.HEIGHT - top - bottom);
    }

    #draw() {
        const { left, right, bottom, top } = Chart.BOX;
        const { WIDTH, HEIGHT } = Chart;
        this.drawing.replaceChildren(svg("title"));
        for (const tick of this.scale.ticks) {
            const y = this.y(tick);
            this.drawing.append(svg("path", { d: `M${left} ${y}H${WIDTH - right}`, class: "grid" }),
                svg("text", { x: left - 7, y: y + 4, class: "tick end" }, this.kind.tick?.(tick) ?? tickText(this.scale, tick)));
        }
        for (const [episode, anchor] of [[0, "start"], [this.lastEpisode, "end"]])
            this.drawing.append(svg("text", { x: this.x(episode), y: HEIGHT - 6, class: `tick ${anchor}` }, number(episode, 0)));
        this.runs.forEach((run, i) => this.#drawCopies(run, i));
        if (this.kind.best) {
            const best = this.y(this.kind.best(this.runs[0]));
            this.drawing.append(svg("path", { d: `M${left} ${best}H${WIDTH - right}`, class: "best" }));
        }
        this.cursor = svg("path", { d: `M0 ${top - 6}V${HEIGHT - bottom}`, class: "cursor" });
        this.drawing.append(this.cursor);
        this.dots = this.runs.map((run, i) => {
            this.drawing.append(svg("path", { d: this.#line(run), class: `line run${i}` }));
            for (const event of run.events) this.drawing.append(this.#eventMark(event, i));
            return svg("circle", { r: 4.5, class: `dot run${i}` });
        });
        this.drawing.append(...this.dots);
    }

    /** Target copies, as ticks on the axis, where they do not run into one another. (Over the slider they all are.) */
    #drawCopies(run, i) {
        const y = Chart.HEIGHT - Chart.BOX.bottom;
        const copies = run.moments.episode.filter((_, m) => run.moments.why[m].includes("target_copy"));
        if (copies.length > 80) return;
        const d = copies.map((episode) => `M${this.x(episode).toFixed(1)} ${y}v${i ? -5 : 5}`).join("");
        this.drawing.append(svg("path", { d, class: `copies run${i}` }));
    }

    #line(run) {
        let d = "", pen = "M";
        this.kind.of(run).forEach((value, m) => {
            if (value === null || !Number.isFinite(value)) pen = "M";
            else {
                d += `${pen}${this.x(run.moments.episode[m]).toFixed(1)} ${this.y(value).toFixed(1)}`;
                pen = "L";
            }
        });
        return d;
    }

    #eventMark(event, i) {
        return svg("g", { transform: `translate(${this.x(event.episode)} ${Chart.BOX.top - 8})`, class: `event run${i}` }, eventSign(event.kind));
    }

    #listen(onEpisode) {
        const go = (event) => {
            const box = this.drawing.getBoundingClientRect();
            const { left, right } = Chart.BOX;
            const x = ((event.clientX - box.left) / box.width) * Chart.WIDTH;
            onEpisode(((x - left) / (Chart.WIDTH - left - right)) * this.lastEpisode);
        };
        this.drawing.addEventListener("pointerdown", (event) => {
            if (event.pointerType === "mouse") this.drawing.setPointerCapture(event.pointerId);
            go(event);
        });
        this.drawing.addEventListener("pointermove", (event) => {
            if (event.pointerType === "mouse" && event.buttons & 1) go(event);
        });
    }

    show(moments, episode) {
        this.heading.textContent = say(`curve_${this.kind.name}`);
        const values = this.runs.map((run, i) => this.kind.of(run)[moments[i]]);
        this.now.replaceChildren(...values.map((value, i) => html("span", { class: `run${i}` }, this.kind.text(value))));
        this.cursor.setAttribute("transform", `translate(${this.x(episode)} 0)`);
        this.dots.forEach((dot, i) => setAll(dot, values[i] === null ? { visibility: "hidden" }
            : { visibility: null, cx: this.x(this.runs[i].moments.episode[moments[i]]), cy: this.y(values[i]) }));
        this.drawing.querySelector("title").textContent = `${say(`curve_${this.kind.name}`)}: ${values.map(this.kind.text).join(" | ")}`;
    }
}

/** The sign of an event: a triangle, a star or a cross, so that none needs its colour. */
function eventSign(kind) {
    const path = {
        first_success: "M0 -6L6 5H-6Z",
        all_solved: "M0 -7L2 -2L7 -2L3 1L5 7L0 3L-5 7L-3 1L-7 -2L-2 -2Z",
        diverged: "M-5 -5L5 5M5 -5L-5 5",
    }[kind] ?? "M-4 -4H4V4H-4Z";
    return svg("path", { d: path, class: `event-sign event-${kind}` });
}

/** What the signs and lines of the curves mean. */
function curveLegend(runs) {
    const item = (drawn, text) => html("span", { class: "legend-item" }, svg("svg", { viewBox: "-20 -18 40 36", "aria-hidden": "true" }, drawn), text);
    const items = runs.length > 1 ? runs.map((run, i) => item(svg("path", { d: "M-18 0H18", class: `line run${i}` }), `${"AB"[i]}: ${run.name}`)) : [];
    items.push(item(svg("path", { d: "M-18 0H18", class: "best" }), say("legend_best")));
    const events = new Set(runs.flatMap((run) => run.events.map((event) => event.kind)));
    for (const kind of ["first_success", "all_solved", "diverged"])
        if (events.has(kind)) items.push(item(svg("g", { class: "event", transform: "scale(1.5)" }, eventSign(kind)), say(`event_${kind}`)));
    if (runs.some((run) => run.moments.why.some((why) => why.includes("target_copy"))))
        items.push(item(svg("path", { d: "M-12 -6v12M-4 -6v12M4 -6v12M12 -6v12", class: "copies run0" }), say("legend_copies")));
    return items;
}
