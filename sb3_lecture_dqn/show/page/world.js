"use strict";
// The map: cells with values and arrows, walls, marks, the agent and its trail; and the small maps of (state, action).

const CELL = 100;
const FRAME = 8;

/** What both maps share: the ground of a grid world. */
class Ground {
    constructor(run, attributes) {
        this.run = run;
        const { rows, columns } = run.places;
        this.element = svg("svg", {
            viewBox: `${-FRAME} ${-FRAME} ${columns * CELL + 2 * FRAME} ${rows * CELL + 2 * FRAME}`, role: "img", ...attributes,
        });
    }

    eachCell(visit) {
        const { rows, columns } = this.run.places;
        for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) visit(row, column, row * columns + column);
    }

    at(row, column) {
        return `translate(${column * CELL + CELL / 2} ${row * CELL + CELL / 2})`;
    }

    /** The lines between cells, the walls and the frame. */
    lines() {
        const { rows, columns } = this.run.places;
        let thin = "";
        for (let row = 1; row < rows; row++) thin += `M0 ${row * CELL}H${columns * CELL}`;
        for (let column = 1; column < columns; column++) thin += `M${column * CELL} 0V${rows * CELL}`;
        const thick = this.run.layout.walls.map(([[r1, c1], [r2, c2]]) =>
            r1 === r2 ? `M${Math.max(c1, c2) * CELL} ${r1 * CELL}v${CELL}` : `M${c1 * CELL} ${Math.max(r1, r2) * CELL}h${CELL}`);
        return svg("g", { class: "lines" }, svg("path", { d: thin, class: "thin" }), svg("path", { d: thick.join(""), class: "wall" }),
            svg("rect", { x: 0, y: 0, width: columns * CELL, height: rows * CELL, class: "frame", rx: 6 }));
    }
}

/** Draw a named cell of the map: a stand, a hole, a cliff, a goal. */
function drawMark(kind, mark) {
    const { letter } = mark;
    if (kind === "frozen_lake" && letter === "H")
        return svg("g", { class: "mark" }, svg("ellipse", { rx: 34, ry: 30, class: "hole" }), svg("ellipse", { rx: 26, ry: 20, cy: 4, class: "hole-deep" }));
    if (kind === "cliff" && letter === "C") return svg("rect", { x: -50, y: -50, width: 100, height: 100, class: "mark cliff" });
    if (letter === "G" && kind !== "taxi") return svg("g", { class: "mark" }, drawFlag("flag goal"));
    if (kind === "taxi") {
        const name = svg("text", { x: -32, y: -25.5, class: "stand-name" }, letter);
        return svg("g", { class: `mark stand stand-${letter}` }, svg("rect", { x: -45, y: -45, width: 90, height: 90, rx: 12, class: "stand-frame" }),
            svg("rect", { x: -45, y: -45, width: 26, height: 26, rx: 8, class: "stand-plate" }), name);
    }
    return svg("g", { class: "mark" }, svg("text", { x: -38, y: -24, class: "mark-letter" }, letter));
}

function drawFlag(name) {
    return svg("g", { class: name }, svg("path", { d: "M-14 26V-28", class: "pole halo" }), svg("path", { d: "M-14 26V-28", class: "pole" }), svg("path", { d: "M-13 -28L22 -17L-13 -5Z", class: "cloth" }));
}

function drawPerson() {
    return svg("g", { class: "person" }, svg("circle", { cy: -13, r: 8 }), svg("path", { d: "M-12 16V6A12 10 0 0 1 12 6V16Z" }));
}

function drawTaxi() {
    return svg("g", { class: "taxi" },
        svg("rect", { x: -29, y: -19, width: 58, height: 38, rx: 11, class: "body" }),
        svg("rect", { x: -15, y: -14, width: 30, height: 28, rx: 6, class: "roof" }),
        svg("path", { d: "M15 -12Q21 0 15 12M-15 -12Q-21 0 -15 12", class: "window" }),
        svg("circle", { r: 7, class: "guest" }));
}

function drawWalker() {
    return svg("g", { class: "walker" }, svg("circle", { r: 19, class: "body" }), svg("circle", { cx: -6, cy: -4, r: 3, class: "eye" }),
        svg("circle", { cx: 6, cy: -4, r: 3, class: "eye" }), svg("path", { d: "M-7 6Q0 12 7 6", class: "mouth" }));
}

