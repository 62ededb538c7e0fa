"use strict";
// How it learns: the memory at a moment, one update in numbers, the diagnosis, the settings.

/** A line "name: value" of a list of figures. */
function fact(name, value) {
    return html("div", {}, html("dt", {}, name), html("dd", {}, value));
}

/** A button that names a state and an action, and shows the state on the map. */
function pairButton(run, s, a, onState, note = "") {
    const button = html("button", { type: "button", class: "chip" }, inlineSign(run, a), `${stateText(run, s)} · ${actionText(run, a)}`, note && html("b", {}, note));
    button.addEventListener("click", () => onState(s));
    return button;
}

/** The memory of a run at a moment. */
class Memory {
    constructor(run, area, onState) {
        Object.assign(this, { run, onState });
        this.map = new ActionMap(run);
        this.caseTitle = html("p", { class: "place" });
        this.facts = html("dl", { class: "facts" });
        this.legend = html("p", { class: "legend" });
        this.successes = html("div", { class: "chips" });
        this.successTitle = html("h3");
        this.none = html("p", { class: "small" });
        this.content = html("div", { class: "pair" }, html("div", {}, this.caseTitle, this.map.element, this.legend),
            html("div", {}, this.facts, this.successTitle, this.successes));
        this.element = html("section", { class: `card run${area}` }, this.none, this.content);
    }

    show(m, caseIndex) {
        const { run } = this;
        this.none.hidden = run.held !== null;
        this.content.hidden = run.held === null;
        this.none.textContent = run.held === null ? say("noMemory") : "";
        if (!run.held) return;
        const successes = new Map((run.moments.memory.success_list?.[m] ?? []).map((row) => [row[0] * run.nActions + row[1], row]));
        const drawn = new Set((run.moments.updates?.[m] ?? []).map((update) => update.s * run.nActions + update.a));
        let here = 0, possibleHere = 0;
        this.map.show(caseIndex, (s, a) => {
            const isHeld = run.isHeld(m, s, a), pair = s * run.nActions + a;
            here += isHeld;
            possibleHere += run.isValid(s, a);
            if (!run.isValid(s, a)) return "piece off";
            return `piece${isHeld ? " held" : ""}${successes.has(pair) ? " succeeded" : ""}${drawn.has(pair) ? " drawn" : ""}`;
        });
        this.caseTitle.textContent = caseText(run, caseIndex);
        this.#showFacts(m, here, possibleHere);
        this.#showSuccesses([...successes.values()]);
        this.map.describe(`${say("memory")}: ${say("heldHere", { held: here, all: possibleHere })}`);
    }

    #showFacts(m, here, possibleHere) {
        const { run } = this;
        const { memory } = run.moments;
        let held = 0, all = 0;
        for (let s = 0; s < run.nStates; s++) {
            if (!run.acting[s]) continue;
            for (let a = 0; a < run.nActions; a++) {
                if (!run.isValid(s, a)) continue;
                all++;
                held += run.isHeld(m, s, a);
            }
        }
        this.facts.replaceChildren(
            fact(say("memorySuccesses"), number(memory.successes?.[m], 0)), fact(say("memoryFailures"), number(memory.failures?.[m], 0)),
            fact(say("pairsHeld"), `${number(held, 0)} / ${number(all, 0)} (${percent(held / all)})`),
            fact(say("pairsHere"), `${here} / ${possibleHere}`));
        this.legend.replaceChildren(...legendItems(["heldPair", "successPair", "drawnPair", "emptyPair"]));
    }

    #showSuccesses(rows) {
        this.successTitle.textContent = say("successes");
        this.successes.replaceChildren(...rows.map(([s, a, r]) => pairButton(this.run, s, a, this.onState, rewardText(r))));
        if (rows.length === 0) this.successes.append(html("span", { class: "small" }, say("noSuccesses")));
    }
}

function caseText(run, caseIndex) {
    const one = run.places.cases[caseIndex];
    if (!one.destination) return one.title ?? "";
    return say("caseText", { passenger: one.passenger === "taxi" ? say("inTaxi") : one.passenger, destination: one.destination });
}

