// Asking the host: sub-requests, bindings, notes. The host is whoever said HOST last.

import {
  Bytes,
  clearTimer,
  decode,
  eachValue,
  encode,
  parse,
  setBytes,
  setTimer,
  Table,
} from "./platform.js";
import { errorFrom, PlatformError } from "./errors.js";
import {
  ASKED,
  CANCEL,
  END,
  ERROR,
  GRANT,
  ITEM,
  OPEN,
  putUint32,
  REPLY,
  REQUEST,
  REQUEST_HEAD,
  STREAMED,
} from "./wire.js";
import { Inflow, Outflow } from "./bodies.js";
import { replyOf } from "./replies.js";

/** Milliseconds that what functions ask for waits while the host is being started again: longer
 * than the longest pause of the supervisor between two starts. */
const PATIENCE = 6000;

class Host {
  #line = null;
  #asked = new Table();
  #number = ASKED;

  get line() {
    return this.#line;
  }

  /** Ask this line from now on. */
  become(line) {
    const before = this.#line;
    if (before === line) return;
    if (before !== null) this.lost(before);
    this.#line = line;
    eachValue(this.#asked, (asked) => {
      if (asked.line === null) this.#send(asked, line);
    });
  }

  /** A line is gone: what it was asked has failed, or is asked again. */
  lost(line) {
    if (this.#line === line) this.#line = null;
    eachValue(this.#asked, (asked) => {
      if (asked.line !== line) return;
      if (asked.again && asked.done !== null) this.#hold(asked);
      else this.#fail(asked, gone());
    });
  }

  /**
   * Ask for something. While there is no host, that waits a moment for the next one.
   *
   * @param slot of the function that it is for; 0 is the worker itself.
   * @param word what is asked.
   * @param body its JSON.
   * @param done called once, with an error or null, and the answer: see `replyOf`.
   * @param again whether another host may be asked when this one goes away.
   * @param streamed whether a body follows, by `outflow` of what is returned.
   * @returns what was asked, for `cancel`.
   */
  ask(slot, word, body, done, again = false, streamed = false) {
    const number = this.#number++;
    if (this.#number >= ASKED * 2) this.#number = ASKED;
    const payload = request(slot, word, body);
    const asked = { line: null, number, payload, again, done, timer: null, inflow: null, outflow: null };
    this.#asked.set(number, asked);
    if (streamed) asked.outflow = new Outflow(number);
    if (this.#line !== null) this.#send(asked, this.#line);
    else this.#hold(asked);
    return asked;
  }

  #send(asked, line) {
    const { number, outflow, payload, timer } = asked;
    if (timer !== null) clearTimer(timer);
    asked.timer = null;
    asked.line = line;
    line.send(outflow === null ? REQUEST : OPEN, number, payload);
    outflow?.begin(line);
    if (!asked.again) asked.payload = null;
  }

  /** Wait for the next host, which is as a rule there in no time. */
  #hold(asked) {
    asked.line = null;
    asked.timer = setTimer(() => this.#fail(asked, gone()), PATIENCE);
  }

  /** The answer is not wanted any more. */
  cancel(asked) {
    if (!this.#asked.has(asked.number)) return;
    this.#asked.delete(asked.number);
    asked.outflow?.close();
    if (asked.line === null) {
      clearTimer(asked.timer);
      return;
    }
    asked.line.drop(asked.number);
    asked.line.send(CANCEL, asked.number);
  }

  /** A message on a stream that the worker began. */
  receive(line, kind, number, payload) {
    const asked = this.#asked.get(number);
    if (asked === undefined || asked.line !== line) return;
    if (kind === REPLY) this.#reply(asked, replyOf(payload));
    else if (kind === ERROR) this.#fail(asked, errorFrom(decode(payload)));
    else if (kind === ITEM) this.#item(asked, payload);
    else if (kind === END) this.#end(asked);
    else if (kind === GRANT) asked.outflow?.grant(payload);
  }

  #reply(asked, reply) {
    const { done } = asked;
    asked.outflow?.close();
    if (done === null) return;
    asked.done = null;
    if (reply.kind & STREAMED) {
      asked.inflow = reply.inflow = new Inflow(asked.line, asked.number, () => this.cancel(asked));
      if (reply.body.length > 0) asked.inflow.take(reply.body);
    } else {
      this.#asked.delete(asked.number);
    }
    done(null, reply);
  }

  #item(asked, payload) {
    if (asked.inflow !== null && !asked.inflow.take(payload)) {
      this.#fail(
        asked,
        new PlatformError(502, "functions.fetch", "more of a body came than was asked for"),
      );
    }
  }

  #end(asked) {
    this.#asked.delete(asked.number);
    asked.inflow?.end(null);
  }

  #fail(asked, error) {
    this.#asked.delete(asked.number);
    asked.outflow?.close();
    asked.inflow?.end(error);
    const { done } = asked;
    asked.done = null;
    if (done !== null) done(error, null);
  }
}

/** The payload of a REQUEST. */
function request(slot, word, body) {
  const head = encode(word);
  const rest = encode(body);
  const payload = new Bytes(REQUEST_HEAD + head.length + rest.length);
  putUint32(payload, 0, slot);
  putUint32(payload, 4, head.length);
  setBytes(payload, head, REQUEST_HEAD);
  setBytes(payload, rest, REQUEST_HEAD + head.length);
  return payload;
}

function gone() {
  return new PlatformError(
    503,
    "functions.host",
    "the host of functions is away for a moment; try again",
  );
}

/** The JSON of an answer. */
export function jsonOf(reply) {
  return parse(decode(reply.body));
}

export const host = new Host();
