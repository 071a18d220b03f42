// Asking the host: sub-requests, bindings, notes. The host is whoever said HOST last.

import { encode, eachValue, parse, setBytes, Bytes, Table, decode } from "./platform.js";
import { PlatformError, errorFrom } from "./errors.js";
import { ASKED, CANCEL, END, ERROR, GRANT, ITEM, OPEN, putUint32, REPLY, REQUEST, REQUEST_HEAD, STREAMED } from "./wire.js";
import { Inflow, Outflow } from "./bodies.js";
import { replyOf } from "./replies.js";

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
    this.#line = line;
    if (before !== null && before !== line) this.lost(before);
  }

  /** A line is gone: what it was asked has failed. */
  lost(line) {
    if (this.#line === line) this.#line = null;
    eachValue(this.#asked, (asked) => {
      if (asked.line === line) this.#fail(asked, gone());
    });
  }

  /**
   * Ask for something.
   *
   * @param slot of the function that it is for; 0 is the worker itself.
   * @param word what is asked.
   * @param body its JSON.
   * @param done called once, with an error or null, and the answer: see `replyOf`.
   * @param source a body that follows, if there is one: an `Outflow`.
   * @returns what was asked, for `cancel`; null if it has failed already.
   */
  ask(slot, word, body, done, streamed = false) {
    const line = this.#line;
    if (line === null) {
      done(gone(), null);
      return null;
    }
    const number = this.#number++;
    if (this.#number >= ASKED * 2) this.#number = ASKED;
    const asked = { line, number, done, inflow: null, outflow: null };
    this.#asked.set(number, asked);
    if (streamed) asked.outflow = new Outflow(line, number);
    line.send(streamed ? OPEN : REQUEST, number, request(slot, word, body));
    return asked;
  }

  /** The answer is not wanted any more. */
  cancel(asked) {
    if (!this.#asked.has(asked.number)) return;
    this.#asked.delete(asked.number);
    asked.outflow?.close();
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
      this.#fail(asked, new PlatformError(502, "functions.fetch", "more of a body came than was asked for"));
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
  return new PlatformError(503, "functions.host", "the host of functions is away for a moment; try again");
}

/** The JSON of an answer. */
export function jsonOf(reply) {
  return parse(decode(reply.body));
}

export const host = new Host();
