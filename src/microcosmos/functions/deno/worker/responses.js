// `Response`: the engine's own, which remembers what its body was made of.

import {
  apply,
  asyncIterator,
  Bytes,
  construct,
  defineProperty,
  encode,
  getter,
  globals,
  isView,
  setPrototypeOf,
  uncurry,
} from "./platform.js";

const { Response: Native, ReadableStream, Headers } = globals;
const { prototype } = Native;

export const status = getter(prototype, "status");
export const bodyUsed = getter(prototype, "bodyUsed");
export const bodyOf = getter(prototype, "body");
export const bytesOf = uncurry(prototype.bytes);
export const headersOf = getter(prototype, "headers");
export const eachHeader = uncurry(Headers.prototype.forEach);
const isPrototype = uncurry(Object.prototype.isPrototypeOf);
const isStream = (value) => isPrototype(ReadableStream.prototype, value);

const body = Symbol("body");
const headers = Symbol("headers");

/** The mark of a body that is known as a whole, but not here. */
const WHOLE = 1;

export function Response(content = null, init = undefined) {
  if (new.target === undefined) {
    throw new TypeError("Class constructor Response cannot be invoked without 'new'");
  }
  const given = isParts(content) ? streamOf(content) : content;
  const response = new.target === Response
    ? new Native(given, init)
    : construct(Native, [given, init], new.target);
  remember(response, given, init);
  return response;
}

function remember(response, given, init) {
  const none = given === null || given === undefined;
  response[body] = none ? "" : given;
  response[headers] = !none && (init === undefined || init === null || init.headers === undefined);
}

for (const key of [body, headers]) {
  defineProperty(prototype, key, { value: undefined, writable: true });
}

setPrototypeOf(Response, Native);
Response.prototype = prototype;
defineProperty(Response, "prototype", { writable: false });
defineProperty(prototype, "constructor", { value: Response, writable: true, configurable: true });
defineProperty(Response, "length", { value: 0 });

defineProperty(prototype, "headers", {
  get() {
    // Whoever has seen them may have changed them.
    if (this[headers] === true) this[headers] = false;
    return headersOf(this);
  },
  enumerable: true,
  configurable: true,
});

const json = Native.json;
Response.json = function (data, init = undefined) {
  const response = apply(json, Native, [data, init]);
  response[body] = WHOLE;
  response[headers] = false;
  return response;
};

export function isResponse(value) {
  return isPrototype(prototype, value);
}

/** The text that a response was made of, if its headers are those that a text has of itself. */
export function plainText(response) {
  const content = response[body];
  return typeof content === "string" && response[headers] === true && !bodyUsed(response)
    ? content
    : null;
}

/** Whether a response's body is known as a whole. */
export function isWhole(response) {
  const content = response[body];
  return content !== undefined && !isStream(content);
}

/** The text or bytes of a body that is known as a whole; undefined if they have to be asked for. */
export function wholeOf(response) {
  const content = response[body];
  return typeof content === "string" ? content : undefined;
}

function isParts(content) {
  return typeof content === "object" && content !== null &&
    typeof content[asyncIterator] === "function" &&
    !isStream(content);
}

/** A stream of what an async iterable gives, texts and bytes. */
function streamOf(iterable) {
  const iterator = iterable[asyncIterator]();
  let pulling;
  return new ReadableStream({
    async pull(controller) {
      pulling = iterator.next();
      const { done, value } = await pulling;
      if (done) controller.close();
      else controller.enqueue(asBytes(value));
    },
    async cancel(reason) {
      try {
        // A generator that is ended while it runs no longer knows whose it is.
        await pulling;
      } finally {
        await iterator.return?.(reason);
      }
    },
  });
}

/** A part of a body as bytes. */
export function asBytes(part) {
  if (typeof part === "string") return encode(part);
  if (part instanceof Bytes) return part;
  if (isView(part)) return new Bytes(part.buffer, part.byteOffset, part.byteLength);
  if (part instanceof ArrayBuffer) return new Bytes(part);
  throw new TypeError("a part of a body is a string or bytes");
}
