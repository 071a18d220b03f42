// Bodies that come, as streams of the web platform.

import { globals } from "./platform.js";
import { begin, finish } from "./watch.js";

const { ReadableStream } = globals;

/** The stream of what comes for a unit. */
export function streamOf(unit, inflow) {
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      begin(unit);
      try {
        const part = await inflow.next();
        if (part === null) {
          controller.close();
          controller.byobRequest?.respond(0);
        } else {
          controller.enqueue(part);
        }
      } finally {
        finish(unit);
      }
    },
    cancel() {
      inflow.cancel();
    },
  });
}
