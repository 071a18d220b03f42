// Units: versions of functions that are loaded.

import { bindingsOf } from "./bindings.js";
import { notes } from "./notes.js";
import { now, Table } from "./platform.js";
import { clearTimers } from "./watch.js";

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
    this.unit = this;
    this.trace = "";
    this.asked = 0;
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

  /** What it has used since this was last asked. */
  taken() {
    const { counts } = this;
    this.counts = zero();
    this.touched = false;
    return counts;
  }
}

function zero() {
  return {
    __proto__: null,
    requests: 0,
    response_bytes: 0,
    execution_ns: 0,
    byte_ms: 0,
    errors: 0,
    cpu_ns: 0,
    fetches: 0,
    cold_starts: 0,
  };
}
