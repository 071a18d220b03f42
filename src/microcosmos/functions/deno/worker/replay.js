// Replay: each request in a world that is the same again, as of `functions/replay.py`.
//
// Functions share this realm, so the engine's own sources of randomness and time are replaced by
// some that look whose turn it is: once, when something is first loaded to be replayed.

import { bindingsOf } from "./bindings.js";
import {
  apply,
  Bytes,
  construct,
  defineProperty,
  encode,
  floor,
  globals,
  running,
  setTimer,
  substring,
  Table,
  uncurry,
} from "./platform.js";
import { logOf } from "./logs.js";
import { described } from "./errors.js";
import { admit, begin, finish } from "./watch.js";

const { AbortController, Date, DOMException, Performance, Proxy, Temporal, Uint32Array } = globals;
const { setImmediate } = globals;
const { isView } = ArrayBuffer;
const digest = globals.crypto.subtle.digest.bind(globals.crypto.subtle);
const toHex = uncurry(Bytes.prototype.toHex);
const dateText = uncurry(Date.prototype.toString);
const ownKeys = Reflect.ownKeys;
const descriptorOf = Object.getOwnPropertyDescriptor;

/** Milliseconds between looks whether something is still to come that is no timer. */
const LOOK = 1;

const LONGEST = 2 ** 31 - 1;

/** The key of a seed's stream, a promise. */
async function keyOf(seed) {
  return new Uint32Array(await digest("SHA-256", encode(seed)));
}

/** ChaCha20 (RFC 8439) with a nonce of zeros. */
class Randomness {
  #state = new Uint32Array(16);
  #block = new Uint32Array(16);
  #bytes = new Bytes(this.#block.buffer);
  #left = 0;

  constructor(key) {
    const state = this.#state;
    state[0] = 0x61707865;
    state[1] = 0x3320646e;
    state[2] = 0x79622d32;
    state[3] = 0x6b206574;
    for (let i = 0; i < 8; i++) state[4 + i] = key[i];
  }

  fill(bytes) {
    for (let i = 0; i < bytes.length; i++) {
      if (this.#left === 0) this.#refill();
      bytes[i] = this.#bytes[64 - this.#left--];
    }
  }

  #refill() {
    const block = this.#block;
    const state = this.#state;
    for (let i = 0; i < 16; i++) block[i] = state[i];
    for (let i = 0; i < 10; i++) {
      quarter(block, 0, 4, 8, 12);
      quarter(block, 1, 5, 9, 13);
      quarter(block, 2, 6, 10, 14);
      quarter(block, 3, 7, 11, 15);
      quarter(block, 0, 5, 10, 15);
      quarter(block, 1, 6, 11, 12);
      quarter(block, 2, 7, 8, 13);
      quarter(block, 3, 4, 9, 14);
    }
    for (let i = 0; i < 16; i++) block[i] += state[i];
    if (++state[12] === 0) ++state[13];
    this.#left = 64;
  }
}

function quarter(block, a, b, c, d) {
  turn(block, a, b, d, 16);
  turn(block, c, d, b, 12);
  turn(block, a, b, d, 8);
  turn(block, c, d, b, 7);
}

function turn(block, a, b, c, bits) {
  block[a] += block[b];
  const mixed = block[c] ^ block[a];
  block[c] = mixed << bits | mixed >>> (32 - bits);
}

/** What one request sees of randomness and of time. */
class World {
  #clock;
  #step;
  #random;
  #eight = new Bytes(8);
  #timers = new Table();
  #serial = 0;
  #looking = false;
  #task;

  constructor(replay, key, task) {
    this.began = this.#clock = replay.clock ?? 0;
    this.#step = replay.step ?? 0;
    this.#random = new Randomness(key);
    this.#task = task;
  }

  look() {
    const seen = this.#clock;
    this.#clock += this.#step;
    return seen;
  }

  fill(bytes) {
    this.#random.fill(bytes);
  }

  random() {
    const eight = this.#eight;
    this.fill(eight);
    const word = (at) =>
      (eight[at] | eight[at + 1] << 8 | eight[at + 2] << 16 | eight[at + 3] << 24) >>> 0;
    return (word(4) * 0x200000 + (word(0) >>> 11)) / 0x20000000000000;
  }

  /** A timer, due when all that comes before it is done; gives its number. */
  timer(callback, ms, given, again) {
    const { unit } = this.#task;
    admit(unit);
    const id = ++this.#serial;
    this.#set({ id, callback, ms, given, again, order: 0, due: 0 });
    begin(unit);
    unit.timeless = (unit.timeless ?? 0) + 1;
    this.#soon();
    return id;
  }

  clear(id) {
    if (!this.#timers.delete(id)) return;
    const { unit } = this.#task;
    unit.timeless--;
    finish(unit);
  }

  #set(timer) {
    timer.order = ++this.#serial;
    timer.due = this.#clock + (timer.again && timer.ms < 1 ? 1 : timer.ms);
    this.#timers.set(timer.id, timer);
  }

