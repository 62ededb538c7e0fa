"use strict";
// The recorded data: read, inflated and checked. Everything after this file may trust it.

const FORMAT = 1;

/** A fault of the data, with the name of its message in WORDS and what goes into it. */
class BadData extends Error {
    constructor(word, values = {}) {
        super(`${word} ${JSON.stringify(values)}`);
        this.word = word;
        this.values = values;
    }
}

const ARRAY_TYPES = { int16: Int16Array, uint8: Uint8Array, int32: Int32Array, float32: Float32Array, uint16: Uint16Array };

function bytesOfBase64(text) {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
}

async function inflate(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).arrayBuffer();
}

/** Undo the differences along the first axis: typed arrays wrap as NumPy's integers do. */
function addUp(values, rowLength) {
    for (let i = rowLength; i < values.length; i++) values[i] += values[i - rowLength];
}

/** Return the typed array that `packed` describes; `shape` is what it must have, and `name` says where it stands. */
async function unpack(packed, shape, name) {
    const Type = ARRAY_TYPES[packed?.type];
    if (!Type || typeof packed.data !== "string") throw new BadData("damaged", { where: name });
    if (String(packed.shape) !== String(shape)) throw new BadData("damaged", { where: `${name} (${packed.shape} ≠ ${shape})` });
    let buffer;
    try {
        buffer = await inflate(bytesOfBase64(packed.data));
    } catch {
        throw new BadData("damaged", { where: name });
    }
    const size = shape.reduce((a, b) => a * b, 1);
    if (buffer.byteLength !== size * Type.BYTES_PER_ELEMENT) throw new BadData("damaged", { where: name });
    const values = new Type(buffer);
    if (packed.delta) addUp(values, size / shape[0]);
    return values;
}

function checkBelow(values, limit, name) {
    for (const value of values) if (value < 0 || value >= limit) throw new BadData("damaged", { where: name });
}

/** One recorded training run. Arrays are flat; the methods know their shapes. */
class Run {
    constructor(raw) {
        Object.assign(this, {
            raw, name: raw.name, envId: raw.env_id, kind: raw.kind, gamma: raw.gamma, limit: raw.limit,
            learning: raw.learning, settings: raw.settings, events: raw.events ?? [], diagnosis: raw.diagnosis ?? {},
            nStates: raw.world.n_states, nActions: raw.world.n_actions, nOutcomes: raw.world.n_outcomes,
            actionNames: raw.world.action_names, optimum: raw.world.optimal, nMoments: raw.moments.n, moments: raw.moments,
        });
    }

    static async read(raw, index) {
        if (!raw?.world || !raw?.moments) throw new BadData("damaged", { where: `runs[${index}]` });
        const run = new Run(raw);
        await run.#readWorld();
        await run.#readMoments();
        run.layout = run.kind !== "table" && raw.world.layout ? await run.#readLayout(raw.world.layout) : listLayout(run.nStates);
        run.places = new Places(run);
        return run;
    }

    async #readWorld() {
        const { nStates: S, nActions: A, nOutcomes: K } = this;
        const world = this.raw.world;
        const outcomes = [S, A, K];
        const nStarts = world.starts?.shape?.[0];
        if (!(S > 0 && A > 0 && K > 0 && nStarts > 0)) throw new BadData("damaged", { where: "world" });
        [this.next, this.reward, this.ended, this.success, this.probability, this.starts, this.startProbability,
            this.acting, this.valid, this.optimalQ, this.optimalActions] = await Promise.all([
            unpack(world.next, outcomes, "next"), unpack(world.reward, outcomes, "reward"),
            unpack(world.ended, outcomes, "ended"), unpack(world.success, outcomes, "success"),
            world.probability ? unpack(world.probability, outcomes, "probability") : null,
            unpack(world.starts, [nStarts], "starts"), unpack(world.start_probability, [nStarts], "start_probability"),
            unpack(world.acting, [S], "acting"), world.valid ? unpack(world.valid, [S, A], "valid") : null,
            unpack(world.optimal.q, [S, A], "optimal.q"), unpack(world.optimal.actions, [S, A], "optimal.actions"),
        ]);
        if (K > 1 && !this.probability) throw new BadData("damaged", { where: "probability" });
        checkBelow(this.next, S, "next");
        checkBelow(this.starts, S, "starts");
    }

    async #readMoments() {
        const { nMoments: M, nStates: S, nActions: A, moments } = this;
        for (const name of ["step", "episode", "why", "epsilon", "solved", "reward", "steps", "loss", "q_error", "optimal_share"])
            if (moments[name]?.length !== M || M < 1) throw new BadData("damaged", { where: name });
        const held = moments.memory?.held;
        [this.q, this.greedy, this.fails, this.held] = await Promise.all([
            unpack(moments.q, [M, S, A], "q"), unpack(moments.greedy, [M, S], "greedy"),
            unpack(moments.fails, [M, this.starts.length], "fails"),
            held ? unpack(held, [M, Math.ceil((S * A) / 8)], "held") : null,
        ]);
        checkBelow(this.greedy, A, "greedy");
        const { scale, offset } = moments.q;
        if (!Number.isFinite(scale) || !Number.isFinite(offset)) throw new BadData("damaged", { where: "q.scale" });
        this.scale = scale;
        this.offset = offset;
    }

    async #readLayout(layout) {
        const S = this.nStates;
        const [cells, caseOf] = await Promise.all([unpack(layout.cells, [S, 2], "cells"), unpack(layout.case_of, [S], "case_of")]);
        checkBelow(caseOf, layout.cases.length, "case_of");
        return { ...layout, cells, caseOf };
    }

    /** The action value at moment `m`. */
    value(m, s, a) {
        return this.offset + this.scale * this.q[(m * this.nStates + s) * this.nActions + a];
    }

    action(m, s) {
        return this.greedy[m * this.nStates + s];
    }

    /** The value of the action that is chosen greedily at moment `m`. */
    stateValue(m, s) {
        return this.value(m, s, this.action(m, s));
    }

    isOptimal(s, a) {
        return this.optimalActions[s * this.nActions + a] === 1;
    }

    isValid(s, a) {
        return !this.valid || this.valid[s * this.nActions + a] === 1;
    }

    /** Whether action `a` is masked, or certainly earns the reward of an illegal action. */
    isForbidden(s, a) {
        if (!this.isValid(s, a)) return true;
        const penalty = this.raw.penalty_reward;
        return penalty !== null && penalty !== undefined && this.nOutcomes === 1 && this.kind === "taxi"
            && this.reward[s * this.nActions + a] === penalty;
    }

    isHeld(m, s, a) {
        const bit = s * this.nActions + a;
        return ((this.held[m * Math.ceil((this.nStates * this.nActions) / 8) + (bit >> 3)] >> (bit & 7)) & 1) === 1;
    }

    /** The starts whose greedy episode fails at moment `m`, as positions in `starts`. */
    failing(m) {
        const n = this.starts.length;
        return Array.from({ length: n }, (_, i) => i).filter((i) => this.fails[m * n + i]);
    }
}

