// How each form of code becomes what answers requests and events.

import { ALLOWED, importBuiltin } from "./doors.js";
import { Ended } from "./errors.js";
import { replayed, replayedCrypto } from "./replay.js";
import {
  globals,
  keysOf,
  match,
  running,
  startsWith,
  stripTypeScriptTypes,
  vm,
} from "./platform.js";

/** The functions that code in a handler's form answers by, as properties of an object. */
const PICKED = ["handler", "consume", "scheduled"]
  .map((name) => `${name}: typeof ${name} === "function" ? ${name} : null`).join(", ");

/** Run the code of a unit, and find what it answers by. */
export async function load(unit, code, language) {
  const plain = language === "typescript" ? javascript(code) : code;
  const form = forms[unit.form] ?? unknown;
  unit.handlers = unit.replay === null
    ? await running.run(unit, form, unit, plain)
    : await replayed(unit, (own) => form(own, plain));
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
      throw new Error(
        "a module answers by `export default { fetch(request, env, ctx) { … } }`; this one has none",
      );
    }
    // Looked up at each run: a framework may have a getter, and its methods need their `this`.
    const method = (name) =>
      has(name) ? (argument, ctx) => handlers[name](argument, unit.env, ctx) : null;
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
  const options = { __proto__: null, identifier: unit.main };
  // What it is told here the engine keeps when the module is gone, so it is told no more than needed.
  if (match(/\bimport\s*\(/, code) !== null) options.importModuleDynamically = imported;
  if (match(/\bimport\s*\.\s*meta\b/, code) !== null) {
    const url = `file:///${unit.main}`;
    options.initializeImportMeta = (meta) => {
      meta.url = url;
      meta.main = true;
    };
  }
  return new vm.SourceTextModule(code, options);
}

function imported(specifier) {
  return builtin(running.getStore()?.unit, specifier);
}

function linker(unit) {
  return (specifier) => builtin(unit, specifier);
}

/** The few modules of Node that a function may import: those that compute, and reach nothing. */
async function builtin(unit, specifier) {
  const name = startsWith(specifier, "node:") ? specifier : `node:${specifier}`;
  if (ALLOWED[name] !== true) {
    throw new Error(`cannot import "${specifier}": it is not part of the bundle`);
  }
  let namespace = await importBuiltin(name);
  if (name === "node:crypto" && unit?.replay) namespace = replayedCrypto(namespace);
  // They may wait in ways that cannot be seen from here.
  if (name !== "node:async_hooks" && name !== "node:buffer" && unit !== undefined) {
    unit.opaque = true;
  }
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
  const place = match(
    /\((?:file:\/\/\/)?([^()\s]+:\d+:\d+)\)|at ([^()\s]+:\d+:\d+)$/m,
    String(error?.stack ?? ""),
  );
  const at = place?.[1] ?? place?.[2] ?? "";
  const where = startsWith(at, `${unit.main}:`) ? ` (${at})` : "";
  return new Ended(500, "functions.load", `${unit.main} fails when it is loaded: ${text}${where}`);
}
