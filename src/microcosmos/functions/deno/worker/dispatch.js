// What is said to the worker: requests for functions, and verbs for the worker itself.

import { Inflow } from "./bodies.js";
import { check } from "./checks.js";
import { ended } from "./ended.js";
import { Ended, errorJson } from "./errors.js";
import { load, loadError } from "./forms.js";
import { host } from "./host.js";
import { Line } from "./line.js";
import { heapOfEach, notes } from "./notes.js";
import {
  clearTimer,
  decode,
  eachValue,
  encode,
  limits,
  min,
  NativePromise,
  now,
  parse,
  setTicker,
  setTimer,
  slice,
  stringify,
  subarray,
  Table,
  then,
} from "./platform.js";
import { Received, tooLarge } from "./requests.js";
import { batchOf, queued } from "./queues.js";
import { Event, Request, run } from "./tasks.js";
import { Unit } from "./units.js";
import { beginWatch, watch } from "./watch.js";
import {
  ASKED,
  BEAT,
  CANCEL,
  END,
  ERROR,
  GOAWAY,
  GRANT,
  ITEM,
  JSON_BODY,
  OPEN,
  REQUEST,
  REQUEST_HEAD,
  uint32,
} from "./wire.js";

const units = new Table();
const keys = new Table();
const lines = new Table();
let slots = 0;
let lineCount = 0;
let leaving = false;
let exit = null;

/** Milliseconds between looks whether a worker that leaves may end. */
const LEAVING = 10;

/** Milliseconds after which it ends although somebody keeps a line open, and says nothing. */
const PATIENCE = 10_000;

/** Speak with whoever has connected. */
export function greet(connection) {
  const line = new Line(connection, receive, lost);
  line.tasks = new Table();
  line.number = ++lineCount;
  lines.set(line.number, line);
  if (leaving) line.send(GOAWAY, 0);
}

/** @param end ends the process. */
export function start(end) {
  exit = end;
  notes.begin(units);
  beginWatch(units);
}

/**
 * Ask everybody to take their requests elsewhere; end when they have closed their lines, and the
 * host has been told all there is.
 */
export function leave() {
  if (leaving) return;
  leaving = true;
  eachValue(lines, (line) => line.send(GOAWAY, 0));
  let since = now();
  setTicker(() => {
    if (!idle()) since = now();
    notes.flush();
    if (alone() && idle() || now() - since > PATIENCE) exit();
  }, LEAVING);
}

/** Whether nobody can ask for anything any more, and the host, if it is there, knows all. */
function alone() {
  return lines.size === 0 || lines.size === 1 && host.line !== null && notes.told;
}

/** Whether nothing is under way any more. */
function idle() {
  let busy = false;
  eachValue(units, (unit) => {
    busy ||= unit.busy;
  });
  eachValue(lines, (line) => {
    busy ||= line.tasks.size > 0 || !line.written;
  });
  return !busy;
}

function lost(line) {
  lines.delete(line.number);
  eachValue(line.tasks, (task) => task.cancel());
  if (host.line === line) notes.by(null);
  host.lost(line);
}

function receive(line, kind, stream, payload) {
  if (stream >= ASKED) return host.receive(line, kind, stream, payload);
  switch (kind) {
    case REQUEST:
    case OPEN:
      return begin(line, kind, stream, payload);
    case ITEM:
      return item(line, stream, payload);
    case END:
      return line.tasks.get(stream)?.inflow?.end(null);
    case ERROR:
      return line.tasks.get(stream)?.inflow?.end(
        new Error("the client has broken off its request"),
      );
    case GRANT:
      return line.tasks.get(stream)?.outflow?.grant(payload);
    case CANCEL:
      line.forget(stream);
      return line.tasks.get(stream)?.cancel();
    case GOAWAY:
      return line === host.line ? leave() : undefined;
    case BEAT:
      return line.send(BEAT, stream, slice(payload));
  }
}

function begin(line, kind, stream, payload) {
  const slot = uint32(payload, 0);
  const end = REQUEST_HEAD + uint32(payload, 4);
  if (end > payload.length) return line.close();
  const head = decode(subarray(payload, REQUEST_HEAD, end));
  if (slot === 0) return verb(line, stream, head, slice(payload, end));
  const unit = units.get(slot);
  if (unit === undefined || unit.dropped) {
    return say(line, stream, 503, "functions.unloaded", "it is not loaded here");
  }
  const { limits: own, handlers } = unit;
  unit.counts.request_bytes += payload.length - end;
  if (unit.tasks.size >= own.concurrency) {
    return decline(unit, line, stream, ended("concurrency", own));
  }
  const body = end < payload.length ? slice(payload, end) : null;
  if (payload.length - end > own.request) {
    return decline(unit, line, stream, tooLarge(own.request));
  }
  const inflow = kind === OPEN ? new Inflow(line, stream, () => {}) : null;
  if (inflow !== null && body !== null) inflow.take(body);
  const task = new Request(
    line,
    stream,
    unit,
    new Received(unit, head, inflow === null ? body : null, inflow),
    inflow,
  );
  if (typeof handlers.request !== "function") {
    task.fail(lacks(unit, unit.form === "module" ? "fetch" : "handler"));
  } else run(task, handlers.request);
}

