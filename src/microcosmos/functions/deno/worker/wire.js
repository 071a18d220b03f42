// What is said on a line: `rpc.frames` and `functions.wire`, in JavaScript.

export const REQUEST = 1;
export const REPLY = 2;
export const ERROR = 3;
export const CANCEL = 4;
export const OPEN = 5;
export const ITEM = 6;
export const END = 7;
export const GRANT = 8;
export const BEAT = 9;
export const GOAWAY = 10;
export const DATA = 11;

/** The bit of a frame's kind that says that DATA follows. */
export const MORE = 0x80;

/** Bytes before a frame's payload: its length, its kind, its stream. */
export const HEADER = 9;

/** Bytes of a payload above which a message is cut. */
export const CHUNK = 64 * 1024;

/** Bytes before the head of a request: slot, length of the head. */
export const REQUEST_HEAD = 8;

/** Bytes before the head of an answer: status, kind of the body, length of the head. */
export const REPLY_HEAD = 7;

/** Streams with numbers from here on were begun by the worker. */
export const ASKED = 2 ** 31;

/** Bytes of a body that may be sent before a GRANT. */
export const WINDOW = 256 * 1024;

export const TEXT = 0;
export const HTML = 1;
export const JSON_BODY = 2;
export const BINARY = 3;
export const GIVEN = 4;

/** The bit of a body's kind that says that the body follows in ITEMs. */
export const STREAMED = 0x80;

/** The 32 bits that begin somewhere, lowest byte first. */
export function uint32(bytes, at) {
  return (bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24) >>> 0;
}

export function putUint32(bytes, at, value) {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}
