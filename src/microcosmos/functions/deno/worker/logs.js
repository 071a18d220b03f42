// `console`: lines for the log of whichever function runs.

import { logsCut } from "./ended.js";
import { described } from "./errors.js";
import { notes } from "./notes.js";
import {
  apply,
  date,
  formatWithOptions,
  globals,
  limits,
  running,
  Table,
} from "./platform.js";

const { logLine: LONGEST } = limits;
const SHAPE = { colors: false, breakLength: 120 };

/** Write a line for a task or a unit. */
export function logOf(task, level, text) {
  notes.log(task.unit.slot, level, text, task.trace);
}

function write(level, values) {
  const task = running.getStore();
  if (task === undefined) return;
  let text;
  try {
    text = values.length === 1 && typeof values[0] === "string" ? values[0] : format(values);
  } catch (error) {
    text = `what was logged cannot be shown: ${described(error)}`;
  }
  if (roomFor(task, text)) logOf(task, level, text);
}

/** Whether a request may write so much yet; the first line that is too much says so. */
function roomFor(task, text) {
  // What runs without a request is held to what a worker keeps.
  if (task.logged === undefined) return true;
  const most = task.unit.limits.logs;
  const before = task.logged;
  task.logged += text.length > LONGEST ? LONGEST : text.length;
  if (task.logged <= most) return true;
  if (before <= most) logOf(task, "warn", logsCut(task.unit.limits));
  return false;
}

function format(values) {
  const all = [SHAPE];
  for (let i = 0; i < values.length; i++) all[i + 1] = values[i];
  return apply(formatWithOptions, undefined, all);
}

function level(name) {
  return function () {
    write(name, arguments);
  };
}

function timed(name) {
  return function (label = "default") {
    const began = clocks.get(label);
    if (began !== undefined) write("info", [`${label}: ${date() - began}ms`]);
    if (name === "timeEnd") clocks.delete(label);
  };
}

const clocks = new Table();
const counters = new Table();

/** A console that writes to the logs of functions. */
export function makeConsole() {
  return {
    log: level("info"),
    info: level("info"),
    debug: level("debug"),
    warn: level("warn"),
    error: level("error"),
    trace() {
      write("debug", [new Error("Trace").stack]);
    },
    assert(condition, ...rest) {
      if (!condition) write("error", ["Assertion failed", ...rest]);
    },
    dir: level("info"),
    dirxml: level("info"),
    table: level("info"),
    group: level("info"),
    groupCollapsed: level("info"),
    groupEnd() {},
    clear() {},
    count(label = "default") {
      const count = (counters.get(label) ?? 0) + 1;
      counters.set(label, count);
      write("info", [`${label}: ${count}`]);
    },
    countReset(label = "default") {
      counters.delete(label);
    },
    time(label = "default") {
      clocks.set(label, date());
    },
    timeLog: timed("timeLog"),
    timeEnd: timed("timeEnd"),
  };
}

/** Log what nobody caught, so that it ends nothing. */
export function catchUncaught() {
  globals.addEventListener("error", (event) => {
    event.preventDefault();
    uncaught("Uncaught", event.error);
  });
  globals.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    uncaught("Uncaught (in promise)", event.reason);
  });
}

function uncaught(how, error) {
  const task = running.getStore();
  if (task !== undefined) logOf(task, "error", `${how} ${described(error)}`);
}
