// Bodies that come and go in parts, with credit: a slow reader holds its sender up, and no memory.

import { decode, NativePromise, now, slice, subarray } from "./platform.js";
import { CHUNK, END, GRANT, ITEM, WINDOW } from "./wire.js";

/** Bytes that come ahead of their reader before the sender is taken for broken. */
const FLOOD = WINDOW + CHUNK;

/** A body that comes. `cancel` is called when its reader has had enough. */
export class Inflow {
  #line;
  #stream;
  #cancel;
  #parts = [];
  #at = 0;
  #held = 0;
  #owed = 0;
  #wake = null;
  #ended = false;
  #failure = null;

  constructor(line, stream, cancel) {
    this.#line = line;
    this.#stream = stream;
    this.#cancel = cancel;
  }

  /** Take in a part, bytes of somebody else; false if its sender has sent more than it may. */
  take(part) {
    if (!this.#ended && part.length > 0) {
      this.#parts[this.#parts.length] = slice(part);
      this.#held += part.length;
      this.#wake?.();
    }
    return this.#held <= FLOOD;
  }

  /** No more comes: that was all, or there was an error. */
  end(failure) {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    this.#wake?.();
  }

  /** The next part, or null after the last. */
  async next() {
    while (this.#at === this.#parts.length) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#ended) return null;
      await new NativePromise((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    const part = this.#parts[this.#at];
    this.#parts[this.#at++] = null;
    if (this.#at === this.#parts.length) {
      this.#parts = [];
      this.#at = 0;
    }
    this.#took(part.length);
    return part;
  }

  /** Nobody reads any more. */
  cancel() {
    if (this.#ended) return;
    this.#parts = [];
    this.#at = 0;
    this.#ended = true;
    this.#cancel();
  }

  #took(size) {
    this.#held -= size;
    this.#owed += size;
    if (this.#owed < WINDOW / 2 || this.#ended) return;
    this.#line.send(GRANT, this.#stream, `${this.#owed}`);
    this.#owed = 0;
  }
}

/** A body that goes; not before it is said on which line. */
export class Outflow {
  #line = null;
  #stream;
  #credit = 0;
  #wake = null;
  #over = false;

  constructor(stream) {
    this.#stream = stream;
    this.open = true;
    /** Called when nobody wants any more of it, before its end. */
    this.stopped = null;
    /** When it last went on, or might have. */
    this.moved = 0;
  }

  /** Send it on this line. */
  begin(line) {
    this.#line = line;
    this.#credit = WINDOW;
    this.moved = now();
    this.#wake?.();
    if (this.#over) line.send(END, this.#stream);
    return this;
  }

  /** Send a part; waits while the other end is too far behind. */
  async send(data) {
    for (let at = 0; at < data.length; at += CHUNK) {
      while (this.#credit <= 0 && this.open) {
        await new NativePromise((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
      if (!this.open) return;
      const part = data.length > CHUNK ? subarray(data, at, at + CHUNK) : data;
      this.#credit -= part.length;
      this.moved = now();
      this.#line.send(ITEM, this.#stream, part);
    }
  }

  /** That was all. */
  end() {
    if (!this.open) return;
    this.open = false;
    this.#over = true;
    this.#line?.send(END, this.#stream);
  }

  /** The other end has taken so many bytes. */
  grant(payload) {
    const size = +decode(payload);
    if (this.#credit <= 0) this.moved = now();
    if (size > 0) this.#credit += size;
    if (this.#credit > 0) this.#wake?.();
  }

  /** Whether nothing has been sent since then, though it might have been. */
  stands(since) {
    return this.open && this.#credit > 0 && this.moved < since;
  }

  /** Nobody wants any more of it. */
  close() {
    if (!this.open) return;
    this.open = false;
    this.#wake?.();
    this.stopped?.();
  }
}
