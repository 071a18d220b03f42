// Requests and events under way: from what came on a line to what goes back.

import { answer, answerText } from "./answers.js";
import { ended, metLimit } from "./ended.js";
import { described, Ended, errorJson } from "./errors.js";
import { logOf } from "./logs.js";
import { isPromise, now, round, running, then } from "./platform.js";
import { HandlerRequest, webRequest } from "./requests.js";
import { watch } from "./watch.js";
import { ERROR, JSON_BODY } from "./wire.js";

/** The header that carries the trace of a request. */
const TRACE = "micro-trace";

let serial = 0;

/** A request or an event under way. */
class Task {
  constructor(line, stream, unit) {
    this.line = line;
    this.stream = stream;
    this.unit = unit;
    this.number = ++serial;
    this.start = now();
    /** Whether the answer has not begun. */
    this.waits = true;
    this.asked = 0;
    /** Sub-requests that have not been answered, and those that wait for them. */
    this.under = 0;
    this.queue = [];
    /** Bytes that it has written to the log. */
    this.logged = 0;
    this.outflow = null;
    this.inflow = null;
    unit.tasks.set(this.number, this);
    unit.turns++;
    line.tasks.set(stream, this);
  }

  /** Say an error instead of an answer. */
  fail(error) {
    if (!this.waits) return;
    if (Ended.is(error)) {
      logOf(this, "error", `${error.id}: ${error.detail}`);
    } else {
      logOf(this, "error", `Uncaught ${described(error)}`);
      const met = metLimit(error);
      error = met === ""
        ? new Ended(500, "functions.exception", "the function has failed; its log says why")
        : ended(met, this.unit.limits);
      if (met !== "") logOf(this, "error", `${error.id}: ${error.detail}`);
    }
    this.line.send(ERROR, this.stream, errorJson(error.code, error.id, error.detail));
    this.unit.failed(error.id);
    this.answered(0);
    this.over();
  }

  /** The answer has begun; so many bytes of it are known. */
  answered(size) {
    this.waits = false;
    const { unit } = this;
    const { counts } = unit;
    const took = now() - this.start;
    counts.requests++;
    counts.response_bytes += size;
    counts.execution_ns += round(took * 1e6);
    unit.took += took;
    unit.touch();
  }

  /** Nothing more is to be sent. */
  over() {
    const { unit, line } = this;
    unit.tasks.delete(this.number);
    unit.turns++;
    line.tasks.delete(this.stream);
    if (unit.dropped) unit.rest();
  }

  /** Say an error in the middle of a streamed answer. */
  tear(error) {
    logOf(this, "error", `${error.id}: ${error.detail}`);
    this.unit.failed(error.id);
    this.unit.touch();
    // Whoever makes the answer hears that nobody wants it, and ends this.
    running.run(this, abandon, this);
    this.line.send(ERROR, this.stream, errorJson(error.code, error.id, error.detail));
  }

  /** Nobody wants the answer any more. */
  cancel() {
    this.line.drop(this.stream);
    running.run(this, abandon, this);
    if (!this.waits) return;
    this.answered(0);
    this.over();
  }

  abort() {}
}

/** A request for a function. */
export class Request extends Task {
  constructor(line, stream, unit, received, inflow) {
    super(line, stream, unit);
    this.received = received;
    this.inflow = inflow;
  }

  get trace() {
    return this.received.header(TRACE);
  }

  argument() {
    return this.unit.form === "module"
      ? webRequest(this.received)
      : new HandlerRequest(this.received);
  }

  succeed(value) {
    return this.unit.form === "script" ? answerText(this, value) : answer(this, value);
  }

  abort() {
    this.received.abort();
    this.inflow?.cancel();
  }
}

/** An event that a function handles. */
export class Event extends Task {
  constructor(line, stream, unit, event) {
    super(line, stream, unit);
    this.event = event;
    this.trace = "";
  }

  argument() {
    return this.event;
  }

  succeed() {
    this.line.reply(this.stream, 200, JSON_BODY, "", "null");
    this.answered(0);
    this.over();
  }
}

function abandon(task) {
  task.outflow?.close();
  task.abort();
}

/** Run what handles a task. */
export function run(task, handler) {
  running.run(task, perform, task, handler);
}

function perform(task, handler) {
  let value;
  try {
    value = handler(task.argument(), new Context(task));
    if (isPromise(value)) {
      task.unit.ran += now() - task.start;
      watch();
      settle(task, value);
      return;
    }
    const promise = task.succeed(value);
    if (promise !== undefined) settleAnswer(task, promise);
  } catch (error) {
    task.fail(error);
  }
  task.unit.ran += now() - task.start;
}

async function settle(task, promise) {
  try {
    const value = await promise;
    if (!task.waits) return;
    const more = task.succeed(value);
    if (more !== undefined) await more;
  } catch (error) {
    task.fail(error);
  }
}

async function settleAnswer(task, promise) {
  watch();
  try {
    await promise;
  } catch (error) {
    task.fail(error);
  }
}

/** The third argument of a module's handlers. */
class Context {
  #task;

  constructor(task) {
    this.#task = task;
  }

  get props() {
    return {};
  }

  /** Let the function live until a promise has settled. */
  waitUntil(promise) {
    const task = this.#task;
    const { unit } = task;
    unit.wait();
    then(
      settled(promise),
      () => unit.waited(),
      (error) => {
        logOf(task, "error", `Uncaught (in waitUntil) ${described(error)}`);
        unit.waited();
      },
    );
  }

  /** There is nothing behind a function that could answer instead; this does nothing. */
  passThroughOnException() {}
}

async function settled(promise) {
  await promise;
}
