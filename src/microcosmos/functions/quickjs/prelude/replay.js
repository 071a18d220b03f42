// A world that is the same again: seeded randomness, and a clock that stands still, or goes on by
// a step whenever it is looked at.
(function (inside) {
  'use strict'
  const { part } = inside
  const { Date, Math, Object, Proxy, Reflect, Uint8Array } = globalThis
  const { floor } = Math

  const put = (holder, name, value) =>
    Object.defineProperty(holder, name, { value, writable: true, enumerable: false, configurable: true })

  return (began, step) => {
    let clock = began
    const look = () => {
      const seen = clock
      clock += step
      return seen
    }

    const { fill } = part('crypto')
    const taken = new Uint8Array(8)
    const word = (at) => (taken[at] | (taken[at + 1] << 8) | (taken[at + 2] << 16) | (taken[at + 3] << 24)) >>> 0
    const patches = {
      now() { return floor(look()) },
      random() {
        fill(taken)
        return (word(4) * 0x200000 + (word(0) >>> 11)) / 0x20000000000000
      },
    }
    put(Math, 'random', patches.random)
    put(Date, 'now', patches.now)
    const replayed = new Proxy(Date, {
      __proto__: null,
      construct: (target, given, made) => Reflect.construct(target, given.length === 0 ? [look()] : given, made),
      apply: (target) => new target(look()).toString(),
    })
    put(Date.prototype, 'constructor', replayed)
    put(globalThis, 'Date', replayed)
    put(globalThis, 'performance', { now() { return look() - began }, timeOrigin: began })

    inside.due = (ms, again) => clock + (again && ms < 1 ? 1 : ms)
    inside.reached = (time) => { if (time > clock) clock = time }
  }
})
