// A request as functions see it: of the handler's form, and as a Request of the web platform.

import { bytes as sizeOf } from "./ended.js";
import { Ended } from "./errors.js";
import { joined } from "./line.js";
import { streamOf } from "./streams.js";
import { begin, finish } from "./watch.js";
import {
  Bytes,
  create,
  decodeBody,
  defineProperty,
  getter,
  globals,
  indexOf,
  isView,
  parse,
  setPrototypeOf,
  slice,
  substring,
  uncurry,
} from "./platform.js";

const { AbortController, Headers, ReadableStream, Request, URLSearchParams, DOMException } =
  globals;
const NOTHING = new Bytes(0);

/** The parts of a request, as they came on the line; each is made when it is asked for. */
export class Received {
  #text;
  #at = null;
  #pairs = null;
  #headers = null;
  #body;
  #inflow;
  #unit;
  #controller = null;
  #aborted = false;
  #used = false;

  /**
   * @param unit whose request it is.
   * @param text the head.
   * @param body its bytes, or null if there is no body, or it follows.
   * @param inflow what follows, or null.
   */
  constructor(unit, text, body, inflow) {
    this.#unit = unit;
    this.#text = text;
    this.#body = body;
    this.#inflow = inflow;
  }

  get method() {
    return this.#line(0);
  }

  get url() {
    return this.#line(1);
  }

  get params() {
    const text = this.#line(2);
    return text === "" ? {} : parse(text);
  }

  get pairs() {
    return this.#pairs ??= parse(this.#line(3) || "[]");
  }

  get path() {
    return this.#line(4);
  }

  get headers() {
    return this.#headers ??= new Headers(this.pairs);
  }

  header(name) {
    const { pairs } = this;
    for (let i = 0; i < pairs.length; i++) if (pairs[i][0] === name) return pairs[i][1];
    return "";
  }

