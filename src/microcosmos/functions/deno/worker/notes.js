// What the worker tells the host: logs and counts, in notes that are kept until they are answered.

import {
  date,
  deno,
  eachValue,
  floor,
  limits,
  round,
  setTimer,
  stringify,
  substring,
  Table,
  toWellFormed,
} from "./platform.js";

/** Milliseconds after which something new is told. */
const SOON = 200;

const { logLine: LONGEST, logLines: LINES, noteLine: EACH, noteRoom: ROOM } = limits;

class Notes {
  #logs = new Table();
  #room = ROOM;
  #touched = new Table();
  #sequence = 0;
  #sent = null;
  #timer = false;
  #cpu = 0;
  #tell = null;
  #units;

  /** @param units the units that are loaded, by slot. */
  begin(units) {
    this.#units = units;
    this.#cpu = cpu();
  }

  /** Tell by this from now on: called with the JSON of notes, and what is to be called when they are known. */
  by(tell) {
    this.#tell = tell;
    if (tell !== null && this.#sent !== null) this.#say();
    else this.#wake();
  }

  /** Keep a line of a log. */
  log(slot, level, text, trace) {
    let log = this.#logs.get(slot);
    if (log === undefined) {
      this.#logs.set(slot, log = { slot, trace, lines: [], lost: 0 });
    }
    if (log.lines.length < LINES && this.#room > 0) {
      const more = text.length - LONGEST;
      const cut = more > 0 ? `${substring(text, 0, LONGEST)}… (${more} more characters)` : text;
      this.#room -= cut.length + EACH;
      log.lines[log.lines.length] = line(slot, level, cut, trace);
    } else {
      log.lost++;
    }
    this.#wake();
  }

  /** The counts of a unit have changed. */
  touch(unit) {
    if (unit.touched) return;
    unit.touched = true;
    this.#touched.set(unit.slot, unit);
    this.#wake();
  }

  /** Whether everything has been told. */
  get told() {
    return this.#sent === null && this.#logs.size === 0 && this.#touched.size === 0;
  }

  /** Tell what there is now. */
  flush() {
    if (this.#tell === null || this.#sent !== null || this.told) return;
    this.#sent = this.#gather();
    this.#say();
  }

  #wake() {
    if (this.#timer || this.#tell === null) return;
    this.#timer = true;
    setTimer(() => {
      this.#timer = false;
      this.flush();
    }, SOON);
  }

  #say() {
    const sent = this.#sent;
    this.#tell(sent, () => {
      if (this.#sent !== sent) return;
      this.#sent = null;
      if (!this.told) this.#wake();
    });
  }

  #gather() {
    const lines = this.#lines();
    const touched = this.#touched;
    this.#touched = new Table();
    const counts = { __proto__: null };
    this.#share(touched, counts);
    return stringify({
      __proto__: null,
      sequence: ++this.#sequence,
      lines,
      counts,
      heaps: this.#heaps(),
    });
  }

  #lines() {
    const lines = [];
    eachValue(this.#logs, (log) => {
      const { slot, trace } = log;
      if (log.lost > 0) {
        const text = `${log.lost} more lines were dropped: too many at once`;
        log.lines[log.lines.length] = line(slot, "warn", text, trace);
      }
      for (let i = 0; i < log.lines.length; i++) lines[lines.length] = log.lines[i];
    });
    this.#logs = new Table();
    this.#room = ROOM;
    return lines;
  }

  /** Divide the processor's time since the last notes, and the heap, among units by how long they ran. */
  #share(touched, counts) {
    if (touched.size === 0) return;
    const used = cpu();
    const spent = used - this.#cpu;
    const heap = deno.memoryUsage().heapUsed;
    this.#cpu = used;
    let ran = 0;
    eachValue(touched, (unit) => {
      ran += unit.ran;
    });
    eachValue(touched, (unit) => {
      const part = ran > 0 ? unit.ran / ran : 1 / touched.size;
      unit.ran = 0;
      unit.counts.cpu_ns += round(spent * 1000 * part);
      counts[unit.slot] = unit.taken(round(heap * part));
    });
  }

  /** The heap is one: each unit has the same part of it. */
  #heaps() {
    const heaps = { __proto__: null };
    const each = heapOfEach(this.#units.size);
    eachValue(this.#units, (unit) => {
      unit.heap = each;
      heaps[unit.slot] = each;
    });
    return heaps;
  }
}

function line(slot, level, said, trace) {
  // Half of a surrogate pair is no text that can be told, and nor could be all that goes with it.
  const text = toWellFormed(said);
  return { __proto__: null, slot, level, text, time: date() / 1000, trace };
}

/** Bytes of the heap that each of so many units has. */
export function heapOfEach(units) {
  return units === 0 ? 0 : floor(deno.memoryUsage().heapUsed / units);
}

function cpu() {
  const { user, system } = deno.cpuUsage();
  return user + system;
}

export const notes = new Notes();
