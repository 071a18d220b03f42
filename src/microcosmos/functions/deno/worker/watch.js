// What is still to come for a unit, and requests that take too long or can never end.
//
// Deno cannot say whether a promise may still settle. So everything that can wake a function is
// counted where it begins: timers, sub-requests, bindings, bodies, the slow parts of crypto and
// WebAssembly. When a unit has requests under way, none of these, and nothing has happened in it
// for two looks in a row, then none of its promises can settle any more.

import { ended } from "./ended.js";
import { described, Ended } from "./errors.js";
import {
  apply,
  clearTicker,
  deno,
  clearTimer,
  eachValue,
  globals,
  limits,
  NativePromise,
  now,
  running,
  setTicker,
  setTimer,
  Table,
  then,
} from "./platform.js";
import { logOf } from "./logs.js";

/** Milliseconds between looks. */
const LOOK = 50;

/** Looks at nothing happening after which nothing can. */
const QUIET = 2;

const { exit } = deno;
const TooMany = globals.RangeError;

let ticker = null;
let units = null;

/** @param loaded the units, by slot. */
export function beginWatch(loaded) {
  units = loaded;
}

/** A request goes on after its turn: look after it. */
export function watch() {
  if (ticker === null) ticker = setTicker(look, LOOK);
}

/** Something that may wake a unit, as long as a promise is pending; gives the promise back. */
export function hold(unit, promise) {
  begin(unit);
  const end = () => finish(unit);
  then(promise, end, end);
  return promise;
}

/** Refuse to begin anything more for a unit that has too much under way. */
export function admit(unit) {
  const most = limits.operations;
  if (unit.pending >= most) throw new TooMany(`more than ${most} operations are under way`);
}

export function begin(unit) {
  unit.pending++;
  unit.turns++;
}

export function finish(unit) {
  unit.pending--;
  unit.turns++;
}

/** How a process ends whose memory is full: as V8 ends it when that is its own heap. */
const FULL = 134;

/** What is outside of V8's heap, the bytes of buffers, is held to the same limit. */
function fits() {
  if (deno.memoryUsage().external > limits.heap) exit(FULL);
}

function look() {
  fits();
  let busy = false;
  const time = now();
  eachValue(units, (unit) => {
    if (unit.tasks.size === 0) return;
    busy = true;
    late(unit, time);
    stuck(unit);
  });
  if (busy) return;
  clearTicker(ticker);
  ticker = null;
}

function late(unit, time) {
  const limit = unit.limits.wall * 1000;
  eachValue(unit.tasks, (task) => {
    if (time - task.start < limit) return false;
    if (task.waits) task.fail(ended("wall", unit.limits));
    // A reader who takes nothing is no fault of the function's.
    else if (task.outflow?.stands(time - limit)) task.tear(ended("wall", unit.limits));
  });
}

function stuck(unit) {
  if (unit.pending > 0 || unit.opaque || unit.turns !== unit.seen) {
    unit.seen = unit.turns;
    unit.quiet = 0;
    return;
  }
  unit.quiet++;
  if (unit.quiet < QUIET) return;
  eachValue(unit.tasks, (task) => {
    if (!task.waits) return;
    const detail = "the function waits for something that cannot come any more";
    task.fail(new Ended(500, "functions.unsettled", detail));
  });
}

/** Forget the timers of a unit. */
export function clearTimers(unit) {
  eachValue(unit.timers, (timer) => timer.clear());
}

class Timer {
  constructor(unit, clear) {
    this.unit = unit;
    this.id = undefined;
    this.stop = clear;
  }

  begun(id) {
    this.id = id;
    timers.set(+id, this);
    this.unit.timers.set(+id, this);
    begin(this.unit);
  }

  ended() {
    timers.delete(+this.id);
    this.unit.timers.delete(+this.id);
    finish(this.unit);
  }

  clear() {
    this.stop(this.id);
    this.ended();
  }
}

const timers = new Table();

function timing(native, clear, repeats) {
  return function (callback) {
    const task = running.getStore();
    if (task === undefined) return apply(native, globals, arguments);
    const { unit } = task;
    admit(unit);
    const timer = new Timer(unit, clear);
    arguments[0] = function () {
      if (!repeats) timer.ended();
      if (typeof callback !== "function") return;
      try {
        apply(callback, globals, arguments);
      } catch (error) {
        logOf(task, "error", `Uncaught ${described(error)}`);
      }
    };
    const id = apply(native, globals, arguments);
    timer.begun(id);
    return id;
  };
}

function clearing(native) {
  return function (id) {
    const timer = timers.get(+id);
    if (timer !== undefined) timer.clear();
    else native(id);
  };
}

/** Count the timers and the slow work that functions begin. */
export function countPending() {
  globals.setTimeout = named("setTimeout", timing(setTimer, clearTimer, false));
  globals.setInterval = named("setInterval", timing(setTicker, clearTicker, true));
  globals.clearTimeout = named("clearTimeout", clearing(clearTimer));
  globals.clearInterval = named("clearInterval", clearing(clearTicker));
  for (const name of Object.getOwnPropertyNames(SubtleCrypto.prototype)) {
    counting(SubtleCrypto.prototype, name);
  }
  for (const name of ["compile", "instantiate", "compileStreaming", "instantiateStreaming"]) {
    counting(WebAssembly, name);
  }
  for (const name of ["text", "arrayBuffer", "bytes"]) counting(Blob.prototype, name);
  counting(globals, "createImageBitmap");
  const { timeout } = AbortSignal;
  AbortSignal.timeout = named("timeout", function (delay) {
    const signal = apply(timeout, AbortSignal, [delay]);
    const task = running.getStore();
    if (task !== undefined) {
      hold(
        task.unit,
        new NativePromise((resolve) => setTimer(resolve, delay)),
      );
    }
    return signal;
  });
}

function counting(owner, name) {
  const native = owner[name];
  if (name === "constructor" || typeof native !== "function") return;
  owner[name] = named(name, function () {
    const promise = apply(native, this, arguments);
    const task = running.getStore();
    return task === undefined ? promise : hold(task.unit, promise);
  });
}

function named(name, value) {
  return Object.defineProperty(value, "name", { value: name });
}
