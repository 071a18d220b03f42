// What a function's context begins with: how it is run, and how it asks. Evaluates to a function
// that gives the entries of the worker by name.
//
// Nothing of the host's can be called from here. What is asked for is queued as JSON and taken by
// the worker after each turn; it comes back by `settle`. What user code may patch is never called
// after user code has run: private references are taken first, and queues have no prototype.
(function (LIMITS, NAMES, PARTS) {
  'use strict'
  const global = globalThis
  const { Error, TypeError, RangeError, InternalError, Promise, String, Symbol, WeakMap } = global
  const { Array, ArrayBuffer, Function, JSON, Object, Reflect, Uint8Array } = global
  const { btoa, decodeURIComponent, encodeURIComponent, unescape } = global
  const { parse, stringify } = JSON
  const { create, defineProperty, setPrototypeOf } = Object
  const { isView } = ArrayBuffer
  const { call } = Function.prototype
  const uncurried = call.bind.bind(call)
  const flat = uncurried(String.prototype.toWellFormed)
  const join = uncurried(Array.prototype.join)
  const indexOf = uncurried(String.prototype.indexOf)
  const repeat = uncurried(String.prototype.repeat)
  const slice = uncurried(String.prototype.slice)
  const split = uncurried(String.prototype.split)
  const charCodeAt = uncurried(String.prototype.charCodeAt)
  const toBase64 = uncurried(Uint8Array.prototype.toBase64)
  const { fromBase64 } = Uint8Array
  const evaluate = eval
  const OPERATIONS = LIMITS.operations
  const LINES = LIMITS.lines

  // What is called from here is nobody's to call again: a trace tells names and places, no functions.
  const { prepareStackTrace } = Error
  Error.prepareStackTrace = (error, frames) => frames
  const frame = Object.getPrototypeOf(new Error().stack[0])
  Error.prepareStackTrace = prepareStackTrace
  delete frame.getFunction
  delete frame.getThis

  const bare = (array) => setPrototypeOf(array, null)

  // Queue of what is asked for, as JSON texts.
  let asked = bare([])
  // The first answer of a turn goes as it is, as JSON in JSON would take long.
  let first
  let lines = 0
  let lost = 0
  let last = ''
  let current = 0
  let numbers = 0
  let waiting = 0
  let settling = create(null)

  const emit = (text) => { asked[asked.length] = text }

  // Ask the worker for something; `then(ok, …)` gets what it says.
  function ask(word, rest, then) {
    if (waiting >= OPERATIONS) throw new RangeError('more than ' + OPERATIONS + ' operations are under way')
    const number = ++numbers
    waiting++
    settling[number] = { __proto__: null, request: current, then }
    emit('["' + word + '",' + number + ',' + current + rest + ']')
    return number
  }

  function forget(number) {
    if (settling[number] === undefined) return
    delete settling[number]
    waiting--
    emit('["x",' + number + ']')
  }

  const promised = (word, rest, made) =>
    new Promise((resolve, reject) => {
      ask(word, rest, (ok, a, b, c, d, e) => {
        if (!ok) reject(failure(a, b, c, d))
        else {
          try { resolve(made(a, b, c, d, e)) } catch (error) { reject(error) }
        }
      })
    })

  // An error that the platform gave: has code, id, detail and status.
  const given = new WeakMap()
  const givenSet = uncurried(WeakMap.prototype.set)
  const givenGet = uncurried(WeakMap.prototype.get)
  const givenHas = uncurried(WeakMap.prototype.has)
  function failure(id, code, detail, status) {
    const error = new Error(detail || status || id)
    error.id = id
    error.code = code
    error.detail = detail
    error.status = status
    givenSet(given, error, id)
    return error
  }

  // Parts of the platform that are evaluated when they are first looked at: PARTS is their texts.
  const parts = create(null)
  function part(name) {
    if (parts[name] === undefined) {
      const { begin, end } = LIMITS.parts[name]
      const text = slice(PARTS, begin, end)
      parts[name] = evaluate(repeat('\n', LIMITS.below) + text)(inside)
    }
    return parts[name]
  }
  function lazy(holder, name, chunk) {
    defineProperty(holder, name, {
      configurable: true,
      get() {
        const value = part(chunk)[name]
        defineProperty(holder, name, { value, configurable: true, writable: true })
        return value
      },
      set(value) {
        defineProperty(holder, name, { value, configurable: true, writable: true, enumerable: true })
      },
    })
  }

  // Bytes and texts.
  function encoded(text) {
    const whole = flat(text)
    for (let at = 0; at < whole.length; at++) {
      if (charCodeAt(whole, at) > 127) return fromBase64(btoa(unescape(encodeURIComponent(whole))))
    }
    return fromBase64(btoa(whole))
  }
  function viewed(value) {
    if (isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    return value instanceof ArrayBuffer ? new Uint8Array(value) : undefined
  }
  const unmarked = (text) => (charCodeAt(text, 0) === 0xfeff ? slice(text, 1) : text)

  // Names and values of a query: the first value, or all in a list.
  const spaced = (text) => {
    const plain = join(split(text, '+'), ' ')
    if (indexOf(plain, '%') < 0) return plain
    try {
      return decodeURIComponent(plain)
    } catch {
      return part('encoding').decode(part('encoding').unpercented(plain))
    }
  }
  function queried(url) {
    const query = create(null)
    const begin = indexOf(url, '?')
    if (begin < 0) return query
    const fragment = indexOf(url, '#', begin)
    const pairs = split(slice(url, begin + 1, fragment < 0 ? undefined : fragment), '&')
    for (let at = 0; at < pairs.length; at++) {
      const pair = pairs[at]
      if (pair === '') continue
      const equals = indexOf(pair, '=')
      const name = spaced(equals < 0 ? pair : slice(pair, 0, equals))
      const value = equals < 0 ? '' : spaced(slice(pair, equals + 1))
      const known = query[name]
      if (known === undefined) query[name] = value
      else if (typeof known === 'string') query[name] = [known, value]
      else known[known.length] = value
    }
    return query
  }

  const SPENT = 2
  const settled = async (text) => unmarked(text)
  const parsed = async (text) => parse(unmarked(text))

  // The request of a handler; its parts are made when they are looked at.
  class Request {
    #head; #body; #form; #source; #parts; #said
    constructor(head, body, form, source) {
      this.#head = head
      this.#body = body
      this.#form = form
      this.#source = source
    }
    #line(number) {
      if (this.#parts === undefined) {
        const parts = create(null)
        let at = 0
        for (let line = 0; line < 4; line++) {
          const end = indexOf(this.#head, '\n', at)
          parts[line] = slice(this.#head, at, end)
          at = end + 1
        }
        parts[4] = slice(this.#head, at)
        this.#parts = parts
        this.#said = create(null)
      }
      return this.#parts[number]
    }
    #kept(name, make) {
      this.#line(0)
      if (this.#said[name] === undefined) this.#said[name] = make()
      return this.#said[name]
    }
    get #content() {
      return this.#kept('body', () => new (part('body').Body)(this.#body, this.#form, this.#source))
    }
    get method() { return this.#line(0) }
    get url() { return this.#line(1) }
    get params() {
      return this.#kept('params', () => (this.#line(2) === '' ? {} : parse(this.#line(2))))
    }
    get headers() {
      return this.#kept('headers', () => {
        return part('fetch').received(this.#line(3) === '' ? [] : parse(this.#line(3)))
      })
    }
    get path() { return this.#line(4) }
    get query() { return this.#kept('query', () => queried(this.#line(1))) }
    get body() {
      return this.#kept('pieces', () => {
        if (this.#source === undefined && this.#body === undefined) return null
        return this.#content.pieces()
      })
    }
    get bodyUsed() { return this.#form === SPENT || this.#content.used }
    // The text of a body that is nothing else, which is nearly every body; undefined of others.
    #plain() {
      if (this.#form !== 0 || typeof this.#body !== 'string' || this.#said?.body) return undefined
      this.#form = SPENT
      return this.#body
    }
    text() {
      const text = this.#plain()
      return text === undefined ? this.#content.text() : settled(text)
    }
    json() {
      const text = this.#plain()
      return text === undefined ? this.#content.json() : parsed(text)
    }
    bytes() { return this.#content.bytes() }
    arrayBuffer() { return this.#content.read('bytes', (bytes) => bytes.buffer) }
    get [Symbol.toStringTag]() { return 'Request' }
  }

  // Streamed answers, by their runs.
  const room = create(null)

  // Answers, as one text each: a letter for the kind, then what belongs to it.
  let responses
  const unfit = (what) => 'n' + what

  // Wants no promise; a text may be cut by the engine where it holds a NUL, so it has an end.
  function rendered(id, value) {
    switch (typeof value) {
      case 'string': return 't' + value
      case 'boolean': return value ? 'jtrue' : 'jfalse'
      case 'number': return 'j' + stringify(value)
      case 'object': break
      case 'function': return unfit('a function')
      default: return unfit(typeof value === 'undefined' ? 'nothing (undefined)' : 'a ' + typeof value)
    }
    if (value === null) return 'jnull'
    const bytes = viewed(value)
    if (bytes !== undefined) return 'b' + toBase64(bytes)
    if (responses !== undefined) {
      const response = responses(value)
      if (response !== undefined) return responded(id, response)
    }
    let text
    try {
      text = stringify(value)
    } catch (error) {
      if (limited(error) !== '') throw error
      // What was thrown may be private.
      logged(error)
      return unfit('an object that JSON cannot tell (its log says why)')
    }
    return text === undefined ? unfit('an object that is nothing in JSON') : 'j' + text
  }

  function responded(id, { status, pairs, kind, body, pieces }) {
    const head = status + '\n' + pairs + '\n'
    if (pieces === undefined) return 'r' + head + (kind === 'bytes' ? 'b' + body : 't' + body)
    part('body').pump(id, pieces, room)
    return 's' + head
  }

  function limited(error) {
    if (error === null) return 'null'
    if (typeof error !== 'object') return ''
    try {
      if (givenHas(given, error)) {
        const id = givenGet(given, error)
        return id === 'functions.body' || indexOf(id, 'functions.limit.') === 0 ? id : ''
      }
      if (error instanceof InternalError && error.message === 'out of memory') return 'memory'
      if (error instanceof RangeError && error.message === 'Maximum call stack size exceeded') return 'stack'
    } catch {}
    return ''
  }

  function said(error) {
    try {
      if (error instanceof Error) return String(error)
      return typeof error === 'object' && error !== null ? stringify(error) || 'an object' : String(error)
    } catch {
      return 'something that cannot be shown'
    }
  }
  function told(error) {
    let text = said(error)
    try {
      if (error instanceof Error && typeof error.stack === 'string') text += '\n' + error.stack
      if (error instanceof Error && error.cause !== undefined) text += '\ncaused by ' + said(error.cause)
    } catch {}
    return text
  }
  function log(level, text) {
    if (lines >= LINES) {
      lost++
      return
    }
    lines++
    emit('["l",' + current + ',"' + level + '",' + stringify(flat(text)) + ']')
  }
  function logged(error) {
    log('error', 'Uncaught ' + told(error))
  }

  function failed(error) {
    const limit = limited(error)
    logged(error)
    return limit === '' ? 'x' : 'm' + limit
  }

  const thenable = (value) =>
    typeof value === 'object' && value !== null && typeof value.then === 'function'

  async function follow(id, value, render) {
    let text
    let whole = true
    try {
      text = render(id, await value)
      whole = indexOf(text, '\0') < 0
    } catch (error) {
      text = failed(error)
    }
    if (first === undefined && whole) first = id + '\n' + text
    else emit('["a",' + id + ',' + stringify(flat(text)) + ']')
  }

  // Answers a text for the worker, or nothing if it will come later.
  function answered(id, run, render) {
    current = id
    try {
      const value = run()
      if (typeof value === 'object' && thenable(value)) {
        follow(id, value, render)
        return undefined
      }
      last = render(id, value)
    } catch (error) {
      last = failed(error)
    }
    return ending()
  }

  // An answer and its end. Where the engine would cut it, an end could be what the function says.
  function ending() {
    last = flat(last + (asked.length === 0 ? '\x01' : '\x02'))
    return indexOf(last, '\0') < 0 ? last : '\x03'
  }

  let handler, env, program
  const entries = {
    __proto__: null,
    run(id, head, body, form, source) {
      current = id
      try {
        const value = handler(new Request(head, body, form, source), env)
        if (typeof value === 'string') last = 't' + value
        else if (typeof value === 'object' && thenable(value)) {
          follow(id, value, rendered)
          return undefined
        } else last = rendered(id, value)
      } catch (error) {
        last = failed(error)
      }
      return ending()
    },
    execute(id, path) {
      return answered(id, () => {
        global.path = path
        return program(path)
      }, printed)
    },
    event(id, name, event) {
      return answered(id, () => handlers[name](parse(event), env), () => 'v')
    },
    // The last answer once more, as JSON, which the engine does not cut.
    again() { return stringify(slice(last, 0, -1)) },
    settle(number, ok, a, b, c, d, e) {
      const entry = settling[number]
      if (entry === undefined) return
      delete settling[number]
      waiting--
      current = entry.request
      try {
        entry.then(ok, a, b, c, d, e)
      } catch (error) {
        logged(error)
      }
    },
    grant(id, size) {
      const window = room[id]
      if (window === undefined) return
      if (size < 0) window.over = true
      else window.left += size
      if (window.wake !== undefined) window.wake()
    },
    take() {
      if (lost > 0) {
        const dropped = lost
        lost = 0
        lines = 0
        log('warn', dropped + ' more lines were dropped')
      }
      lines = 0
      if (first === undefined && asked.length === 0) return ''
      const rest = '[' + join(asked, ',') + ']'
      asked = bare([])
      if (first === undefined) return flat(rest)
      last = flat(rest + '\n' + first + '\x01')
      first = undefined
      return last
    },
    // Forget what is under way, as nobody waits for it any more.
    clear() {
      settling = create(null)
      waiting = 0
    },
    setup(variables, grants, seed, clock, step) {
      entries.reseed(seed)
      if (clock !== undefined) part('replay')(clock, step)
      env = grants === '[]' ? parse(variables) : part('env')(parse(variables), parse(grants))
    },
    // What a source has at its top: the names of its handlers.
    begin() {
      let found = ''
      for (let at = 0; at < HANDLERS.length; at++) {
        const name = HANDLERS[at]
        let value
        try {
          value = evaluate(name)
        } catch {
          continue
        }
        if (typeof value !== 'function') continue
        handlers[name] = value
        found += name + ' '
      }
      handler = handlers.handler
      return found
    },
    // The same for an engine that lets nothing but this function run a whole source as it is.
    source(text) {
      const found = evaluate(text + FOUND)
      let names = ''
      for (let at = 0; at < HANDLERS.length; at++) {
        if (typeof found[at] !== 'function') continue
        handlers[HANDLERS[at]] = found[at]
        names += HANDLERS[at] + ' '
      }
      handler = handlers.handler
      return names
    },
    // Every part is evaluated now, as what begins with an image of this shall not do so each time.
    ahead(seed) {
      entropy = seed
      for (const name in LIMITS.parts) if (name !== 'replay') part(name)
      for (const name in NAMES) void global[name]
    },
    // What was restored from an image has the randomness of all that were, until it gets its own.
    reseed(seed) {
      entropy = seed
      if (parts.crypto !== undefined) parts.crypto.reseed()
    },
    script(source) {
      global.env = env
      program = part('script')(source)
    },
  }
  const handlers = create(null)
  const HANDLERS = bare(['handler', 'consume', 'scheduled'])
  const FOUND = '\n;[(() => { try { return handler } catch {} })(), (() => { try { return consume } catch {} })(),'
    + ' (() => { try { return scheduled } catch {} })()]'
  const printed = (id, value) => {
    if (responses !== undefined && typeof value === 'object' && value !== null) {
      const response = responses(value)
      if (response !== undefined) return responded(id, response)
    }
    return 't' + String(value)
  }
  let entropy = ''

  const inside = {
    __proto__: null,
    ask, promised, forget, emit, log, encoded, viewed, unmarked, said, told, toBase64, fromBase64,
    logged, part,
    answering: (of) => { responses = of },
    seed: () => entropy,
    loaded: (name) => parts[name] !== undefined,
    // When a timer is due, as the worker is told, and that it is; `replay.js` has a time of its own.
    due: (ms) => ms,
    reached() {},
  }

  for (const name in NAMES) lazy(global, name, NAMES[name])

  return (name) => entries[name]
})
