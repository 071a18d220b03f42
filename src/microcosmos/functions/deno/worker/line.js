// One connection: frames in and out, written once per turn of the loop.

import {
  Bytes,
  encode,
  encodeInto,
  firstKey,
  max,
  moveBytes,
  nextTick,
  setBytes,
  slice,
  subarray,
  Table,
} from "./platform.js";
import {
  CANCEL,
  CHUNK,
  DATA,
  ERROR,
  HEADER,
  ITEM,
  MORE,
  OPEN,
  putUint32,
  REPLY,
  REPLY_HEAD,
  REQUEST,
  uint32,
} from "./wire.js";

/** Bytes that are read at once. */
const READ = 256 * 1024;

/** Bytes of a reassembled message; as of `rpc.frames`. */
const LONGEST = 8 * 1024 * 1024 + 256 * 1024;

/** Characters of a text that is encoded right into what is to be written. */
const SHORT = 16 * 1024;

/** Bytes of a buffer for writing that is kept when it has been written. */
const KEPT = 1024 * 1024;

const NOTHING = new Bytes(0);

/**
 * @param connection what `Deno.listen` has accepted.
 * @param receive called with the line, the kind, the stream and the payload of every message:
 *   bytes that are somebody else's after the call.
 * @param lost called once with the line, when it is gone.
 */
export class Line {
  #connection;
  #receive;
  #lost;
  #out = new Bytes(CHUNK);
  #at = 0;
  #spare = new Bytes(CHUNK);
  #long = new Table();
  #parts = new Table();
  #flushing = false;
  #writing = false;
  #flush = () => this.#drain();

  constructor(connection, receive, lost) {
    this.#connection = connection;
    this.#receive = receive;
    this.#lost = lost;
    this.open = true;
    this.#read();
  }

  /** Queue a message; `payload` is a text or bytes. */
  send(kind, stream, payload = NOTHING) {
    const whole = typeof payload === "string" ? encode(payload) : payload;
    if (whole.length <= CHUNK && !this.#long.has(stream)) {
      const at = this.#reserve(whole.length);
      setBytes(this.#out, whole, at);
      this.#close(kind, stream, at, at + whole.length);
    } else {
      this.#queue(kind, stream, whole);
    }
  }

  /** Queue an answer; `head` is a text, `body` a text or bytes. Returns the bytes of the body. */
  reply(stream, status, kind, head, body) {
    const text = typeof body === "string" && body.length <= SHORT;
    const room = REPLY_HEAD + head.length * 3 + (text ? body.length * 3 : body.length);
    if (room > CHUNK || !text && typeof body === "string") {
      return this.#longReply(stream, status, kind, head, body);
    }
    let at = this.#reserve(room);
    const out = this.#out;
    const begin = at;
    at += REPLY_HEAD;
    if (head !== "") at += encodeInto(head, subarray(out, at)).written;
    putReplyHead(out, begin, status, kind, at - begin - REPLY_HEAD);
    const size = text ? encodeText(body, out, at) : body.length;
    if (!text) setBytes(out, body, at);
    this.#close(REPLY, stream, begin, at + size);
    return size;
  }

  /** Send no more of what waits on a stream. */
  drop(stream) {
    const parts = this.#long.get(stream);
    if (parts === undefined) return;
    this.#long.delete(stream);
    // The other side has the beginning, so it must hear of the end.
    if (parts.begun) {
      this.#long.set(stream, { begun: true, frames: [frame(DATA, stream, NOTHING)], at: 0 });
    }
  }

  /** Close at once. */
  close() {
    if (!this.open) return;
    this.open = false;
    try {
      this.#connection.close();
    } catch {
      // It is closed already.
    }
    this.#lost(this);
  }

  /** Whether everything that was queued has been given to the kernel. */
  get written() {
    return !this.#writing && this.#at === 0 && this.#long.size === 0;
  }

  #longReply(stream, status, kind, head, body) {
    const top = encode(head);
    const rest = typeof body === "string" ? encode(body) : body;
    const payload = new Bytes(REPLY_HEAD + top.length + rest.length);
    putReplyHead(payload, 0, status, kind, top.length);
    setBytes(payload, top, REPLY_HEAD);
    setBytes(payload, rest, REPLY_HEAD + top.length);
    this.send(REPLY, stream, payload);
    return rest.length;
  }