/** The large map. `onCell(row, column)` is called when a cell is clicked. */
class WorldMap extends Ground {
    constructor(run, onCell) {
        super(run, { class: `world world-${run.kind}` });
        this.range = valueRange(run);
        this.cells = [];
        const ground = svg("g"), marks = svg("g"), signs = svg("g", { class: "signs" });
        for (const mark of run.layout.marks) {
            const drawn = drawMark(run.kind, mark);
            drawn.setAttribute("transform", this.at(mark.row, mark.column));
            marks.append(drawn);
        }
        this.eachCell((row, column) => this.#addCell(ground, signs, row, column));
        this.trail = svg("polyline", { class: "trail" });
        this.passenger = svg("g", { class: "passenger" }, drawPerson());
        this.flag = svg("g", { class: "target" }, drawFlag("flag"));
        this.agent = svg("g", { class: "agent" }, run.kind === "taxi" ? drawTaxi() : drawWalker());
        this.element.append(svg("title"), ground, marks, this.lines(), this.trail, signs, this.flag, this.agent, this.passenger);
        this.element.addEventListener("click", (event) => this.#clicked(event, onCell));
    }

    #addCell(ground, signs, row, column) {
        const fill = svg("rect", { x: column * CELL, y: row * CELL, width: CELL, height: CELL });
        const sign = new Sign(this.run);
        const cross = svg("path", { d: "M28 -41L41 -28M41 -41L28 -28", class: "cross" });
        const value = svg("text", { y: 39, class: "value", "font-size": Math.min(Math.max(16, 2.1 * this.run.places.columns), 27) });
        const ring = svg("rect", { x: -46, y: -46, width: 92, height: 92, rx: 10, class: "ring" });
        const group = svg("g", { transform: this.at(row, column) }, ring, sign.element, cross, value);
        ground.append(fill);
        signs.append(group);
        this.cells.push({ fill, sign, value, group });
    }

    #clicked(event, onCell) {
        const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.element.getScreenCTM().inverse());
        const row = Math.floor(point.y / CELL), column = Math.floor(point.x / CELL);
        if (row >= 0 && column >= 0 && row < this.run.places.rows && column < this.run.places.columns) onCell(row, column);
    }

    /** Show what moment `m` believes in one case; `marked` are states to ring. */
    showMoment(m, caseIndex, marked) {
        const { run, range } = this;
        this.eachCell((row, column, i) => {
            const cell = this.cells[i];
            const s = run.places.at(caseIndex, row, column);
            const acts = s >= 0 && run.acting[s] === 1;
            if (!acts) {
                cell.sign.show(null);
                cell.value.textContent = run.layout.isList && s >= 0 ? String(s) : "";
                setAll(cell.fill, { class: s < 0 ? "cell none" : "cell idle", style: null });
                setAll(cell.group, { class: "idle" });
                return;
            }
            const action = run.action(m, s), value = run.value(m, s, action);
            const colour = rampColour(range.share(value));
            cell.sign.show(action);
            cell.value.textContent = run.layout.isList ? `${s}: ${number(value, 1)}` : number(value, 1);
            setAll(cell.fill, { class: "cell", style: `fill:${cssColour(colour)}` });
            const wrong = run.isOptimal(s, action) ? "" : " wrong";
            const kind = run.isForbidden(s, action) ? " forbidden" : "";
            setAll(cell.group, { class: (isLight(colour) ? "on-light" : "on-dark") + wrong + kind + (marked?.has(s) ? " marked" : "") });
        });
    }

    /** Show the agent where it is, and the way it came. */
    showEpisode(episode) {
        const { run } = this;
        const cells = episode.states.map((s) => run.places.cell(s));
        const middle = ([row, column]) => [column * CELL + CELL / 2, row * CELL + CELL / 2];
        const [x, y] = middle(cells[cells.length - 1]);
        this.agent.style.transform = `translate(${x}px,${y}px)`;
        this.trail.setAttribute("points", cells.slice(-60).map((cell) => middle(cell).join(",")).join(" "));
        const one = run.places.cases[run.places.caseOf[episode.state]];
        this.#showGuest(one, episode);
        this.agent.classList.toggle("done", episode.success);
        this.agent.classList.toggle("lost", episode.over && !episode.success);
    }

    #showGuest(one, episode) {
        const stand = (letter) => letter && this.run.layout.marks.find((mark) => mark.letter === letter); // none outside Taxi
        const waits = !episode.success && stand(one.passenger);
        setAll(this.passenger, { transform: waits ? this.at(waits.row, waits.column) : null, visibility: waits ? null : "hidden" });
        const goal = stand(one.destination);
        setAll(this.flag, { transform: goal ? this.at(goal.row, goal.column) : null, visibility: goal ? null : "hidden" });
        this.agent.classList.toggle("full", one.passenger === "taxi");
    }

    describe(text) {
        this.element.querySelector("title").textContent = text;
    }
}

