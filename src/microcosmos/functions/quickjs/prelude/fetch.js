// Headers, Response and fetch.
(function (inside) {
  'use strict'
  const { promised, part, loaded, encoded, viewed, toBase64, answering } = inside
  const { Body } = part('body')
  const { String, TypeError, RangeError, Symbol, JSON, Map, Object } = globalThis

  const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
  const AROUND = /^[\t\n\r ]+|[\t\n\r ]+$/g
  const IN_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

  const named = (name) => {
    const text = String(name)
    if (!NAME.test(text)) throw new TypeError(JSON.stringify(text) + ' is no name of a header')
    return text.toLowerCase()
  }
  const valued = (value) => {
    const text = String(value).replace(AROUND, '')
    if (!IN_VALUE.test(text)) throw new TypeError('the value of a header holds characters that cannot be sent')
    return text
  }

  let received

  class Headers {
    #values = new Map()
    constructor(init) {
      if (init === undefined || init === null) return
      if (typeof init !== 'object') throw new TypeError('headers are an object or a list of pairs')
      if (typeof init[Symbol.iterator] === 'function') {
        for (const pair of init) {
          const [name, value, ...more] = pair
          if (value === undefined || more.length) throw new TypeError('a header is a pair of name and value')
          this.append(name, value)
        }
      } else for (const name of Object.keys(init)) this.append(name, init[name])
    }
    // What has come from a line is what it is.
    static {
      received = (pairs) => {
        const headers = new Headers()
        for (const [name, value] of pairs) headers.#add(name.toLowerCase(), value)
        return headers
      }
    }
    #add(key, value) {
      const known = this.#values.get(key)
      if (known) known.push(value)
      else this.#values.set(key, [value])
    }
    append(name, value) {
      this.#add(named(name), valued(value))
    }
    set(name, value) { this.#values.set(named(name), [valued(value)]) }
    delete(name) { this.#values.delete(named(name)) }
    has(name) { return this.#values.has(named(name)) }
    get(name) { return this.#values.get(named(name))?.join(', ') ?? null }
    getSetCookie() { return [...(this.#values.get('set-cookie') ?? [])] }
    forEach(run, self) {
      for (const [name, value] of this) run.call(self, value, name, this)
    }
    *entries() {
      for (const name of [...this.#values.keys()].sort()) {
        const values = this.#values.get(name)
        if (values === undefined) continue
        if (name === 'set-cookie') for (const value of values) yield [name, value]
        else yield [name, values.join(', ')]
      }
    }
    *keys() { for (const [name] of this.entries()) yield name }
    *values() { for (const [, value] of this.entries()) yield value }
    [Symbol.iterator]() { return this.entries() }
    get [Symbol.toStringTag]() { return 'Headers' }
  }

  const isSearch = (value) => loaded('url') && value instanceof part('url').URLSearchParams
  const isPieces = (value) =>
    typeof value === 'object' && (Symbol.asyncIterator in value || typeof value.next === 'function')

  // What a body of the function's own is: its content, and the content type that goes with it.
  function content(value) {
    if (value === undefined || value === null) return { body: new Body(), type: null, empty: true }
    const bytes = typeof value === 'object' ? viewed(value) : undefined
    if (bytes !== undefined) return { body: new Body(toBase64(bytes), 1), type: null }
    if (isSearch(value)) {
      return { body: new Body(String(value)), type: 'application/x-www-form-urlencoded;charset=UTF-8' }
    }
    if (isPieces(value)) return { pieces: value, type: null }
    return { body: new Body(String(value).toWellFormed()), type: 'text/plain;charset=UTF-8' }
  }

  const EMPTY = [101, 204, 205, 304]
  const HOPS = ['connection', 'content-encoding', 'content-length', 'keep-alive', 'transfer-encoding']

  let fetched

  class Response {
    #status; #statusText; #headers; #content; #used = false; #from
    constructor(body, init = {}) {
      const { status = 200, statusText = '', headers } = init ?? {}
      const number = Number(status)
      if (!(Number.isInteger(number) && number >= 200 && number <= 599)) {
        throw new RangeError('a status is a number between 200 and 599')
      }
      this.#status = number
      this.#statusText = String(statusText)
      this.#content = content(body)
      if (EMPTY.includes(number) && !this.#content.empty) throw new TypeError('a ' + number + ' has no body')
      if (headers === undefined) return
      this.#headers = new Headers(headers)
      this.#typed()
    }
    #typed() {
      const { type } = this.#content
      if (type && !this.#headers.has('content-type')) this.#headers.set('content-type', type)
    }
    // What has come from elsewhere.
    static #fetched(url, status, pairs, body, form, source) {
      const response = new Response(null)
      response.#status = status
      response.#headers = received(JSON.parse(pairs))
      response.#content = { body: new Body(body, form, source), type: null, empty: body === undefined && source === undefined }
      response.#from = url
      return response
    }
    static json(value, init = {}) {
      const text = JSON.stringify(value)
      if (text === undefined) throw new TypeError('the value is nothing in JSON')
      const headers = new Headers(init?.headers)
      if (!headers.has('content-type')) headers.set('content-type', 'application/json')
      return new Response(text, { ...init, headers })
    }
    static redirect(url, status = 302) {
      if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(status + ' is no redirect')
      return new Response(null, { status, headers: { location: String(url) } })
    }
    get status() { return this.#status }
    get statusText() { return this.#statusText }
    get ok() { return this.#status >= 200 && this.#status < 300 }
    get headers() {
      if (this.#headers === undefined) {
        this.#headers = new Headers()
        this.#typed()
      }
      return this.#headers
    }
    get url() { return this.#from ?? '' }
    get redirected() { return false }
    get type() { return this.#from === undefined ? 'default' : 'basic' }
    get bodyUsed() { return this.#used }
    get body() {
      if (this.#content.empty) return null
      return this.#content.pieces ?? this.#once().pieces()
    }
    // A body is read once, as everywhere.
    #once() {
      if (this.#used) throw new TypeError('the body has been read already')
      this.#used = !this.#content.empty
      return this.#content.body ?? new Gathered(this.#content.pieces)
    }
    async text() { return await this.#once().text() }
    async json() { return await this.#once().json() }
    async bytes() { return await this.#once().bytes() }
    async arrayBuffer() { return (await this.#once().bytes()).buffer }
    clone() {
      if (this.#used) throw new TypeError('the body has been read already')
      if (!this.#content.body) throw new TypeError('a body that comes in pieces cannot be cloned')
      const copy = new Response(null, { headers: this.headers })
      copy.#status = this.#status
      copy.#statusText = this.#statusText
      copy.#from = this.#from
      copy.#content = { ...this.#content, body: this.#content.body.copy() }
      return copy
    }
    get [Symbol.toStringTag]() { return 'Response' }

    static {
      answering((value) => (#content in value ? value.#answer() : undefined))
      fetched = (...given) => Response.#fetched(...given)
    }
    #pairs() {
      if (this.#headers === undefined) {
        return this.#content.type ? '[["content-type","' + this.#content.type + '"]]' : ''
      }
      const list = [...this.#headers].filter(([name]) => !HOPS.includes(name))
      return list.length ? JSON.stringify(list) : ''
    }
    #answer() {
      const pairs = this.#pairs()
      const status = this.#status
      if (this.#content.empty) return { status, pairs, kind: 'text', body: '' }
      if (this.#content.pieces) return { status, pairs, pieces: this.#content.pieces }
      const body = this.#once()
      if (body.remote) return { status, pairs, pieces: body.pieces() }
      const [kind, whole] = body.whole()
      return { status, pairs, kind, body: whole }
    }
  }

  // A body in pieces that somebody wants whole.
  class Gathered {
    #pieces
    constructor(pieces) { this.#pieces = pieces }
    pieces() { return this.#pieces }
    async bytes() {
      const parts = []
      let size = 0
      for await (const piece of this.#pieces) {
        const bytes = typeof piece === 'string' ? encoded(piece) : viewed(piece)
        parts.push(bytes)
        size += bytes.length
      }
      const all = new Uint8Array(size)
      let at = 0
      for (const bytes of parts) {
        all.set(bytes, at)
        at += bytes.length
      }
      return all
    }
    async text() { return part('encoding').decode(await this.bytes()) }
    async json() { return JSON.parse(await this.text()) }
  }

  const KNOWN = ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH']

  async function fetch(input, init = {}) {
    const like = typeof input === 'object' && input !== null && typeof input.url === 'string' ? input : {}
    const url = like.url ?? String(input)
    const upper = String(init.method ?? like.method ?? 'GET').toUpperCase()
    const method = KNOWN.includes(upper) ? upper : String(init.method ?? like.method)
    const headers = new Headers(init.headers ?? like.headers)
    const { body, pieces, type, empty } = content(init.body)
    if (!empty && (method === 'GET' || method === 'HEAD')) throw new TypeError('a ' + method + ' has no body')
    if (type && !headers.has('content-type')) headers.set('content-type', type)
    const sent = pieces ? toBase64(await new Gathered(pieces).bytes()) : undefined
    const [kind, text] = sent === undefined ? body.whole() : ['bytes', sent]
    const rest = [url, method, [...headers], empty ? null : text, kind === 'bytes', String(init.redirect ?? 'follow')]
    return await promised('f', ',' + JSON.stringify(rest).slice(1, -1), (...given) => fetched(url, ...given))
  }

  return { Headers, Response, fetch, received }
})
