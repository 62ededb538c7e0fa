"use strict";
// Beside the map: the figures of a moment, and the action values of the agent's state as bars.

/** The figures of a run at a moment, against the optimum. */
class Tiles {
    constructor(run, area) {
        this.run = run;
        this.element = html("dl", { class: `tiles card run${area}` });
        this.tiles = ["solved", "reward", "steps", "right", "epsilon"].map((name) => {
            const figure = html("span", { class: "figure" }), note = html("span", { class: "note" });
            const term = html("dt");
            this.element.append(html("div", { class: `tile tile-${name}` }, term, html("dd", {}, figure, note)));
            return { name, term, figure, note };
        });
    }

    show(m) {
        const { run } = this;
        const { moments, optimum } = run;
        const n = run.starts.length, failing = run.failing(m).length;
        const content = {
            solved: [percent(moments.solved[m]), run.nOutcomes > 1 ? say("chance") : say("ofStarts", { good: n - failing, n })],
            reward: [number(moments.reward[m]), say("optimum", { value: number(optimum.mean_reward) })],
            steps: [number(moments.steps[m], 1), say("optimum", { value: number(optimum.mean_steps, 1) })],
            right: [percent(moments.optimal_share[m]), say("ofStates")],
            epsilon: [number(moments.epsilon[m], 3), say("randomActions")],
        };
        for (const { name, term, figure, note } of this.tiles) {
            term.textContent = say(`tile_${name}`);
            [figure.textContent, note.textContent] = content[name];
        }
    }
}

/** Limits of the bars' axis: all optimal values, and nearly all recorded ones as far as they do not dwarf those. */
function barRange(runs) {
    let low = Infinity, high = -Infinity;
    const recorded = [];
    for (const run of runs) {
        const stride = Math.max(1, Math.floor(run.q.length / 20000)) | 1;
        for (let s = 0; s < run.nStates; s++) {
            if (!run.acting[s]) continue;
            for (let a = 0; a < run.nActions; a++) {
                if (!run.isValid(s, a)) continue;
                low = Math.min(low, run.optimalQ[s * run.nActions + a]);
                high = Math.max(high, run.optimalQ[s * run.nActions + a]);
            }
        }
        for (let i = 0; i < run.q.length; i += stride) recorded.push(run.offset + run.scale * run.q[i]);
    }
    recorded.sort((a, b) => a - b);
    const span = Math.max(high - low, 1e-6);
    low = Math.max(Math.min(low, recorded[Math.floor(0.002 * recorded.length)]), low - 0.5 * span);
    high = Math.min(Math.max(high, recorded[Math.floor(0.998 * recorded.length)]), high + 0.5 * span);
    const room = 0.04 * (high - low);
    [low, high] = [Math.min(low - room, 0), Math.max(high + room, 0)];
    const nice = niceRange(low, high);
    return { ...nice, low, high, ticks: nice.ticks.filter((tick) => tick >= low && tick <= high) };
}