/** One update in numbers, and the other values it moved. */
class UpdateView {
    constructor(run, area, onState) {
        Object.assign(this, { run, onState, chosen: 0, m: 0 });
        this.none = html("p", { class: "small" });
        this.tabs = html("div", { class: "chips", role: "group" });
        this.equation = html("div", { class: "equation" });
        this.line = svg("svg", { class: "number-line", viewBox: "0 0 460 58", role: "img" });
        this.map = new ActionMap(run);
        this.legend = html("p", { class: "legend" });
        this.caseTitle = html("p", { class: "place" });
        this.moved = html("p", { class: "small" });
        this.list = html("div", { class: "chips" });
        this.content = html("div", { class: "pair" }, html("div", {}, this.caseTitle, this.map.element, this.legend),
            html("div", {}, this.tabs, this.equation, this.line, this.moved, this.list));
        this.element = html("section", { class: `card run${area}` }, this.none, this.content);
    }

    show(m) {
        const updates = this.run.moments.updates?.[m] ?? [];
        this.m = m;
        this.none.hidden = updates.length > 0;
        this.content.hidden = updates.length === 0;
        this.none.textContent = updates.length ? "" : say("noUpdates");
        if (updates.length === 0) return;
        this.chosen = Math.min(this.chosen, updates.length - 1);
        this.tabs.setAttribute("aria-label", say("drawnLast"));
        this.tabs.replaceChildren(html("span", { class: "small" }, say(this.#isSample(m) ? "drawnSample" : "drawnLast")),
            ...updates.map((update, i) => this.#tab(update, i)));
        const update = updates[this.chosen];
        this.equation.replaceChildren(...this.#lines(update));
        this.#drawLine(update);
        this.#drawMoved(update);
    }

    /** Whether the transitions are not those that training drew last, but others of its memory. */
    #isSample(m) {
        const drawn = this.run.moments.drawn;
        return (Array.isArray(drawn) ? drawn[m] : drawn) === "sample";
    }

    #tab(update, i) {
        const button = html("button", { type: "button", class: "chip number", "aria-pressed": String(i === this.chosen), "aria-label": say("drawNumber", { i: i + 1 }) },
            inlineSign(this.run, update.a), String(i + 1));
        button.addEventListener("click", () => {
            this.chosen = i;
            this.show(this.m);
            this.tabs.querySelectorAll("button")[i].focus();
        });
        return button;
    }

    #lines(update) {
        const { run } = this;
        const line = (name, ...parts) => html("p", { class: name }, ...parts);
        const transition = line("transition", pairButton(run, update.s, update.a, this.onState), " → ", rewardText(update.r),
            " → ", update.done ? say("theEnd") : stateText(run, update.s2));
        const target = run.learning.target_network ? "Q⁻" : "Q";
        const max = run.learning.double_q ? `${target}(s′, argmax Q(s′, ·))` : `max ${target}(s′, ·)`;
        const general = line("formula", update.done ? "y = r" : `y = r + γ · ${max}`);
        const filled = line("formula filled", update.done ? `y = ${number(update.y)}`
            : `${number(update.r, 0)} + ${number(run.gamma)} · ${number(update.max)} = `, ...(update.done ? [] : [html("b", {}, number(update.y))]));
        const change = line("formula filled", "Q(s, a): ", number(update.before, 4), " → ", html("b", {}, number(update.after, 4)),
            ` (${signed(update.after - update.before, 4)})`);
        const note = line("small", update.done ? say("terminalNote")
            : `${say(run.learning.target_network ? "targetNote" : "noTargetNote")} ${say("bestNote", { action: actionText(run, update.best) })}`);
        return [transition, general, filled, note, change];
    }

    /** Q before (a ring), after (a dot) and the target y (a diamond) on one axis. */
    #drawLine(update) {
        const values = [update.before, update.after, update.y];
        const span = Math.max(...values) - Math.min(...values) || 1;
        const { low, high, ticks, digits } = niceRange(Math.min(...values) - 0.1 * span, Math.max(...values) + 0.1 * span, 4);
        const x = (value) => 20 + ((value - low) / (high - low)) * 420;
        this.line.replaceChildren(
            svg("title", {}, say("lineText", { before: number(update.before, 4), after: number(update.after, 4), y: number(update.y, 4) })),
            svg("path", { d: "M20 26H440", class: "axis" }),
            ...ticks.flatMap((tick) => [svg("path", { d: `M${x(tick)} 22v8`, class: "axis" }), svg("text", { x: x(tick), y: 47, class: "tick" }, number(tick, digits))]),
            svg("path", { d: `M${x(update.before)} 26H${x(update.y)}`, class: "error" }),
            svg("path", { d: `M${x(update.y)} 17l8 9l-8 9l-8 -9z`, class: "aim" }), svg("text", { x: x(update.y), y: 12, class: "tick strong" }, "y"),
            svg("circle", { cx: x(update.before), cy: 26, r: 6, class: "before" }), svg("circle", { cx: x(update.after), cy: 26, r: 4, class: "after" }),
            ...(Math.abs(x(update.before) - x(update.y)) > 30 ? [svg("text", { x: x(update.after), y: 12, class: "tick strong" }, "Q")] : []));
    }

    #drawMoved(update) {
        const { run } = this;
        const moved = new Map(update.moved.map(([s, a, difference]) => [s * run.nActions + a, difference]));
        const learned = update.s * run.nActions + update.a;
        const largest = Math.max(...update.moved.map(([, , difference]) => Math.abs(difference)), 1e-12);
        const caseIndex = run.places.caseOf[update.s];
        this.map.show(caseIndex, (s, a) => {
            const difference = moved.get(s * run.nActions + a);
            if (s * run.nActions + a === learned) return "piece learned";
            if (difference === undefined) return "piece";
            return `piece ${difference > 0 ? "up" : "down"}${Math.min(3, Math.ceil((3 * Math.abs(difference)) / largest))}`;
        }, update.s);
        this.caseTitle.textContent = caseText(run, caseIndex);
        this.legend.replaceChildren(...legendItems(["learnedPair", "movedUp", "movedDown"]));
        this.moved.textContent = update.n_moved
            ? say("movedText", { n: number(update.n_moved, 0), size: number(largest, 4) }) : say("noneMoved");
        this.list.replaceChildren(...update.moved.slice(0, 6).map(([s, a, difference]) => pairButton(run, s, a, this.onState, signed(difference, 4))));
        this.map.describe(`${say("update")}: ${this.moved.textContent}`);
    }
}

