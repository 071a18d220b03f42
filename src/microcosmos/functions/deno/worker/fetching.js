// `fetch`: the host does it, and answers with a body that streams.

import { count } from "./bindings.js";
import { host } from "./host.js";
import { Response } from "./responses.js";
import { streamOf } from "./streams.js";
import { inTurn } from "./turns.js";
import { hold } from "./watch.js";
import {
  defineProperty,
  getter,
  globals,
  isView,
  NativePromise,
  running,
  startsWith,
  stringify,
  toBase64,
  uncurry,
} from "./platform.js";

const { ReadableStream, Request, Headers, AbortSignal } = globals;

const SAFE = { __proto__: null, GET: true, HEAD: true, OPTIONS: true };

/** Bytes of a body that is sent with the question; a longer one follows it. */
const SHORT = 64 * 1024;

const url = getter(Request.prototype, "url");
const method = getter(Request.prototype, "method");
const headers = getter(Request.prototype, "headers");
const redirect = getter(Request.prototype, "redirect");
const signalOf = getter(Request.prototype, "signal");
const body = getter(Request.prototype, "body");
const bytes = uncurry(Request.prototype.bytes);
const eachHeader = uncurry(Headers.prototype.forEach);
const aborted = getter(AbortSignal.prototype, "aborted");
const reason = getter(AbortSignal.prototype, "reason");
const listen = uncurry(EventTarget.prototype.addEventListener);
const unlisten = uncurry(EventTarget.prototype.removeEventListener);
const getReader = uncurry(ReadableStream.prototype.getReader);
const read = uncurry(Object.getPrototypeOf(new ReadableStream().getReader()).read);
const isPrototype = uncurry(Object.prototype.isPrototypeOf);

/** The `fetch` that functions see. */
export function fetch(input, init = undefined) {
  const task = running.getStore();
  if (task === undefined) return NativePromise.reject(new TypeError("fetch outside of a function"));
  return hold(task.unit, ask(task, input, init));
}

async function ask(task, input, init) {
  const request = new Request(input, init);
  const signal = signalOf(request);
  if (aborted(signal)) throw reason(signal);
  const target = url(request);
  if (!startsWith(target, "http://") && !startsWith(target, "https://")) {
    throw new TypeError(`cannot fetch ${target}: only http: and https: are served`);
  }
  count(task);
  const said = {
    __proto__: null,
    url: target,
    method: method(request),
    headers: pairsOf(headers(request)),
    redirect: redirect(request),
    trace: task.trace,
  };
  const parts = await bodyFor(said, request, input, init);
  const reply = await answered(task, said, parts, signal);
  return responseOf(task, reply, target);
}

function pairsOf(headers) {
  const pairs = [];
  eachHeader(headers, (value, name) => {
    pairs[pairs.length] = [name, value];
  });
  return pairs;
}

/** Put a short body into what is said; a longer one is given back: bytes or a stream. */
async function bodyFor(said, request, input, init) {
  const given = init?.body;
  const streams = given === undefined || given === null
    ? typeof input === "object" && isPrototype(Request.prototype, input)
    : isPrototype(ReadableStream.prototype, given) ||
      typeof given[Symbol.asyncIterator] === "function";
  if (streams) {
    const stream = body(request);
    said.streamed = stream !== null;
    return stream;
  }
  if (given === undefined || given === null) return null;
  const whole = await bytes(request);
  if (whole.length <= SHORT) {
    said.body = toBase64(whole);
    return null;
  }
  said.streamed = true;
  return whole;
}

/** The answer of the host; rejects when the signal says so. */
function answered(task, said, parts, signal) {
  return new NativePromise((resolve, reject) => {
    let asked = null;
    const stop = () => {
      if (asked !== null) host.cancel(asked);
      turn.cancel();
      reject(reason(signal));
    };
    const turn = inTurn(task, () => {
      asked = host.ask(task.unit.slot, "fetch", stringify(said), (error, reply) => {
        turn.over();
        if (error !== null || reply.inflow === null) unlisten(signal, "abort", stop);
        if (error !== null) reject(failed(said.url, error));
        else resolve(reply);
      }, parts === null && SAFE[said.method] === true, parts !== null);
      if (parts !== null) send(asked, parts).catch(stop);
    });
    listen(signal, "abort", stop);
  });
}

async function send(asked, parts) {
  const { outflow } = asked;
  if (isView(parts)) {
    await outflow.send(parts);
  } else {
    const reader = getReader(parts);
    for (let part = await read(reader); !part.done && outflow.open; part = await read(reader)) {
      await outflow.send(part.value);
    }
  }
  outflow.end();
}

/** As `fetch` of browsers fails, and with what the platform says of it. */
function failed(target, error) {
  const { code, id, detail, status } = error;
  return Object.assign(new TypeError(`cannot fetch ${target}: ${detail}`), {
    code,
    id,
    detail,
    status,
  });
}

const BODILESS = { __proto__: null, 101: true, 204: true, 205: true, 304: true };

function responseOf(task, reply, target) {
  const { status, headers, inflow } = reply;
  const content = BODILESS[status]
    ? null
    : inflow === null
    ? reply.body
    : streamOf(task.unit, inflow);
  if (content === null) inflow?.cancel();
  const response = new Response(content, { status, headers });
  defineProperty(response, "url", { value: target, configurable: true });
  return response;
}
