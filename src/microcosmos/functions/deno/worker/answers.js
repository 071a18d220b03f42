// From the value that a function gives to the answer on the line.

import { Outflow } from "./bodies.js";
import { ended } from "./ended.js";
import { described, Ended, errorJson } from "./errors.js";
import { logOf } from "./logs.js";
import {
  encode,
  globals,
  isView,
  lower,
  startsWith,
  stringify,
  substring,
  trimStart,
  uncurry,
} from "./platform.js";
import {
  asBytes,
  bodyOf,
  bodyUsed,
  bytesOf,
  eachHeader,
  headersOf,
  isResponse,
  isWhole,
  plainText,
  status,
  wholeOf,
} from "./responses.js";
import { begin, finish } from "./watch.js";
import { BINARY, ERROR, GIVEN, HTML, JSON_BODY, STREAMED, TEXT } from "./wire.js";

const { ReadableStream } = globals;
const getReader = uncurry(ReadableStream.prototype.getReader);
const reader = Object.getPrototypeOf(new ReadableStream().getReader());
const read = uncurry(reader.read);
const cancel = uncurry(reader.cancel);

/** The head of a Response that is made of a text and nothing else. */
const PLAIN = '[["content-type","text/plain;charset=UTF-8"]]';

/** Answer a task by what its function gave. May return a promise, which fails as the function does. */
export function answer(task, value) {
  if (typeof value === "string") return whole(task, 200, isHtml(value) ? HTML : TEXT, "", value);
  if (typeof value === "object" && value !== null) {
    if (isResponse(value)) return respond(task, value);
    if (value instanceof ArrayBuffer || isView(value)) {
      return whole(task, 200, BINARY, "", asBytes(value));
    }
  }
  return whole(task, 200, JSON_BODY, "", json(task, value));
}

/** Answer a script's task: what is neither text nor a Response becomes text. */
export function answerText(task, value) {
  if (typeof value === "object" && value !== null && isResponse(value)) return respond(task, value);
  const text = typeof value === "string" ? value : String(value);
  return whole(task, 200, isHtml(text) ? HTML : TEXT, "", text);
}

function isHtml(text) {
  const begins = lower(trimStart(substring(text, 0, 256)));
  return startsWith(begins, "<!doctype html") || startsWith(begins, "<html");
}

function json(task, value) {
  let text;
  try {
    text = stringify(value);
  } catch (error) {
    // What was thrown may be private.
    logOf(task, "error", `Uncaught ${described(error)}`);
    throw wrong("an object that JSON cannot tell (its log says why)");
  }
  if (text === undefined) {
    const what = value === undefined ? "nothing (undefined)" : `a ${typeof value}`;
    throw wrong(typeof value === "object" ? "an object that is nothing in JSON" : what);
  }
  return text;
}

function wrong(what) {
  const detail =
    `the function has answered ${what}; it must be a text, bytes, a JSON value or a Response`;
  return new Ended(500, "functions.answer", detail);
}

/** Send an answer that is known as a whole: a text or bytes. */
function whole(task, code, kind, head, body) {
  const { limits } = task.unit;
  // A character of a text is three bytes at most.
  if (body.length * 3 > limits.response) {
    const size = typeof body === "string" ? encode(body).length : body.length;
    if (size > limits.response) throw ended("output", limits, size);
  }
  const size = task.line.reply(task.stream, code, kind, head, body);
  task.answered(size);
  task.over();
}

function respond(task, response) {
  const text = plainText(response);
  if (text !== null) return whole(task, status(response), GIVEN, PLAIN, text);
  if (bodyUsed(response)) throw wrong("a Response whose body has been read already");
  const code = status(response);
  if (code < 200) throw wrong(`a Response of the status ${code}`);
  const head = headOf(response);
  if (isWhole(response)) {
    const text = wholeOf(response);
    if (text !== undefined) return whole(task, code, GIVEN, head, text);
    return gathered(task, code, head, response);
  }
  const body = bodyOf(response);
  if (body === null) return whole(task, code, GIVEN, head, "");
  return stream(task, code, head, body);
}

// What tells how bytes travel is said anew on each line.
const HOPS = {
  __proto__: null,
  connection: true,
  "content-length": true,
  "keep-alive": true,
  "transfer-encoding": true,
};

function headOf(response) {
  const pairs = [];
  eachHeader(headersOf(response), (value, name) => {
    if (HOPS[name] === undefined) pairs[pairs.length] = [name, value];
  });
  return pairs.length === 0 ? "" : stringify(pairs);
}

async function gathered(task, code, head, response) {
  const { unit } = task;
  begin(unit);
  let bytes;
  try {
    bytes = await bytesOf(response);
  } finally {
    finish(unit);
  }
  if (task.waits) whole(task, code, GIVEN, head, bytes);
}

/** Send the parts of a body as they come, and as they are wanted. */
async function stream(task, code, head, body) {
  let source;
  try {
    source = getReader(body);
  } catch {
    throw wrong("a Response whose body somebody else reads");
  }
  const { line, unit } = task;
  line.reply(task.stream, code, GIVEN | STREAMED, head, "");
  task.answered(0);
  const outflow = task.outflow = new Outflow(task.stream).begin(line);
  outflow.stopped = () => cancel(source, "nobody reads any more").catch(() => {});
  try {
    while (outflow.open) {
      const { done, value } = await read(source);
      if (done || !outflow.open) break;
      const part = asBytes(value);
      unit.counts.response_bytes += part.length;
      await outflow.send(part);
    }
    outflow.end();
  } catch (error) {
    broken(task, outflow, error);
  }
  unit.touch();
  task.over();
}

function broken(task, outflow, error) {
  logOf(task, "error", `Uncaught (in a streamed body) ${described(error)}`);
  task.unit.failed("functions.exception");
  if (!outflow.open) return;
  outflow.close();
  const detail = "the function has failed in the middle of its answer; its log says why";
  task.line.send(ERROR, task.stream, errorJson(500, "functions.exception", detail));
}
