// `env`: variables, secrets, and what the function has been granted.

import { host, jsonOf } from "./host.js";
import { admit, hold } from "./watch.js";
import {
  defineProperty,
  indexOf,
  keysOf,
  NativePromise,
  running,
  stringify,
  substring,
} from "./platform.js";
import { ended } from "./ended.js";
import { inTurn } from "./turns.js";

const VERBS = {
  __proto__: null,
  store: ["get", "set", "delete", "list"],
  config: ["get"],
  events: ["publish"],
  broker: ["publish"],
};

/** The `env` of a unit. */
export function bindingsOf(unit, variables, grants) {
  const env = {};
  const names = keysOf(variables);
  for (let i = 0; i < names.length; i++) put(env, names[i], variables[names[i]]);
  for (let i = 0; i < grants.length; i++) {
    const grant = grants[i];
    const at = indexOf(grant, ":");
    const name = at < 0 ? grant : substring(grant, 0, at);
    if (name === "call") env.call = (verb, ...rest) => use(unit, "call", `${verb}`, rest);
    else if (VERBS[name] !== undefined) env[name] = binding(unit, name);
  }
  return env;
}

function binding(unit, name) {
  const verbs = {};
  for (let i = 0; i < VERBS[name].length; i++) {
    const verb = VERBS[name][i];
    verbs[verb] = (...rest) => use(unit, name, verb, rest);
  }
  return verbs;
}

function put(env, name, value) {
  defineProperty(env, name, {
    __proto__: null,
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

/** Use a binding; a promise of what it answers. */
function use(unit, binding, verb, list) {
  const task = running.getStore() ?? unit;
  return hold(
    unit,
    new NativePromise((resolve, reject) => {
      count(task);
      const body = stringify({
        __proto__: null,
        binding,
        verb,
        arguments: list,
        trace: task.trace,
      });
      const again = binding !== "call" && (verb === "get" || verb === "list");
      const turn = inTurn(task, () => {
        host.ask(unit.slot, "call", body, (error, reply) => {
          turn.over();
          if (error !== null) reject(error);
          else resolve(jsonOf(reply));
        }, again);
      });
    }),
  );
}

/** Count a sub-request of a task; raises when there were too many. */
export function count(task) {
  const { unit } = task;
  admit(unit);
  unit.counts.fetches++;
  unit.touch();
  if (++task.asked > unit.limits.fetches) throw ended("fetches", unit.limits);
}