  /** Room for a frame; returns where its payload begins. */
  #reserve(size) {
    const end = this.#at + HEADER + size;
    if (end > this.#out.length) {
      const grown = new Bytes(max(end, this.#out.length * 2));
      setBytes(grown, subarray(this.#out, 0, this.#at));
      this.#out = grown;
    }
    return this.#at + HEADER;
  }

  #close(kind, stream, begin, end) {
    putHeader(this.#out, begin - HEADER, kind, stream, end - begin);
    this.#at = end;
    if (!this.#flushing) this.#wake();
  }

  #queue(kind, stream, payload) {
    let waiting = this.#long.get(stream);
    if (waiting === undefined) {
      waiting = { begun: false, frames: [], at: 0 };
      this.#long.set(stream, waiting);
    }
    const { frames } = waiting;
    let at = 0;
    do {
      const end = at + CHUNK;
      const bit = end < payload.length ? MORE : 0;
      frames[frames.length] = frame(
        at === 0 ? kind | bit : DATA | bit,
        stream,
        subarray(payload, at, end),
      );
      at = end;
    } while (at < payload.length);
    if (!this.#flushing) this.#wake();
  }

  #wake() {
    this.#flushing = true;
    // Ticks come when all that was ready has run: what is answered in one turn leaves together.
    nextTick(this.#flush);
  }

  async #drain() {
    this.#flushing = false;
    if (this.#writing) return;
    this.#writing = true;
    try {
      while (this.open && (this.#at > 0 || this.#long.size > 0)) {
        this.#turn();
        const out = this.#out;
        const end = this.#at;
        this.#out = this.#spare;
        this.#at = 0;
        let at = 0;
        while (at < end) at += await this.#connection.write(subarray(out, at, end));
        this.#spare = out.length > KEPT ? new Bytes(CHUNK) : out;
      }
    } catch {
      this.close();
    } finally {
      this.#writing = false;
    }
  }

  /** Long messages take turns, a chunk each. */
  #turn() {
    if (this.#long.size === 0) return;
    const stream = firstKey(this.#long);
    const waiting = this.#long.get(stream);
    this.#long.delete(stream);
    const chunk = waiting.frames[waiting.at];
    waiting.frames[waiting.at++] = null;
    waiting.begun = (chunk[4] & MORE) !== 0;
    const at = this.#reserve(chunk.length);
    setBytes(this.#out, chunk, at - HEADER);
    this.#at = at - HEADER + chunk.length;
    if (waiting.at < waiting.frames.length) this.#long.set(stream, waiting);
  }

  async #read() {
    const buffer = new Bytes(READ);
    let filled = 0;
    try {
      while (this.open) {
        const got = await this.#connection.read(filled === 0 ? buffer : subarray(buffer, filled));
        if (got === null) break;
        filled += got;
        const taken = this.#take(buffer, filled);
        if (taken < 0) break;
        if (taken < filled && taken > 0) moveBytes(buffer, 0, taken, filled);
        filled -= taken;
      }
    } catch (error) {
      // The other side is gone, or this one has closed.
      if (this.open && error?.name !== "ConnectionReset") this.failure = error;
    }
    this.close();
  }

  /** Hand over every whole message; returns how many bytes that took, less than 0 for nonsense. */
  #take(buffer, filled) {
    let at = 0;
    while (filled - at >= HEADER) {
      const size = uint32(buffer, at);
      if (size < HEADER - 4 || size > CHUNK + HEADER) return -1;
      const end = at + 4 + size;
      if (end > filled) break;
      const kind = buffer[at + 4];
      const stream = uint32(buffer, at + 5);
      const payload = subarray(buffer, at + HEADER, end);
      if (kind > 0 && kind < DATA) this.#receive(this, kind, stream, payload);
      else if (!this.#assemble(kind, stream, payload)) return -1;
      at = end;
    }
    return at;
  }

  #assemble(kind, stream, payload) {
    const bare = kind & ~MORE;
    if (bare !== DATA) {
      if (bare !== REQUEST && bare !== REPLY && bare !== ERROR && bare !== OPEN && bare !== ITEM) {
        return false;
      }
      this.#parts.set(stream, { kind: bare, pieces: [slice(payload)], size: payload.length });
      return true;
    }
    const parts = this.#parts.get(stream);
    if (parts === undefined || parts.size + payload.length > LONGEST) return false;
    if (parts.kind !== CANCEL) {
      parts.pieces[parts.pieces.length] = slice(payload);
      parts.size += payload.length;
    }
    if (kind & MORE) return true;
    this.#parts.delete(stream);
    if (parts.kind !== CANCEL) {
      this.#receive(this, parts.kind, stream, joined(parts.pieces, parts.size));
    }
    return true;
  }

  /** The rest of a message is no longer wanted, though it may still come. */
  forget(stream) {
    const parts = this.#parts.get(stream);
    if (parts !== undefined) {
      parts.kind = CANCEL;
      parts.pieces = [];
      parts.size = 0;
    }
  }
}

function putHeader(out, at, kind, stream, size) {
  putUint32(out, at, size + HEADER - 4);
  out[at + 4] = kind;
  putUint32(out, at + 5, stream);
}

function putReplyHead(out, at, status, kind, size) {
  out[at] = status;
  out[at + 1] = status >>> 8;
  out[at + 2] = kind;
  putUint32(out, at + 3, size);
}

function encodeText(text, out, at) {
  return text === "" ? 0 : encodeInto(text, subarray(out, at)).written;
}

function frame(kind, stream, payload) {
  const whole = new Bytes(HEADER + payload.length);
  putHeader(whole, 0, kind, stream, payload.length);
  setBytes(whole, payload, HEADER);
  return whole;
}

/** Several pieces as one. */
export function joined(pieces, size) {
  if (pieces.length === 1) return pieces[0];
  const whole = new Bytes(size);
  let at = 0;
  for (let i = 0; i < pieces.length; i++) {
    setBytes(whole, pieces[i], at);
    at += pieces[i].length;
  }
  return whole;
}
