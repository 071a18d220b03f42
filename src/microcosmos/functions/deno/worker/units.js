// Units: versions of functions that are loaded.

import { bindingsOf } from "./bindings.js";
import { notes } from "./notes.js";
import { now, round, startsWith, substring, Table } from "./platform.js";
import { clearTimers } from "./watch.js";

/** What the ids of errors begin with, and the kinds of failures do not. */
const PREFIX = "functions.";

/** A version of a function. */
export class Unit {
  constructor(slot, said) {
    this.slot = slot;
    this.key = said.key;
    this.namespace = said.namespace;
    this.name = said.name;
    this.number = said.number;
    this.form = said.form;
    this.main = said.main;
    this.limits = said.limits;
    this.env = bindingsOf(this, said.env ?? {}, said.grants ?? []);
    /** Its randomness and its clock, if each of its requests is to see the same; see `replay.js`. */
    this.replay = said.replay ?? null;
    this.given = this.replay === null ? null : said;
    this.unit = this;
    this.trace = "";
    this.asked = 0;
    this.under = 0;
    this.queue = [];
    this.heap = 0;
    /** What answers requests and events, by name; `request` answers requests. */
    this.handlers = null;
    /** Requests and events under way, by a number. */
    this.tasks = new Table();
    /** Timers, sub-requests and the like that may yet wake something in it. */
    this.pending = 0;
    /** Changes whenever something begins or ends; see `watch.js`. */
    this.turns = 0;
    this.seen = 0;
    this.quiet = 0;
    /** Promises given to `ctx.waitUntil` that have not settled. */
    this.waiting = 0;
    this.patience = 0;
    /** Whether it may wait for things that the worker cannot see. */
    this.opaque = false;
    this.timers = new Table();
    this.dropped = false;
    /** Called when it has been let go of. */
    this.gone = null;
    this.touched = false;
    /** Milliseconds that its code has run since the last notes. */
    this.ran = 0;
    /** Milliseconds that its requests have taken since then. */
    this.took = 0;
    this.counts = zero();
    this.counts.cold_starts = 1;
  }

  /** Whether it has begun something that should end before it is dropped. */
  get busy() {
    return this.tasks.size > 0 || this.waiting > 0 && now() < this.patience;
  }

  /** `ctx.waitUntil` was called: its promise is waited for as long as for an answer. */
  wait() {
    this.waiting++;
    this.patience = now() + this.limits.wall * 1000;
  }

  waited() {
    this.waiting--;
    this.rest();
  }

  /** Let go of it for good, if it is to be dropped and does nothing any more. */
  rest() {
    if (!this.dropped || this.busy) return;
    clearTimers(this);
    this.handlers = null;
    this.gone?.();
  }

  /** Its counts have changed. */
  touch() {
    if (!this.touched) notes.touch(this);
  }

  /** A request, or a part of one, has failed by an error with this id. */
  failed(id) {
    const { counts } = this;
    const kind = startsWith(id, PREFIX) ? substring(id, PREFIX.length) : id;
    counts.errors++;
    counts.failures[kind] = (counts.failures[kind] ?? 0) + 1;
  }

  /** What it has used since this was last asked, in a heap of which so many bytes are its part. */
  taken(heap) {
    const { counts } = this;
    counts.heap = heap;
    counts.byte_ms = round(heap * this.took);
    this.took = 0;
    this.counts = zero();
    this.touched = false;
    return counts;
  }
}

function zero() {
  return {
    __proto__: null,
    requests: 0,
    errors: 0,
    failures: { __proto__: null },
    request_bytes: 0,
    response_bytes: 0,
    execution_ns: 0,
    cpu_ns: 0,
    heap: 0,
    byte_ms: 0,
    fetches: 0,
    cold_starts: 0,
    // The process, and so its heap, is that of all.
    shared: true,
  };
}