  get signal() {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#abort();
    }
    return this.#controller.signal;
  }

  /** Nobody wants the answer any more. */
  abort() {
    if (this.#aborted) return;
    this.#aborted = true;
    if (this.#controller !== null) this.#abort();
  }

  #abort() {
    this.#controller.abort(new DOMException("The client has disconnected", "AbortError"));
  }

  get hasBody() {
    return this.#inflow !== null || this.#body !== null;
  }

  get used() {
    return this.#used;
  }

  /** The whole body. */
  async bytes() {
    const { hasBody } = this;
    if (this.#used) throw new TypeError("Body already consumed.");
    if (hasBody) this.#used = true;
    if (this.#inflow === null) {
      const whole = this.#body ?? NOTHING;
      this.#body = hasBody ? NOTHING : null;
      this.#fits(whole.length);
      return whole;
    }
    return this.#gather();
  }

  async #gather() {
    const pieces = [];
    let size = 0;
    begin(this.#unit);
    try {
      for (let part = await this.#inflow.next(); part !== null; part = await this.#inflow.next()) {
        size += part.length;
        this.#fits(size);
        pieces[pieces.length] = part;
      }
    } finally {
      finish(this.#unit);
    }
    return joined(pieces, size);
  }

  #fits(size) {
    const most = this.#unit.limits.request;
    if (size > most) throw tooLarge(most);
  }

  /** The body for a Request of the engine: bytes, a stream or null. */
  content() {
    return this.#inflow === null ? this.#body : streamOf(this.#unit, this.#inflow);
  }

  /** The body as a stream, which is read instead of anything else here. */
  readable() {
    if (this.#used) throw new TypeError("Body already consumed.");
    const content = this.content();
    this.#used = true;
    return isView(content) ? ReadableStream.from([content]) : content;
  }

  /** A line of the head; the last one may hold line breaks. */
  #line(which) {
    if (this.#at === null) {
      const at = [0];
      for (let i = 0; i < 4; i++) at[i + 1] = indexOf(this.#text, "\n", at[i]) + 1;
      this.#at = at;
    }
    const begins = this.#at[which];
    return which === 4
      ? substring(this.#text, begins)
      : substring(this.#text, begins, this.#at[which + 1] - 1);
  }
}

/** The error of a request whose body is over the limit. */
export function tooLarge(most) {
  return new Ended(413, "functions.body", `a body of more than ${sizeOf(most)}`);
}

/** What `handler(request, env)` is given. */
export class HandlerRequest {
  #received;
  #query = null;
  #params = null;
  #body = null;

  constructor(received) {
    this.#received = received;
  }

  get method() {
    return this.#received.method;
  }

  get url() {
    return this.#received.url;
  }

  get headers() {
    return this.#received.headers;
  }

  get path() {
    return this.#received.path;
  }

  get query() {
    return this.#query ??= queryOf(this.#received.url);
  }

  get params() {
    return this.#params ??= this.#received.params;
  }

  get signal() {
    return this.#received.signal;
  }

  /** The parts of the body, for `for await`; null if there is none. */
  get body() {
    return this.#received.hasBody ? this.#body ??= this.#received.readable() : null;
  }

  get bodyUsed() {
    return this.#received.used;
  }

  async bytes() {
    return own(await this.#received.bytes());
  }

  async arrayBuffer() {
    return own(await this.#received.bytes()).buffer;
  }

  async text() {
    return decodeBody(await this.#received.bytes());
  }

  async json() {
    return parse(decodeBody(await this.#received.bytes()));
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }
}

const eachParameter = uncurry(URLSearchParams.prototype.forEach);

/** Values by name; a name that comes more than once has a list. */
function queryOf(url) {
  const query = create(null);
  const at = indexOf(url, "?");
  if (at < 0) return query;
  const end = indexOf(url, "#", at);
  const text = end < 0 ? substring(url, at) : substring(url, at, end);
  eachParameter(new URLSearchParams(text), (value, name) => {
    const before = query[name];
    if (before === undefined) query[name] = value;
    else if (typeof before === "string") query[name] = [before, value];
    else before[before.length] = value;
  });
  return query;
}

/** A Request that is made of the engine's parts only where somebody looks deeper than most do. */
class Incoming {
  #received;
  #real = null;

  constructor(received) {
    this.#received = received;
  }

  static realOf(incoming) {
    return incoming.#native();
  }

  get method() {
    return this.#received.method;
  }

  get url() {
    return this.#received.url;
  }

  get headers() {
    return this.#received.headers;
  }

  get signal() {
    return this.#received.signal;
  }

  get bodyUsed() {
    return this.#real === null ? this.#received.used : bodyUsed(this.#real);
  }

  async text() {
    return this.#real === null
      ? decodeBody(await this.#received.bytes())
      : natives.text(this.#real);
  }

  async json() {
    return this.#real === null
      ? parse(decodeBody(await this.#received.bytes()))
      : natives.json(this.#real);
  }

  async bytes() {
    return this.#real === null ? own(await this.#received.bytes()) : natives.bytes(this.#real);
  }

  async arrayBuffer() {
    return this.#real === null
      ? own(await this.#received.bytes()).buffer
      : natives.arrayBuffer(this.#real);
  }

  #native() {
    if (this.#real !== null) return this.#real;
    const received = this.#received;
    const { method, url, headers, signal } = received;
    const has = received.hasBody && method !== "GET" && method !== "HEAD";
    const body = has ? received.content() : null;
    const real = new Request(url, { method, headers, signal, body, duplex: "half" });
    // What was read already has been read of this one, too.
    if (received.used) natives.text(real).catch(() => {});
    this.#real = real;
    return real;
  }
}

const bodyUsed = getter(Request.prototype, "bodyUsed");
const natives = {
  __proto__: null,
  text: uncurry(Request.prototype.text),
  json: uncurry(Request.prototype.json),
  bytes: uncurry(Request.prototype.bytes),
  arrayBuffer: uncurry(Request.prototype.arrayBuffer),
};

/** Bytes in a buffer of their own, for a function to keep. */
function own(bytes) {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : slice(bytes);
}

// An Incoming is a Request by its prototype, and has the fields that the engine looks for in one.
setPrototypeOf(Incoming.prototype, Request.prototype);
defineProperty(Incoming.prototype, "constructor", {
  value: Request,
  writable: true,
  configurable: true,
});
for (const name of ["clone", "blob", "formData"]) {
  const native = uncurry(Request.prototype[name]);
  Incoming.prototype[name] = {
    [name]() {
      return native(Incoming.realOf(this));
    },
  }[name];
}
for (const symbol of Object.getOwnPropertySymbols(new Request("http://localhost/"))) {
  defineProperty(Incoming.prototype, symbol, {
    get() {
      return Incoming.realOf(this)[symbol];
    },
    set(value) {
      Incoming.realOf(this)[symbol] = value;
    },
    configurable: true,
  });
}

/** Whether this engine takes an Incoming for a Request. */
function accepted() {
  try {
    const probe = new Received(
      { limits: { request: 1 } },
      'POST\nhttp://localhost/x\n\n[["a","b"]]\n',
      new Bytes(1),
      null,
    );
    const copy = new Request(new Incoming(probe), { headers: { c: "d" } });
    return copy.url === "http://localhost/x" && copy.method === "POST" && copy.body !== null;
  } catch {
    return false;
  }
}

const eager = !accepted();

/** What `fetch(request, env, ctx)` is given. */
export function webRequest(received) {
  const incoming = new Incoming(received);
  return eager ? Incoming.realOf(incoming) : incoming;
}
