// An answer that came on a line.

import { decode, parse, slice, subarray } from "./platform.js";
import { REPLY_HEAD, uint32 } from "./wire.js";

/** The status, kind, headers (pairs) and body of the payload of a REPLY. */
export function replyOf(payload) {
  const end = REPLY_HEAD + uint32(payload, 3);
  return {
    status: payload[0] | payload[1] << 8,
    kind: payload[2],
    headers: end === REPLY_HEAD ? [] : parse(decode(subarray(payload, REPLY_HEAD, end))),
    body: slice(payload, end),
    inflow: null,
  };
}