/** Round limits outwards to a step of 1, 2 or 5 times a power of ten, and say where the ticks are. */
function niceRange(low, high, wanted = 4) {
    const rough = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
    const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
    const ticks = [];
    for (let i = first; i <= last; i++) ticks.push(Number((i * step).toPrecision(12)));
    return { low: ticks[0], high: ticks[ticks.length - 1], ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** The action values of one state as bars on a fixed axis, with the optimal values as marks. */
class Bars {
    static LEFT = 96;
    static RIGHT = 52;
    static WIDTH = 460;
    static ROW = 34;

    constructor(run, area, range) {
        this.run = run;
        this.range = range;
        this.title = html("h3");
        this.place = html("p", { class: "place" });
        this.legend = html("p", { class: "legend" });
        const height = run.nActions * Bars.ROW + 26;
        this.drawing = svg("svg", { class: "bars", viewBox: `0 0 ${Bars.WIDTH} ${height}`, role: "img" }, svg("title"));
        this.#drawAxis(height);
        this.rows = run.actionNames.map((_, a) => this.#addRow(a));
        this.element = html("section", { class: `card values run${area}` }, this.title, this.place, this.drawing, this.legend);
    }

    x(value) {
        const { low, high } = this.range;
        const share = (Math.min(Math.max(value, low), high) - low) / (high - low);
        return Bars.LEFT + share * (Bars.WIDTH - Bars.LEFT - Bars.RIGHT);
    }

    #drawAxis(height) {
        for (const tick of this.range.ticks) {
            const x = this.x(tick);
            this.drawing.append(svg("path", { d: `M${x} 0V${height - 20}`, class: tick === 0 ? "zero" : "grid" }),
                svg("text", { x, y: height - 5, class: "tick" }, number(tick, this.range.digits)));
        }
    }

    #addRow(a) {
        const y = a * Bars.ROW;
        const sign = new Sign(this.run);
        sign.show(a);
        sign.element.setAttribute("transform", `translate(14 ${y + 17}) scale(.3)`);
        const row = {
            name: svg("text", { x: 30, y: y + 21, class: "name" }),
            bar: svg("rect", { y: y + 8, height: 18, rx: 3 }),
            hatch: svg("rect", { y: y + 8, height: 18, rx: 3, fill: "url(#forbidden-hatch)" }),
            best: svg("path", { class: "optimal" }),
            beyond: svg("path", { class: "beyond" }),
            value: svg("text", { x: Bars.WIDTH - 4, y: y + 21, class: "amount" }),
        };
        row.group = svg("g", {}, sign.element, ...Object.values(row));
        this.drawing.append(row.group);
        return row;
    }

    show(m, s) {
        const { run } = this;
        const greedy = run.action(m, s), zero = this.x(0), acts = run.acting[s] === 1;
        this.title.textContent = say("values");
        this.place.textContent = acts ? stateText(run, s) : say("noAction", { state: stateText(run, s) });
        this.rows.forEach((row, a) => {
            const value = run.value(m, s, a), best = run.optimalQ[s * run.nActions + a];
            const x = this.x(value), y = a * Bars.ROW + 17, mark = this.x(best);
            const span = { x: Math.min(x, zero), width: Math.max(Math.abs(x - zero), 1) };
            const optimal = run.isOptimal(s, a);
            row.name.textContent = actionText(run, a);
            setAll(row.bar, { ...span, class: "bar" });
            setAll(row.hatch, { ...span, visibility: run.isForbidden(s, a) ? null : "hidden" });
            setAll(row.best, { d: optimal ? `M${mark} ${y - 13}L${mark + 6} ${y}L${mark} ${y + 13}L${mark - 6} ${y}Z` : `M${mark} ${y - 11}V${y + 11}` });
            const side = value > this.range.high ? 1 : value < this.range.low ? -1 : 0;
            setAll(row.beyond, { d: side ? `M${x + 3 * side} ${y - 6}l${7 * side} 6l${-7 * side} 6z` : "M0 0" });
            row.value.textContent = number(value);
            setAll(row.group, { class: acts ? `action${a === greedy ? " chosen" : ""}${optimal ? " is-optimal" : ""}` : "action off" });
        });
        this.drawing.querySelector("title").textContent = this.rows.map((row, a) =>
            `${actionText(run, a)} ${number(run.value(m, s, a))} (${number(run.optimalQ[s * run.nActions + a])})`).join("; ");
        this.#showLegend();
    }

    #showLegend() {
        if (this.legend.lang === language) return;
        this.legend.lang = language;
        this.legend.replaceChildren(...legendItems(["chosen", "optimalValue", "optimalAction", ...(this.#hasForbidden() ? ["forbidden"] : [])]));
    }

    #hasForbidden() {
        const { run } = this;
        for (let s = 0; s < run.nStates; s++) for (let a = 0; a < run.nActions; a++) if (run.acting[s] && run.isForbidden(s, a)) return true;
        return false;
    }
}

const LEGEND_SIGNS = {
    chosen: () => svg("rect", { x: -16, y: -8, width: 32, height: 16, rx: 3, class: "bar" }),
    optimalValue: () => svg("path", { d: "M0 -13V13", class: "optimal" }),
    optimalAction: () => svg("path", { d: "M0 -15L7 0L0 15L-7 0Z", class: "optimal" }),
    forbidden: () => svg("rect", { x: -16, y: -8, width: 32, height: 16, rx: 3, fill: "url(#forbidden-hatch)" }),
    rightArrow: () => svg("path", { d: "M-16 -4 H3 V-11 L18 0 L3 11 V4 H-16 Z", class: "sign" }),
    wrongArrow: () => svg("g", { class: "wrong" }, svg("path", { d: "M-18 -4 H-1 V-10 L11 0 L-1 10 V4 H-18 Z", class: "sign" }), svg("path", { d: "M11 -15L19 -7M19 -15L11 -7", class: "cross" })),
    agentTrail: () => svg("path", { d: "M-18 6L-4 6L-4 -6L18 -6", class: "trail" }),
    heldPair: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece held" }),
    successPair: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece succeeded" }),
    emptyPair: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece" }),
    drawnPair: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece drawn" }),
    movedUp: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece up3" }),
    movedDown: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece down3" }),
    learnedPair: () => svg("path", { d: "M14 0L-8 13V-13Z", class: "piece learned" }),
};

/** The items of a legend: a drawn sign and its word each. */
function legendItems(names) {
    return names.map((name) => html("span", { class: `legend-item chosen` },
        svg("svg", { viewBox: "-20 -18 40 36", "aria-hidden": "true", class: "action chosen on-light" }, LEGEND_SIGNS[name]()), say(`legend_${name}`)));
}