  #soon(wait = 0) {
    if (this.#looking || this.#timers.size === 0) return;
    this.#looking = true;
    const next = () => this.#next();
    if (wait > 0) setTimer(next, wait);
    else setImmediate(next);
  }

  #next() {
    this.#looking = false;
    const { unit, number } = this.#task;
    // Timers are for an answer: those that are left when it is given are dropped.
    if (!unit.tasks.has(number) && unit.waiting === 0) return this.#drop();
    if (unit.pending > unit.timeless) return this.#soon(LOOK);
    const timer = this.#first();
    if (timer === undefined) return;
    if (timer.due > this.#clock) this.#clock = timer.due;
    if (timer.again) this.#set(timer);
    else this.clear(timer.id);
    this.#soon();
    try {
      apply(timer.callback, globals, timer.given);
    } catch (error) {
      logOf(this.#task, "error", `Uncaught ${described(error)}`);
    }
  }

  #first() {
    let first;
    this.#timers.forEach((timer) => {
      if (
        first === undefined || timer.due < first.due ||
        timer.due === first.due && timer.order < first.order
      ) first = timer;
    });
    return first;
  }

  #drop() {
    this.#timers.forEach((timer) => this.clear(timer.id));
  }
}

/**
 * The handlers of a unit whose world begins anew with each request; a promise.
 *
 * @param made gives the handlers of a unit, whose code it runs.
 */
export async function replayed(unit, made) {
  const key = await keyOf(unit.replay.seed ?? "");
  install();
  const first = { __proto__: unit, tasks: new Table(), number: 0 };
  first.world = new World(unit.replay, key, first);
  const found = await running.run(first, made, fresh(unit));
  const again = (name) => found[name] && ((argument, ctx) => once(unit, key, made, name, argument, ctx));
  return {
    __proto__: null,
    request: again("request"),
    scheduled: again("scheduled"),
    consume: again("consume"),
    queue: again("queue"),
  };
}

/** A unit as its code has not changed it. */
function fresh(unit) {
  const { env, grants } = unit.given;
  return { __proto__: unit, env: bindingsOf(unit, env ?? {}, grants ?? []) };
}

async function once(unit, key, made, name, argument, ctx) {
  const task = running.getStore();
  if (unit.tasks.size === 1) tidy();
  task.world = new World(unit.replay, key, task);
  const own = fresh(unit);
  const handlers = await made(own);
  if (own.opaque) unit.opaque = true;
  return await handlers[name](argument, ctx);
}

// The global object, which a request may have left things in.

let baseline = null;

/** Put the global object back, as far as that can be. */
function tidy() {
  const names = ownKeys(globals);
  for (let i = 0; i < names.length; i++) {
    // Node's modules see an engine of their own while they are being imported.
    if (!baseline.has(names[i]) && names[i] !== "Deno") delete globals[names[i]];
  }
  baseline.forEach((was, name) => {
    const now = descriptorOf(globals, name);
    if (now === undefined || "value" in was && now.value !== was.value) {
      try {
        defineProperty(globals, name, was);
      } catch {
        // It is not to be changed, so it is as it was.
      }
    }
  });
}

// What looks whose turn it is.

function world() {
  return running.getStore()?.world;
}

function put(holder, name, value) {
  defineProperty(value, "name", { value: name });
  defineProperty(holder, name, {
    value,
    writable: true,
    configurable: true,
    enumerable: descriptorOf(holder, name)?.enumerable ?? false,
  });
}

function install() {
  if (baseline !== null) return;
  const { random } = Math;
  put(Math, "random", () => world()?.random() ?? random());
  seeCrypto();
  seeTime();
  seeTimers();
  baseline = new Table();
  const names = ownKeys(globals);
  for (let i = 0; i < names.length; i++) baseline.set(names[i], descriptorOf(globals, names[i]));
}

function seeCrypto() {
  const { prototype } = globals.Crypto;
  const { getRandomValues, randomUUID } = prototype;
  put(prototype, "getRandomValues", function (array) {
    const here = world();
    if (here === undefined) return apply(getRandomValues, this, [array]);
    // Refused is what the engine refuses, and what it fills is filled once more.
    apply(getRandomValues, this, arguments);
    if (isView(array)) here.fill(new Bytes(array.buffer, array.byteOffset, array.byteLength));
    return array;
  });
  put(prototype, "randomUUID", function () {
    const here = world();
    return here === undefined ? apply(randomUUID, this, []) : uuid(here);
  });
}

function uuid(here) {
  const bytes = new Bytes(16);
  here.fill(bytes);
  bytes[6] = bytes[6] & 0x0f | 0x40;
  bytes[8] = bytes[8] & 0x3f | 0x80;
  const hex = toHex(bytes);
  const part = (from, to) => substring(hex, from, to);
  return `${part(0, 8)}-${part(8, 12)}-${part(12, 16)}-${part(16, 20)}-${part(20, 32)}`;
}

