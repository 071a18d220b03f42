// The errors of functions that have met a limit: the words are those of `functions/ended.py`.

import { Ended } from "./errors.js";
import { floor, max, uncurry } from "./platform.js";

const { log10 } = Math;
const toLocale = uncurry(Number.prototype.toLocaleString);

/** Bytes of V8's own stack, which nobody's limit changes. */
const STACK = 984 * 1024;

const UNITS = [["GiB", 1024 ** 3], ["MiB", 1024 ** 2], ["KiB", 1024]];

/** A number with four digits at most, never more than it is. */
function short(amount) {
  const digits = amount >= 1 ? max(0, 3 - floor(log10(amount))) : 4;
  const scale = 10 ** digits;
  return toLocale(floor(amount * scale + 1e-6) / scale, "en", { maximumFractionDigits: digits });
}

/** A number of bytes for people. */
export function bytes(size) {
  for (let i = 0; i < UNITS.length; i++) {
    const unit = UNITS[i];
    if (size >= unit[1]) return `${short(size / unit[1])} ${unit[0]}`;
  }
  return size === 1 ? "1 byte" : `${size} bytes`;
}

/** Seconds for people. */
export function seconds(time) {
  return time > 0 && time < 1 ? `${short(time * 1000)} ms` : `${short(time)} s`;
}

function number(count) {
  return toLocale(count, "en");
}

const SAID = {
  __proto__: null,

  wall({ wall }, used) {
    const spent = seconds(max(used, wall));
    return `ended here after ${spent} of waiting; ${seconds(wall)} are allowed; ${way("wall")}`;
  },

  stack() {
    return `ended here after calls nested too deeply; ${bytes(STACK)} of stack are allowed on deno`;
  },

  memory({ heap }) {
    return `ended here after filling its heap; ${bytes(heap)} are allowed; ${way("heap")}`;
  },

  output({ response }, used) {
    const allowed = `${bytes(response)} are allowed unless it is streamed`;
    return `ended here after an answer of ${bytes(used)}; ${allowed}; ${way("response")}`;
  },

  fetches({ fetches }) {
    const many = number(fetches);
    const said = `${many} sub-requests and uses of bindings; ${many} are allowed`;
    return `ended here after ${said}; ${way("fetches")}`;
  },

  concurrency({ concurrency }) {
    const many = number(concurrency);
    const said = `${many} requests that are under way; ${many} are allowed`;
    return `refused here after ${said}; ${way("concurrency")}`;
  },
};

function way(name) {
  return `deploy with --limit ${name}=…`;
}

/** The error of a function that was ended here, by the limit whose name is `which`. */
export function ended(which, limits, used = 0) {
  return new Ended(503, `functions.limit.${which}`, SAID[which](limits, used));
}

/** The last line of the log of a request that has written too much. */
export function logsCut({ logs }) {
  return `the rest of this request's log is dropped: it may write ${bytes(logs)} (${way("logs")})`;
}

/** Which limit of the engine an error tells of that a function has let pass; empty of others. */
export function metLimit(error) {
  try {
    if (typeof error !== "object" || error === null || error.name !== "RangeError") return "";
    if (error.message === "Maximum call stack size exceeded") return "stack";
    return error.message === "Array buffer allocation failed" ? "memory" : "";
  } catch {
    return "";
  }
}
