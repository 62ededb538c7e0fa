"use strict";
// The environment, stepped by its own arrays, and the agent in it.

/** A seeded generator of numbers in [0, 1): mulberry32. */
function seeded(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

/** An episode of a run's agent from a start, step by step. */
class Episode {
    /** `epsilon` is the probability of a random action: 0 for a greedy agent. */
    constructor(run, start, moment, epsilon = 0, seed = 0) {
        Object.assign(this, { run, moment, epsilon, random: seeded(seed) });
        this.states = [start];
        this.actions = [];
        this.rewards = [];
        this.explored = [];
        this.ended = run.acting[start] === 0;
        this.success = false;
        this.firstVisit = new Map([[start, 0]]);
        this.loop = null; // [first step, length], once a greedy agent in a world without chance is where it was before
    }

    get state() {
        return this.states[this.states.length - 1];
    }

    get steps() {
        return this.actions.length;
    }

    get total() {
        return this.rewards.reduce((a, b) => a + b, 0);
    }

    /** Over: ended by the world, or cut at the limit. */
    get over() {
        return this.ended || this.steps >= this.run.limit;
    }

    step() {
        const { run, state } = this;
        const explores = this.epsilon > 0 && this.random() < this.epsilon;
        const action = explores ? this.#randomAction(state) : run.action(this.moment, state);
        const outcome = this.#outcome(state, action);
        this.actions.push(action);
        this.explored.push(explores);
        this.rewards.push(run.reward[outcome]);
        this.states.push(run.next[outcome]);
        this.ended = run.ended[outcome] === 1;
        this.success = run.success[outcome] === 1;
        this.#noteLoop();
    }

    #randomAction(state) {
        const actions = [];
        for (let a = 0; a < this.run.nActions; a++) if (this.run.isValid(state, a)) actions.push(a);
        return actions[Math.floor(this.random() * actions.length)];
    }

    #outcome(state, action) {
        const { nActions, nOutcomes, probability } = this.run;
        const first = (state * nActions + action) * nOutcomes;
        if (nOutcomes === 1) return first;
        let left = this.random();
        let possible = first;
        for (let k = first; k < first + nOutcomes; k++) {
            if (probability[k] <= 0) continue;
            possible = k;
            left -= probability[k];
            if (left < 0) break;
        }
        return possible;
    }

    #noteLoop() {
        if (this.epsilon > 0 || this.run.nOutcomes > 1 || this.ended || this.loop) return;
        const before = this.firstVisit.get(this.state);
        if (before !== undefined) this.loop = [before, this.steps - before];
        else this.firstVisit.set(this.state, this.steps);
    }
}

/** Run a whole episode. */
function wholeEpisode(run, start, moment, epsilon = 0, seed = 0) {
    const episode = new Episode(run, start, moment, epsilon, seed);
    while (!episode.over) episode.step();
    return episode;
}