/** Node's module, with the randomness of whose turn it is. */
export function replayedCrypto(native) {
  const Buffer = native.createHash("md5").digest().constructor;
  const randomFillSync = (buffer, offset = 0, size = buffer.byteLength - offset) => {
    world()?.fill(new Bytes(buffer.buffer ?? buffer, (buffer.byteOffset ?? 0) + offset, size));
    return buffer;
  };
  const called = (make) => (...given) => {
    const callback = given[given.length - 1];
    if (typeof callback !== "function") return make(...given);
    given.length--;
    globals.setTimeout(callback, 0, null, make(...given));
  };
  const seen = {
    getRandomValues: (array) => globals.crypto.getRandomValues(array),
    randomBytes: called((size) => randomFillSync(Buffer.alloc(size))),
    randomFill: called(randomFillSync),
    randomFillSync,
    randomInt: called((first, last) => {
      const [least, below] = last === undefined ? [0, first] : [first, last];
      return least + floor((world()?.random() ?? 0) * (below - least));
    }),
    randomUUID: () => globals.crypto.randomUUID(),
  };
  return { ...native, ...seen, default: { ...native.default, ...seen } };
}

function seeTime() {
  const native = Date.now;
  put(Date, "now", () => {
    const here = world();
    return here === undefined ? native() : floor(here.look());
  });
  const seen = new Proxy(Date, {
    __proto__: null,
    construct(target, given, made) {
      const here = given.length === 0 ? world() : undefined;
      return construct(target, here === undefined ? given : [here.look()], made);
    },
    apply(target) {
      const here = world();
      return here === undefined ? target() : dateText(new target(here.look()));
    },
  });
  defineProperty(Date.prototype, "constructor", { value: seen, writable: true, configurable: true });
  defineProperty(globals, "Date", { value: seen, writable: true, configurable: true });

  const { now } = Performance.prototype;
  put(Performance.prototype, "now", function () {
    const here = world();
    return here === undefined ? apply(now, this, []) : here.look() - here.began;
  });
  const { get } = descriptorOf(Performance.prototype, "timeOrigin");
  defineProperty(Performance.prototype, "timeOrigin", {
    get() {
      return world()?.began ?? apply(get, this, []);
    },
    configurable: true,
    enumerable: true,
  });
  seeTemporal();
  for (const name of ["format", "formatToParts"]) seeFormats(name);
}

function seeTemporal() {
  const { Now, Instant } = Temporal ?? {};
  if (Now === undefined) return;
  const natives = { ...Object.getOwnPropertyDescriptors(Now) };
  const instant = (here) => Instant.fromEpochMilliseconds(floor(here.look()));
  const at = (here, zone) => instant(here).toZonedDateTimeISO(zone ?? Now.timeZoneId());
  const seen = {
    instant,
    zonedDateTimeISO: at,
    plainDateTimeISO: (here, zone) => at(here, zone).toPlainDateTime(),
    plainDateISO: (here, zone) => at(here, zone).toPlainDate(),
    plainTimeISO: (here, zone) => at(here, zone).toPlainTime(),
  };
  for (const name of Object.keys(seen)) {
    const native = natives[name].value;
    put(Now, name, function (zone) {
      const here = world();
      return here === undefined ? apply(native, Now, arguments) : seen[name](here, zone);
    });
  }
}

/** Without a date they tell the time. */
function seeFormats(name) {
  const { prototype } = globals.Intl.DateTimeFormat;
  const native = descriptorOf(prototype, name);
  const dated = (given, format) => {
    const here = given[0] === undefined ? world() : undefined;
    return here === undefined ? format(...given) : format(here.look());
  };
  if (native.get === undefined) {
    put(prototype, name, function () {
      return dated(arguments, (...given) => apply(native.value, this, given));
    });
  } else {
    const { get } = native;
    defineProperty(prototype, name, {
      ...native,
      get() {
        const format = apply(get, this, []);
        return (...given) => dated(given, format);
      },
    });
  }
}

function seeTimers() {
  const { AbortSignal } = globals;
  for (const [name, again] of [["setTimeout", false], ["setInterval", true]]) {
    const native = globals[name];
    put(globals, name, function (callback, ms, ...given) {
      const here = world();
      if (here === undefined) return apply(native, globals, arguments);
      if (typeof callback !== "function") throw new TypeError("a timer wants a function");
      const delay = +ms > 0 ? (+ms < LONGEST ? +ms : LONGEST) : 0;
      return here.timer(callback, delay, given, again);
    });
  }
  for (const name of ["clearTimeout", "clearInterval"]) {
    const native = globals[name];
    put(globals, name, function (id) {
      const here = world();
      if (here === undefined) apply(native, globals, arguments);
      else here.clear(id);
    });
  }
  const { timeout } = AbortSignal;
  put(AbortSignal, "timeout", function (ms) {
    const here = world();
    if (here === undefined) return apply(timeout, AbortSignal, arguments);
    const controller = new AbortController();
    const late = () => controller.abort(new DOMException("Signal timed out.", "TimeoutError"));
    here.timer(late, +ms, [], false);
    return controller.signal;
  });
}
