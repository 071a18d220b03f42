// What the worker needs of JavaScript and of Deno, taken before any function runs.
//
// Functions share this realm and may patch whatever they see: `Map.prototype.get`, `JSON.parse`,
// `Object.prototype`. So nothing here looks a method up when it is used; `uncurry(method)` makes
// it a plain function, and `Table` is a Map that keeps methods of its own.

import { AsyncLocalStorage } from "node:async_hooks";
import { registerHooks, stripTypeScriptTypes } from "node:module";
import process from "node:process";
import { formatWithOptions } from "node:util";
import * as vm from "node:vm";

export { formatWithOptions, registerHooks, stripTypeScriptTypes, vm };

const { bind, call } = Function.prototype;
export const uncurry = bind.bind(call);

const { prototype: bytes } = Object.getPrototypeOf(Uint8Array);

export const deno = Deno;
export const { parse, stringify } = JSON;

/** What `limits.py` says. */
export const limits = parse(deno.args[1]);

export const { create, defineProperty, freeze, keys: keysOf, setPrototypeOf } = Object;
export const { apply, construct } = Reflect;
export const { isView } = ArrayBuffer;
export const { floor, max, min, round } = Math;
export const globals = globalThis;
export const asyncIterator = Symbol.asyncIterator;

export const nextTick = process.nextTick.bind(process);
export const now = performance.now.bind(performance);
export const date = Date.now;
export const setTimer = globalThis.setTimeout;
export const clearTimer = globalThis.clearTimeout;
export const setTicker = globalThis.setInterval;
export const clearTicker = globalThis.clearInterval;

export const Bytes = Uint8Array;
export const subarray = uncurry(bytes.subarray);
export const slice = uncurry(bytes.slice);
export const setBytes = uncurry(bytes.set);
export const moveBytes = uncurry(bytes.copyWithin);
export const toBase64 = uncurry(Uint8Array.prototype.toBase64);

export const indexOf = uncurry(String.prototype.indexOf);
export const substring = uncurry(String.prototype.substring);
export const lower = uncurry(String.prototype.toLowerCase);
export const startsWith = uncurry(String.prototype.startsWith);
export const trimStart = uncurry(String.prototype.trimStart);
export const toWellFormed = uncurry(String.prototype.toWellFormed);
export const match = uncurry(RegExp.prototype.exec);

export const then = uncurry(Promise.prototype.then);
export const NativePromise = Promise;
const isPrototype = uncurry(Object.prototype.isPrototypeOf);
const promises = Promise.prototype;

/** Whether a value is a promise of the engine, or something like one. */
export function isPromise(value) {
  return typeof value === "object" && value !== null &&
    (isPrototype(promises, value) || typeof value.then === "function");
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const strict = new TextDecoder("utf-8", { ignoreBOM: true });
export const encode = TextEncoder.prototype.encode.bind(encoder);
export const encodeInto = TextEncoder.prototype.encodeInto.bind(encoder);
export const decodeBody = TextDecoder.prototype.decode.bind(decoder);
export const decode = TextDecoder.prototype.decode.bind(strict);

/** A Map whose methods nobody else can change. */
export class Table extends Map {}
for (const name of ["get", "set", "has", "delete", "clear", "values", "keys", "forEach"]) {
  Table.prototype[name] = Map.prototype[name];
}
defineProperty(
  Table.prototype,
  "size",
  Object.getOwnPropertyDescriptor(Map.prototype, "size"),
);
freeze(Table.prototype);

const nextOf = uncurry(Object.getPrototypeOf(new Map().keys()).next);

/** The oldest key of a table. */
export function firstKey(table) {
  return nextOf(table.keys()).value;
}

/** Call with each value of a table, which may lose them meanwhile; stops where that gives false. */
export function eachValue(table, visit) {
  const values = table.values();
  for (let step = nextOf(values); !step.done; step = nextOf(values)) {
    if (visit(step.value) === false) break;
  }
}

/** What runs now: the `Task` of a request, or the `Unit` that is being loaded. */
export const running = new AsyncLocalStorage();
// Functions may have node:async_hooks, too: what they patch there is not to be called with this.
for (const name of ["getStore", "run"]) {
  defineProperty(running, name, { value: AsyncLocalStorage.prototype[name].bind(running) });
}

/** The getter of a property of a prototype, as a plain function. */
export function getter(prototype, name) {
  return uncurry(Object.getOwnPropertyDescriptor(prototype, name).get);
}
