// Errors that have a code: those that the host answers, and those that the worker says itself.

import { indexOf, parse, stringify, substring } from "./platform.js";

const STATUSES = {
  __proto__: null,
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  413: "Request Entity Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** What a function sees when something that it asked for has failed. */
export class PlatformError extends Error {
  constructor(code, id, detail, status = STATUSES[code] ?? "Error") {
    super(detail);
    this.name = "Error";
    this.code = code;
    this.id = id;
    this.detail = detail;
    this.status = status;
  }
}

/** An error that, if a function lets it pass, is the answer itself. */
export class Ended extends PlatformError {
  #ended = true;

  static is(error) {
    return typeof error === "object" && error !== null && #ended in error;
  }
}

/** The JSON of an error, as it travels. */
export function errorJson(code, id, detail) {
  return stringify({ __proto__: null, id, code, detail, status: STATUSES[code] ?? "Error" });
}

/** The error that came as JSON. */
export function errorFrom(json) {
  try {
    const { id = "", code = 500, detail = "", status } = parse(json);
    return new PlatformError(code, id, detail, status);
  } catch {
    return new PlatformError(500, "functions", "an answer that is none");
  }
}

// Frames of the worker itself, and of the engine, tell a user nothing.
const HERE = new URL(".", import.meta.url).href;

function traced(stack) {
  let text = "";
  for (let at = 0; at <= stack.length;) {
    const end = indexOf(stack, "\n", at) < 0 ? stack.length : indexOf(stack, "\n", at);
    const line = substring(stack, at, end);
    if (indexOf(line, HERE) < 0 && indexOf(line, "(ext:") < 0) {
      text += at === 0 ? line : `\n${placed(line)}`;
    }
    at = end + 1;
  }
  return text;
}

/** A frame of code that was evaluated, as that of a file. */
function placed(line) {
  const at = indexOf(line, ", <anonymous>:");
  return at < 0 ? line : `${substring(line, 0, at)}${substring(line, at + 13)}`;
}

/** The first line of a text. */
export function firstLine(text) {
  const end = indexOf(text, "\n");
  return end < 0 ? text : substring(text, 0, end);
}

/** An error for a log: its stack, or whatever was thrown as text. */
export function described(error) {
  try {
    if (typeof error === "object" && error !== null && typeof error.stack === "string") {
      const { stack, cause } = error;
      const text = stack === "" ? `${error.name}: ${error.message}` : traced(stack);
      return cause === undefined ? text : `${text}\ncaused by ${described(cause)}`;
    }
    return typeof error === "string" ? error : String(error);
  } catch {
    return "something was thrown that cannot be shown";
  }
}
