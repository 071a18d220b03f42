// Timers: each is an operation of the worker's.
(function (inside) {
  'use strict'
  const { ask, forget } = inside
  const { TypeError, Math, Number } = globalThis

  const delay = (ms) => Math.min(Math.max(Number(ms) || 0, 0), 2147483647)
  const callable = (run) => {
    if (typeof run !== 'function') throw new TypeError('a timer wants a function')
  }
  const running = new Map()
  let names = 0

  function begin(run, ms, given, again) {
    callable(run)
    const name = ++names
    const wait = () => {
      const due = inside.due(delay(ms), again)
      running.set(name, ask('t', ',' + due, () => {
        inside.reached(due)
        if (again) wait()
        else running.delete(name)
        run(...given)
      }))
    }
    wait()
    return name
  }
  function end(name) {
    if (!running.has(name)) return
    forget(running.get(name))
    running.delete(name)
  }
  return {
    setTimeout(run, ms, ...given) { return begin(run, ms, given, false) },
    setInterval(run, ms, ...given) { return begin(run, ms, given, true) },
    clearTimeout(name) { end(name) },
    clearInterval(name) { end(name) },
  }
})