function lacks(unit, name) {
  return new Ended(501, "functions.handler", `${unit.main} has no ${name}(…) for this`);
}

function item(line, stream, payload) {
  const task = line.tasks.get(stream);
  if (!task?.inflow) return;
  task.unit.counts.request_bytes += payload.length;
  task.unit.touch();
  if (!task.inflow.take(payload)) line.close();
}

/** Refuse a request before it has begun. */
function decline(unit, line, stream, error) {
  notes.log(unit.slot, "error", `${error.id}: ${error.detail}`, "");
  unit.counts.requests++;
  unit.failed(error.id);
  unit.touch();
  refuse(line, stream, error);
}

function refuse(line, stream, error) {
  say(line, stream, error.code, error.id, error.detail);
}

function say(line, stream, code, id, detail) {
  line.send(ERROR, stream, errorJson(code, id, detail));
}

async function verb(line, stream, word, body) {
  const handle = verbs[word];
  if (handle === undefined) return say(line, stream, 400, "functions", `there is no verb ${word}`);
  let said;
  try {
    said = parse(decode(body));
  } catch {
    return say(line, stream, 400, "functions", `what ${word} is to be done with is no JSON`);
  }
  try {
    const answer = await handle(said, line, stream);
    if (answer !== undefined) line.reply(stream, 200, JSON_BODY, "", stringify(answer));
  } catch (error) {
    const ended = Ended.is(error) ? error : new Ended(500, "functions", `${error?.message}`);
    refuse(line, stream, ended);
  }
}

const verbs = {
  __proto__: null,

  host(_, line) {
    host.become(line);
    notes.by((json, known) =>
      host.ask(0, "notes", json, (error) => {
        // A host that refuses them would refuse them for ever.
        if (error === null || error.id !== "functions.host") known();
      })
    );
    const loaded = [];
    eachValue(units, (unit) => {
      if (!unit.dropped) loaded[loaded.length] = said(unit);
    });
    return loaded;
  },

  async load(unit) {
    const known = keys.get(unit.key);
    if (known !== undefined) return said(await known);
    const loading = loaded(unit);
    keys.set(unit.key, loading);
    try {
      return said(await loading);
    } catch (error) {
      keys.delete(unit.key);
      throw error;
    }
  },

  drop({ slot }) {
    const unit = units.get(slot);
    if (unit === undefined || unit.dropped) return null;
    unit.dropped = true;
    keys.delete(unit.key);
    unit.gone = () => units.delete(slot);
    unit.rest();
    if (units.has(slot)) watch();
    return null;
  },

  check,

  event({ slot, handler, event }, line, stream) {
    const unit = units.get(slot);
    if (unit === undefined || unit.dropped) {
      throw new Ended(503, "functions.unloaded", "it is not loaded here");
    }
    unit.counts.request_bytes += encode(stringify(event)).length;
    const task = new Event(line, stream, unit, eventFor(unit, handler, event));
    const handle = handlerOf(unit, handler);
    if (typeof handle !== "function") task.fail(lacks(unit, handler));
    else run(task, handle);
    return undefined;
  },
};

async function loaded(given) {
  const unit = new Unit(++slots, given);
  try {
    await intime(unit, load(unit, given.code, given.language));
  } catch (error) {
    throw loadError(unit, error);
  }
  units.set(unit.slot, unit);
  unit.heap = heapOfEach(units.size);
  unit.touch();
  return unit;
}

/** A promise that fails if it takes longer than a function may. */
function intime(unit, promise) {
  const seconds = min(unit.limits.wall, limits.loading);
  return new NativePromise((resolve, reject) => {
    const timer = setTimer(
      () => reject(new Error(`it is not loaded after ${seconds} s`)),
      seconds * 1000,
    );
    const done = (settle) => (value) => {
      clearTimer(timer);
      settle(value);
    };
    then(promise, done(resolve), done(reject));
  });
}

function said(unit) {
  const { key, slot, heap, namespace, name, number } = unit;
  return { __proto__: null, key, slot, heap, namespace, name, number };
}

function handlerOf({ handlers }, handler) {
  if (handler === "scheduled") return handlers.scheduled;
  return handler === "consume" ? handlers.consume ?? queued(handlers) : null;
}

/** An event as a module or a handler sees it. */
function eventFor(unit, handler, event) {
  if (handler === "scheduled") return { ...event, type: "scheduled", noRetry() {} };
  return unit.handlers.consume ? event : batchOf(event);
}
