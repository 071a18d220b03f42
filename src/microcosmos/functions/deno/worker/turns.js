// How many sub-requests of one request are under way at a time; further ones wait for their turn.

import { nextTick } from "./platform.js";

/** A sub-request of a task, which begins now, or when one before it has been answered. */
class Turn {
  #task;
  #begin;
  #state = "waits";

  constructor(task, begin) {
    this.#task = task;
    this.#begin = begin;
    if (task.under < task.unit.limits.at_once) this.#start();
    else task.queue[task.queue.length] = this;
  }

  #start() {
    this.#state = "runs";
    this.#task.under++;
    this.#begin();
  }

  /** It has been answered. */
  over() {
    const runs = this.#state === "runs";
    this.#state = "over";
    if (runs) Turn.next(this.#task);
  }

  /** Nobody wants its answer any more; who gives up several does so first. */
  cancel() {
    if (this.#state === "runs") nextTick(() => Turn.next(this.#task));
    this.#state = "over";
  }

  static next(task) {
    task.under--;
    const { queue } = task;
    const most = task.unit.limits.at_once;
    let at = 0;
    while (at < queue.length && task.under < most) {
      const turn = queue[at++];
      if (turn.#state === "waits") turn.#start();
    }
    if (at === 0) return;
    const left = [];
    for (let i = at; i < queue.length; i++) left[i - at] = queue[i];
    task.queue = left;
  }
}

/** Let a task begin a sub-request by `begin`, which may be called at once. */
export function inTurn(task, begin) {
  return new Turn(task, begin);
}