/** A layout for worlds without a map: their states in rows, some hundred a sheet. */
function listLayout(nStates) {
    const columns = nStates <= 100 ? Math.max(1, Math.ceil(Math.sqrt(nStates))) : 15;
    const rows = Math.min(Math.ceil(nStates / columns), columns);
    const sheet = rows * columns;
    const cells = new Int16Array(2 * nStates);
    const caseOf = new Int16Array(nStates);
    for (let s = 0; s < nStates; s++) {
        cells[2 * s] = Math.floor((s % sheet) / columns);
        cells[2 * s + 1] = s % columns;
        caseOf[s] = Math.floor(s / sheet);
    }
    const cases = [];
    for (let first = 0; first < nStates; first += sheet)
        cases.push({ title: nStates <= sheet ? "" : `${first} – ${Math.min(first + sheet, nStates) - 1}`, passenger: null, destination: null });
    return { rows, columns, cells, caseOf, cases, moves: {}, walls: [], marks: [], isList: true };
}

/** Where states are: the state of a cell in a case, and back. */
class Places {
    constructor(run) {
        const { rows, columns, cells, caseOf, cases } = run.layout;
        Object.assign(this, { rows, columns });
        this.stateOf = cases.map(() => new Int32Array(rows * columns).fill(-1));
        for (let s = 0; s < run.nStates; s++) {
            const cell = cells[2 * s] * columns + cells[2 * s + 1];
            if (!(cell >= 0 && cell < rows * columns)) throw new BadData("damaged", { where: "cells" });
            this.stateOf[caseOf[s]][cell] = s;
        }
        this.cells = cells;
        this.caseOf = caseOf;
        this.cases = cases;
    }

    at(caseIndex, row, column) {
        return this.stateOf[caseIndex][row * this.columns + column];
    }

    cell(s) {
        return [this.cells[2 * s], this.cells[2 * s + 1]];
    }

    caseNamed(passenger, destination) {
        return this.cases.findIndex((one) => one.passenger === passenger && one.destination === destination);
    }
}

/** Read the data in the page. */
async function readData(text) {
    if (typeof DecompressionStream === "undefined") throw new BadData("oldBrowser");
    let raw;
    try {
        raw = JSON.parse(text);
    } catch {
        throw new BadData("damaged", { where: "JSON" });
    }
    if (raw?.format !== FORMAT) throw new BadData("otherFormat", { format: raw?.format ?? "?", known: FORMAT });
    if (!Array.isArray(raw.runs) || ![1, 2].includes(raw.runs.length)) throw new BadData("damaged", { where: "runs" });
    try {
        return { raw, runs: await Promise.all(raw.runs.map((run, index) => Run.read(run, index))) };
    } catch (fault) {
        if (fault instanceof BadData) throw fault;
        throw new BadData("damaged", { where: String(fault.message) });
    }
}

/**
 * The places of the slider. One run: its moments. Two runs: every episode at which either has a moment, with each run's
 * last moment not later than that episode.
 */
function slidePlaces(runs) {
    if (runs.length === 1) return runs[0].moments.episode.map((episode, m) => ({ episode, moments: [m] }));
    const episodes = [...new Set(runs.flatMap((run) => run.moments.episode))].sort((a, b) => a - b);
    const at = runs.map(() => 0);
    return episodes.map((episode) => {
        runs.forEach((run, i) => {
            while (at[i] + 1 < run.nMoments && run.moments.episode[at[i] + 1] <= episode) at[i]++;
        });
        return { episode, moments: [...at] };
    });
}
