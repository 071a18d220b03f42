// Units: versions of functions that are loaded, and how each form of code is made one.

import { Ended } from "./errors.js";
import { bindingsOf } from "./bindings.js";
import { ALLOWED, importBuiltin } from "./doors.js";
import { notes } from "./notes.js";
import { globals, keysOf, match, now, running, startsWith, stripTypeScriptTypes, Table, vm } from "./platform.js";
import { clearTimers } from "./watch.js";

/** The functions that code in a handler's form answers by, as properties of an object. */
const PICKED = ["handler", "consume", "scheduled"]
  .map((name) => `${name}: typeof ${name} === "function" ? ${name} : null`).join(", ");

/** A version of a function. */
export class Unit {
  constructor(slot, said) {
    this.slot = slot;
    this.key = said.key;
    this.namespace = said.namespace;
    this.name = said.name;
    this.number = said.number;
    this.form = said.form;
    this.main = said.main;
    this.limits = said.limits;
    this.env = bindingsOf(this, said.env ?? {}, said.grants ?? []);
    this.unit = this;
    this.trace = "";
    this.asked = 0;
    this.heap = 0;
    /** What answers requests and events, by name; `request` answers requests. */
    this.handlers = null;
    /** Requests and events under way, by a number. */
    this.tasks = new Table();
    /** Timers, sub-requests and the like that may yet wake something in it. */
    this.pending = 0;
    /** Changes whenever something begins or ends; see `watch.js`. */
    this.turns = 0;
    this.seen = 0;
    this.quiet = 0;
    /** Promises given to `ctx.waitUntil` that have not settled. */
    this.waiting = 0;
    this.patience = 0;
    /** Whether it may wait for things that the worker cannot see. */
    this.opaque = false;
    this.timers = new Table();
    this.dropped = false;
    /** Called when it has been let go of. */
    this.gone = null;
    this.touched = false;
    /** Milliseconds that its code has run since the last notes. */
    this.ran = 0;
    this.counts = zero();
    this.counts.cold_starts = 1;
  }

  /** Whether it has begun something that should end before it is dropped. */
  get busy() {
    return this.tasks.size > 0 || this.waiting > 0 && now() < this.patience;
  }

  /** `ctx.waitUntil` was called: its promise is waited for as long as for an answer. */
  wait() {
    this.waiting++;
    this.patience = now() + this.limits.wall * 1000;
  }

  waited() {
    this.waiting--;
    this.rest();
  }

  /** Let go of it for good, if it is to be dropped and does nothing any more. */
  rest() {
    if (!this.dropped || this.busy) return;
    clearTimers(this);
    this.handlers = null;
    this.gone?.();
  }

  /** Its counts have changed. */
  touch() {
    if (!this.touched) notes.touch(this);
  }

  /** What it has used since this was last asked. */
  taken() {
    const { counts } = this;
    this.counts = zero();
    this.touched = false;
    return counts;
  }
}

function zero() {
  return {
    __proto__: null,
    requests: 0,
    response_bytes: 0,
    execution_ns: 0,
    byte_ms: 0,
    errors: 0,
    cpu_ns: 0,
    fetches: 0,
    cold_starts: 0,
  };
}

/** Run the code of a unit, and find what it answers by. */
export async function load(unit, code, language) {
  const plain = language === "typescript" ? javascript(code) : code;
  unit.handlers = await running.run(unit, forms[unit.form] ?? unknown, unit, plain);
}

function unknown(unit) {
  throw new Error(`there is no form ${unit.form} on this engine`);
}

/** TypeScript without its types: each line stays where it is, where that can be. */
export function javascript(code) {
  try {
    return stripTypeScriptTypes(code);
  } catch (error) {
    if (error?.code !== "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") throw error;
    return stripTypeScriptTypes(code, { mode: "transform" });
  }
}

