// What functions do not find in their process, and the little of Node that they do.

import { defineProperty, deno, freeze, globals, registerHooks, Table } from "./platform.js";

/** Modules of Node that compute, and reach nothing. */
export const ALLOWED = freeze({
  __proto__: null,
  "node:assert": true,
  "node:async_hooks": true,
  "node:buffer": true,
  "node:crypto": true,
  "node:diagnostics_channel": true,
  "node:events": true,
  "node:path": true,
  "node:punycode": true,
  "node:querystring": true,
  "node:stream": true,
  "node:stream/web": true,
  "node:string_decoder": true,
  "node:url": true,
  "node:util": true,
  "node:util/types": true,
  "node:zlib": true,
});

// The engine's own doors; what would end, block or fork the process; what keeps things in the
// process or on the disk for other functions to find; what would have to reach the network.
const CLOSED = [
  "Deno",
  "Worker",
  "close",
  "closed",
  "alert",
  "confirm",
  "prompt",
  "caches",
  "Cache",
  "CacheStorage",
  "localStorage",
  "sessionStorage",
  "Storage",
  "BroadcastChannel",
  "WebSocket",
  "WebSocketStream",
  "EventSource",
  "Window",
  "window",
  "location",
  "Location",
  "name",
  "global",
  "setImmediate",
  "clearImmediate",
  "onload",
  "onunload",
  "onbeforeunload",
  "onerror",
  "onunhandledrejection",
];

/** What Node's modules read of the engine when they are first looked at. */
const STAND_IN = freeze({ __proto__: null, build: deno.build, version: deno.version });

let importing = 0;

/** One of Node's modules that functions may have; a promise of its namespace. */
export async function importBuiltin(name) {
  importing++;
  globals.Deno = STAND_IN;
  try {
    return await import(name);
  } finally {
    if (--importing === 0) delete globals.Deno;
  }
}

/** Close them; call this once, when the worker has what it needs. */
export function closeDoors(nextTick) {
  for (const name of CLOSED) delete globals[name];
  for (const name of Object.getOwnPropertyNames(globals)) {
    if (name.startsWith("GPU")) delete globals[name];
  }
  if (globals.navigator) delete Object.getPrototypeOf(globals.navigator).gpu;
  // What is added to these is seen in every object of every function: `toJSON`, `then`.
  Object.preventExtensions(Object.prototype);
  Object.preventExtensions(Array.prototype);
  // The engine's own reading and writing goes through these; a function that patches them would
  // end the process for all.
  for (const name of ["call", "apply", "bind"]) {
    defineProperty(Function.prototype, name, { writable: false, configurable: false });
  }
  // Who awaits a promise goes by this, and only then by what `then` has been made into.
  defineProperty(Promise.prototype, "constructor", { writable: false, configurable: false });
  // They stop the whole process, which uses no processor meanwhile.
  for (const name of ["wait", "waitAsync"]) delete Atomics[name];
  registerHooks({ resolve: onlyAllowed });
  // Libraries ask it whether this is production; of the real one, nothing is to be reached.
  globals.process = { env: { NODE_ENV: "production" }, nextTick };
}

const admitted = new Table();

/** Let the worker import a module of its own, until `dismiss`. */
export function admit(url) {
  admitted.set(url, true);
}

export function dismiss(url) {
  admitted.delete(url);
}

/**
 * Refuse every `import()` but those of the modules above: of code that was evaluated, the engine
 * takes it for the worker's own, to which nothing is closed, these files included.
 */
function onlyAllowed(specifier, context, next) {
  if (ALLOWED[specifier] === true || admitted.has(specifier)) return next(specifier, context);
  throw new Error(`cannot import "${specifier}": it is not part of the bundle`);
}
