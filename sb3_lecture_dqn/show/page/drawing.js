"use strict";
// Small tools: elements, words, numbers, colours, and the signs that stand for actions.

const SVG = "http://www.w3.org/2000/svg";

function setAll(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
        if (value === null || value === false || value === undefined) element.removeAttribute(name);
        else element.setAttribute(name, value === true ? "" : value);
    }
    return element;
}

/** An SVG element with attributes and children (elements or text). */
function svg(tag, attributes = {}, ...children) {
    const element = setAll(document.createElementNS(SVG, tag), attributes);
    element.append(...children);
    return element;
}

/** An HTML element with attributes and children (elements or text). */
function html(tag, attributes = {}, ...children) {
    const element = setAll(document.createElement(tag), attributes);
    element.append(...children.filter((child) => child !== null));
    return element;
}

function byId(id) {
    return document.getElementById(id);
}

// Words

let language = "en";

/** The word named `name` in the present language, with `{…}` filled in. */
function say(name, values = {}) {
    const text = WORDS[language][name];
    if (text === undefined) throw new Error(`no word ${name}`);
    return text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** The name of an action or an outcome in the present language; as it is, if there is no word for it. */
function sayName(name) {
    return WORDS[language].names[name] ?? name;
}

/** Numbers with a true minus; "–" for what is not a number; powers of ten for what is very large. */
function number(value, digits = 2) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size >= 1e6 || (size > 0 && digits <= 4 && size < 0.5 * 10 ** -digits)) {
        const [digitsOf, power] = size.toExponential(size >= 1e6 ? 1 : 0).split("e");
        return `${value < 0 ? "−" : ""}${digitsOf}·10${[...String(Number(power))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")}`;
    }
    return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}

function signed(value, digits = 2) {
    return (value > 0 ? "+" : "") + number(value, digits);
}

/** A reward: whole numbers without decimals. */
function rewardText(value) {
    return signed(value, Number.isInteger(value) ? 0 : 2);
}

function percent(share) {
    if (share === null || share === undefined) return "–";
    // Not all is never shown as all.
    const shown = share < 1 ? Math.min(Math.round(share * 1000) / 10, 99.9) : 100;
    return `${number(shown, shown === 100 || shown === 0 ? 0 : 1)} %`;
}

// Colours: both ramps go from dark to light or back without a turn, and do without red against green.

const RAMPS = {
    light: [[247, 246, 240], [221, 236, 221], [168, 216, 205], [99, 181, 194], [46, 134, 171], [34, 88, 143], [36, 48, 105]],
    dark: [[29, 36, 54], [29, 56, 88], [27, 86, 115], [36, 121, 132], [83, 160, 140], [152, 199, 146], [232, 232, 168]],
};

function theme() {
    return document.documentElement.dataset.theme;
}

function rampColour(share) {
    const ramp = RAMPS[theme()];
    const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const low = Math.min(Math.floor(place), ramp.length - 2);
    return ramp[low].map((channel, i) => Math.round(channel + (place - low) * (ramp[low + 1][i] - channel)));
}

function cssColour(channels) {
    return `rgb(${channels.join(",")})`;
}

/** Whether black, rather than white, is read better on a colour. */
function isLight([red, green, blue]) {
    const linear = (channel) => (channel / 255 <= 0.04045 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) > 0.22;
}

// Signs of actions, drawn around (0, 0) in a cell of 100 × 100

/** The path of an action's sign: an arrow for a move; a tray with an arrow up or down for pick up and drop off. */
function signPath(run, action) {
    if (run.layout.moves[action]) return "M-30 -8 H4 V-21 L32 0 L4 21 V8 H-30 Z";
    if (run.actionNames[action] === "pick up") return "M-9 6 V-6 H-20 L0 -29 L20 -6 H9 V6 Z M-24 12 H24 V25 H-24 Z";
    if (run.actionNames[action] === "drop off") return "M-9 -28 V-14 H-20 L0 9 L20 -14 H9 V-28 Z M-24 14 H24 V27 H-24 Z";
    return null;
}

function signTurn(run, action) {
    const move = run.layout.moves[action];
    return move ? (Math.atan2(move[0], move[1]) * 180) / Math.PI : 0;
}

/** An action's sign: a path, or the number of the action where it has no shape. */
class Sign {
    constructor(run) {
        this.run = run;
        this.path = svg("path", { class: "sign" });
        this.text = svg("text", { class: "sign-number", y: 11 });
        this.element = svg("g", {}, this.path, this.text);
        this.shown = null;
    }

    show(action) {
        if (action === this.shown) return;
        this.shown = action;
        const path = action === null ? null : signPath(this.run, action);
        setAll(this.path, { d: path ?? "M0 0", transform: path ? `rotate(${signTurn(this.run, action)})` : null });
        this.text.textContent = action !== null && !path ? String(action) : "";
    }
}

/** A small sign of an action in running text. */
function inlineSign(run, action) {
    const sign = new Sign(run);
    sign.show(action);
    return svg("svg", { viewBox: "-36 -36 72 72", class: "inline-sign", "aria-hidden": "true" }, sign.element);
}

/** Name a state in words. */
function stateText(run, s) {
    const { layout, places } = run;
    if (layout.isList) return say("stateNumber", { s });
    const [row, column] = places.cell(s);
    const one = places.cases[places.caseOf[s]];
    const cell = say("cell", { row, column });
    if (!one.destination) return one.title ? `${cell}, ${one.title}` : cell;
    return say("taxiState", { cell, passenger: one.passenger === "taxi" ? say("inTaxi") : one.passenger, destination: one.destination });
}

/** Name an action of a state. */
function actionText(run, a) {
    return sayName(run.actionNames[a]);
}