const forms = {
  __proto__: null,

  async module(unit, code) {
    const module = compiled(unit, code);
    await module.link(linker(unit));
    await module.evaluate();
    const given = module.namespace.default;
    const handlers = typeof given === "function" ? { fetch: given } : given;
    const has = (name) => typeof handlers?.[name] === "function";
    if (!has("fetch") && !has("scheduled") && !has("consume") && !has("queue")) {
      throw new Error("a module answers by `export default { fetch(request, env, ctx) { … } }`; this one has none");
    }
    // Looked up at each run: a framework may have a getter, and its methods need their `this`.
    const method = (name) => has(name) ? (argument, ctx) => handlers[name](argument, unit.env, ctx) : null;
    return {
      __proto__: null,
      request: method("fetch"),
      scheduled: method("scheduled"),
      consume: method("consume"),
      queue: method("queue"),
    };
  },

  handler(unit, code) {
    const { env } = unit;
    const found = scope(unit, code);
    if (found.handler === null && found.consume === null && found.scheduled === null) {
      throw new Error("a handler answers by `function handler(request, env) { … }`; there is none");
    }
    const called = (given) => given === null ? null : (argument) => given(argument, env);
    return {
      __proto__: null,
      request: called(found.handler),
      scheduled: called(found.scheduled),
      consume: called(found.consume),
    };
  },

  script(unit, code) {
    const text = `${code}\n//# sourceURL=${unit.main}`;
    // Compiled to see that it can be; each run has a scope of its own.
    evaluate(`(function () {${text}\n})`);
    const run = completion;
    const request = ({ path }) => {
      globals.path = path;
      globals.env = unit.env;
      return run(path, unit.env, text);
    };
    return { __proto__: null, request };
  },
};

const evaluate = globals.eval;

/** Evaluates a script in a scope with `path` and `env`; its value is that of its last statement. */
const completion = evaluate("(function (path, env) { return eval(arguments[2]); })");

/** Run code in the form of a handler in a function's scope; line numbers stay as they are. */
function scope(unit, code) {
  const text = `(function () {${code}\n;return { ${PICKED} };})\n//# sourceURL=${unit.main}`;
  return evaluate(text)();
}

function compiled(unit, code) {
  const options = { __proto__: null, identifier: unit.main, initializeImportMeta: describeModule };
  // What it is told here the engine keeps when the module is gone, so it is told no more than needed.
  if (match(/\bimport\s*\(/, code) !== null) options.importModuleDynamically = imported;
  return new vm.SourceTextModule(code, options);
}

function imported(specifier) {
  return builtin(running.getStore()?.unit, specifier);
}

function describeModule(meta, module) {
  meta.url = `file:///${module.identifier}`;
  meta.main = true;
}

function linker(unit) {
  return (specifier) => builtin(unit, specifier);
}

/** The few modules of Node that a function may import: those that compute, and reach nothing. */
async function builtin(unit, specifier) {
  const name = startsWith(specifier, "node:") ? specifier : `node:${specifier}`;
  if (ALLOWED[name] !== true) throw new Error(`cannot import "${specifier}": it is not part of the bundle`);
  const namespace = await importBuiltin(name);
  // They may wait in ways that cannot be seen from here.
  if (name !== "node:async_hooks" && name !== "node:buffer" && unit !== undefined) unit.opaque = true;
  const names = keysOf(namespace);
  const module = new vm.SyntheticModule(names, function () {
    for (let i = 0; i < names.length; i++) this.setExport(names[i], namespace[names[i]]);
  }, { identifier: name });
  await module.link(() => {});
  await module.evaluate();
  return module;
}

/** The error of code that cannot be loaded, as an answer. */
export function loadError(unit, error) {
  let text;
  try {
    text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } catch {
    text = "something was thrown that cannot be shown";
  }
  const place = match(/\((?:file:\/\/\/)?([^()\s]+:\d+:\d+)\)|at ([^()\s]+:\d+:\d+)$/m, String(error?.stack ?? ""));
  const at = place?.[1] ?? place?.[2] ?? "";
  const where = startsWith(at, `${unit.main}:`) ? ` (${at})` : "";
  return new Ended(500, "functions.load", `${unit.main} fails when it is loaded: ${text}${where}`);
}
