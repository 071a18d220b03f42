// Bodies: those that come, and those that are sent in pieces.
(function (inside) {
  'use strict'
  const { part, promised, emit, encoded, viewed, unmarked, logged, toBase64, fromBase64 } = inside
  const { JSON, Promise, Symbol, TypeError, Uint8Array } = globalThis
  const { parse } = JSON

  // A body that comes in: a text, bytes in base64 (`form` 1), one that was read
  // already, or something still on its way.
  const BASE64 = 1
  const SPENT = 2
  class Body {
    #value; #form; #source; #used = false
    constructor(value, form, source) {
      this.#value = value
      this.#form = form | 0
      this.#source = source
      this.#used = form === SPENT
    }
    get used() { return this.#used }
    get remote() { return this.#source !== undefined }
    // A text or bytes, as it has come.
    #now(wanted) {
      const value = this.#value === undefined ? '' : this.#value
      if (wanted === 'bytes') return this.#form === BASE64 ? fromBase64(value) : encoded(value)
      return unmarked(this.#form === BASE64 ? part('encoding').decode(fromBase64(value)) : value)
    }
    read(wanted, made) {
      if (this.#used) return rejected(new TypeError('the body has been read already'))
      this.#used = this.#value !== undefined || this.#source !== undefined
      if (this.#source === undefined) {
        return new Promise((resolve) => resolve(made(this.#now(wanted))))
      }
      const source = this.#source
      return promised('w', ',' + source, (value, form) => {
        const whole = new Body(value, form)
        return made(whole.#now(wanted))
      })
    }
    text() { return this.read('text', (text) => text) }
    json() { return this.read('text', (text) => parse(text)) }
    bytes() { return this.read('bytes', (bytes) => bytes) }
    // The pieces of the body, for `for await`.
    async *pieces() {
      if (this.#used) throw new TypeError('the body has been read already')
      this.#used = true
      if (this.#source === undefined) {
        const bytes = this.#now('bytes')
        if (bytes.length) yield bytes
        return
      }
      const source = this.#source
      try {
        for (;;) {
          const piece = await promised('p', ',' + source, (value) => value)
          if (typeof piece !== 'string') return
          yield fromBase64(piece)
        }
      } finally {
        emit('["d",' + source + ']')
      }
    }
    // What it holds, if it is whole: `text` and the text, or `bytes` and the base64 of them.
    whole() {
      const value = this.#value === undefined ? '' : this.#value
      return this.#form === BASE64 ? ['bytes', value] : ['text', value]
    }
    copy() {
      if (this.#source !== undefined) throw new TypeError('a body that is still coming cannot be cloned')
      return new Body(this.#value, this.#form)
    }
  }
  const rejected = (error) => new Promise((_, reject) => reject(error))

  // Bodies that are sent in pieces, as far as the reader grants.
  async function pump(id, pieces, room) {
    const window = (room[id] = { __proto__: null, left: WINDOW, wake: undefined, over: false })
    let iterator
    try {
      iterator = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]()
      while (!window.over) {
        const { done, value } = await iterator.next()
        if (done || window.over) break
        const piece = typeof value === 'string' ? encoded(value) : viewed(value)
        if (piece === undefined) throw new TypeError('a piece of a body is neither a string nor bytes')
        for (let at = 0; at < piece.length && !window.over; at += PIECE) {
          const data = new Uint8Array(piece.buffer, piece.byteOffset + at, piece.length - at < PIECE ? piece.length - at : PIECE)
          window.left -= data.length
          emit('["s",' + id + ',"' + toBase64(data) + '"]')
          while (window.left <= 0 && !window.over) {
            await new Promise((resolve) => { window.wake = resolve })
          }
        }
      }
      if (window.over && iterator.return !== undefined) await iterator.return()
      emit('["z",' + id + ']')
    } catch (error) {
      logged(error)
      emit('["q",' + id + ']')
    }
    delete room[id]
  }
  const WINDOW = 256 * 1024
  const PIECE = 48 * 1024

  return { Body, pump }
})
