// The worker: listens on its socket, gives its permissions back, and runs functions.

import { fetch } from "./fetching.js";
import { closeDoors } from "./doors.js";
import { greet, leave, start } from "./dispatch.js";
import { catchUncaught, makeConsole } from "./logs.js";
import { deno, globals, nextTick } from "./platform.js";
import { Response } from "./responses.js";
import { countPending } from "./watch.js";

const path = deno.args[0];
const listener = deno.listen({ transport: "unix", path });
for (const name of ["read", "write"]) await deno.permissions.revoke({ name, path });
await deno.permissions.revoke({ name: "net" });

deno.addSignalListener("SIGTERM", leave);
deno.addSignalListener("SIGINT", () => {});

countPending();
catchUncaught();
globals.fetch = fetch;
globals.Response = Response;
globals.console = makeConsole();
closeDoors(nextTick);
start(() => deno.exit(0));
accept();

async function accept() {
  try {
    for (;;) greet(await listener.accept());
  } catch {
    // It has been closed: the worker leaves.
  }
}