/**
 * The scale of the map's colours, from the lowest to the highest optimal state value. `share(value)` goes half by size
 * and half by rank, so that the many values near one end can be told apart too.
 */
function valueRange(run) {
    const values = [];
    for (let s = 0; s < run.nStates; s++) {
        if (!run.acting[s]) continue;
        let best = -Infinity;
        for (let a = 0; a < run.nActions; a++) if (run.isValid(s, a)) best = Math.max(best, run.optimalQ[s * run.nActions + a]);
        values.push(best);
    }
    values.sort((a, b) => a - b);
    const low = values[0], high = values[values.length - 1];
    if (!(high - low > 1e-9)) return { low: low - 1, high: high + 1, share: (value) => (value - low + 1) / 2 };
    const known = [...new Set(values.map((value) => Number(value.toPrecision(5))))];
    const rank = (value) => {
        const above = known.findIndex((one) => one >= value);
        if (above <= 0) return above < 0 ? 1 : 0;
        return (above - 1 + (value - known[above - 1]) / (known[above] - known[above - 1])) / Math.max(1, known.length - 1);
    };
    return { low, high, share: (value) => 0.5 * Math.min(Math.max((value - low) / (high - low), 0), 1) + 0.5 * rank(value) };
}

/**
 * A small map with a piece for every action of every cell: triangles for moves, tiles in the middle for the rest.
 * `show(caseIndex, paint)` asks `paint(state, action)` for the class of each piece.
 */
class ActionMap extends Ground {
    constructor(run) {
        super(run, { class: "actions-map" });
        this.pieces = [];
        const ground = svg("g", { class: "pieces" });
        this.eachCell((row, column) => {
            const group = svg("g", { transform: this.at(row, column) });
            const back = svg("rect", { x: -50, y: -50, width: 100, height: 100, class: "cell none" });
            const pieces = run.actionNames.map((_, action) => svg("path", { d: this.#piece(action), class: "piece off" }));
            group.append(back, ...pieces);
            ground.append(group);
            this.pieces.push({ pieces, back });
        });
        this.names = svg("g");
        for (const mark of run.layout.marks) {
            if (run.kind === "taxi") this.names.append(svg("text", { class: "stand-name plain", transform: this.at(mark.row, mark.column), x: -36, y: -29 }, mark.letter));
        }
        this.from = svg("rect", { x: -48, y: -48, width: 96, height: 96, rx: 8, class: "from", visibility: "hidden" });
        this.element.append(svg("title"), ground, this.lines(), this.names, this.from);
    }

    #piece(action) {
        const { layout, nActions } = this.run;
        const move = layout.moves[action];
        const others = [...Array(nActions).keys()].filter((a) => !layout.moves[a]);
        if (move) {
            const [dy, dx] = move;
            const corner = (along, across) => `${along * dx - across * dy} ${along * dy + across * dx}`;
            return `M${corner(46, 0)}L${corner(22, 22)}L${corner(22, -22)}Z`;
        }
        const share = layout.isList ? 84 / others.length : 34 / Math.max(others.length, 1);
        const left = (layout.isList ? -42 : -17) + others.indexOf(action) * share;
        const height = layout.isList ? 60 : 26;
        return `M${left + 1} ${-height / 2}h${share - 2}v${height}h${2 - share}Z`;
    }

    show(caseIndex, paint, from = null) {
        const { run } = this;
        this.eachCell((row, column, i) => {
            const s = run.places.at(caseIndex, row, column);
            const acts = s >= 0 && run.acting[s] === 1;
            this.pieces[i].back.setAttribute("class", s < 0 ? "cell none" : acts ? "cell plain" : "cell idle");
            this.pieces[i].pieces.forEach((piece, action) => piece.setAttribute("class", acts ? paint(s, action) : "piece off"));
        });
        const here = from !== null && run.places.caseOf[from] === caseIndex;
        setAll(this.from, { transform: here ? this.at(...run.places.cell(from)) : null, visibility: here ? null : "hidden" });
    }

    describe(text) {
        this.element.querySelector("title").textContent = text;
    }
}