/** What the diagnosis found; a finding with states can show them. */
class Diagnosis {
    constructor(run, area, onStates) {
        Object.assign(this, { run, onStates });
        this.element = html("section", { class: `findings run${area}` });
    }

    show() {
        const findings = this.run.diagnosis[language] ?? this.run.diagnosis.en ?? [];
        this.element.replaceChildren(...findings.map((finding) => this.#card(finding)));
        if (findings.length === 0) this.element.append(html("p", { class: "small" }, say("noFindings")));
    }

    #card(finding) {
        const card = html("article", { class: `card finding finding-${finding.kind}` }, html("h3", {}, finding.title), html("p", {}, finding.text));
        if (finding.advice) card.append(html("p", { class: "advice" }, finding.advice));
        if (finding.states?.length) {
            const button = html("button", { type: "button", class: "button" }, say("showStates", { n: finding.states.length }));
            button.addEventListener("click", () => this.onStates(finding.states, finding.title));
            card.append(button);
        }
        return card;
    }
}

/** The settings of the runs; where two runs differ, that comes first. */
function settingsTable(runs) {
    const names = [...new Set(runs.flatMap((run) => run.settings.map(([name]) => name)))];
    const values = runs.map((run) => new Map(run.settings.map(([name, value]) => [name, value])));
    const differs = (name) => runs.length > 1 && values[0].get(name) !== values[1].get(name);
    const row = (name) => html("tr", { class: differs(name) ? "differs" : null }, html("th", { scope: "row" }, name),
        ...values.map((one) => html("td", {}, one.get(name) ?? "–")));
    const table = (rows) => html("table", {}, ...(runs.length > 1 ? [html("thead", {}, html("tr", {}, html("td", {}),
        ...runs.map((run, i) => html("th", { scope: "col" }, `${"AB"[i]}: ${run.name}`))))] : []), html("tbody", {}, ...rows));
    const parts = [];
    if (runs.length > 1) parts.push(html("p", {}, say(names.some(differs) ? "differences" : "noDifferences")), table(names.filter(differs).map(row)));
    const all = html("details", { class: "card" }, html("summary", {}, say("allSettings", { n: names.length })), table(names.map(row)));
    return [...parts, all];
}
