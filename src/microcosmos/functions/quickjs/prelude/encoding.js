// Texts to bytes and back.
(function (inside) {
  'use strict'
  const { encoded, viewed, toBase64, fromBase64, unmarked } = inside
  const { escape, decodeURIComponent, atob, String, Uint8Array, TypeError, RangeError, Math } = globalThis

  const LENGTHS = (first) =>
    first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0

  // How many bytes from `at` on are one character, or the beginning of one; `whole` says which.
  function measured(bytes, at) {
    const size = LENGTHS(bytes[at])
    if (size < 2) return { size: 1, whole: size === 1, cut: false }
    const first = bytes[at]
    let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
    let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
    for (let next = 1; next < size; next++) {
      if (at + next >= bytes.length) return { size: next, whole: false, cut: true }
      const byte = bytes[at + next]
      if (byte < low || byte > high) return { size: next, whole: false, cut: false }
      low = 0x80
      high = 0xbf
    }
    return { size, whole: true, cut: false }
  }
  function point(bytes, at, size) {
    if (size === 1) return bytes[at]
    let value = bytes[at] & (0xff >> (size + 1))
    for (let next = 1; next < size; next++) value = (value << 6) | (bytes[at + next] & 0x3f)
    return value
  }

  function decode(bytes, fatal, rest) {
    try {
      return decodeURIComponent(escape(atob(toBase64(bytes))))
    } catch {}
    let text = ''
    for (let at = 0; at < bytes.length; ) {
      const { size, whole, cut } = measured(bytes, at)
      if (whole) text += String.fromCodePoint(point(bytes, at, size))
      else if (cut && rest !== undefined) {
        rest.bytes = bytes.slice(at)
        return text
      } else if (fatal) throw new TypeError('the bytes are no valid UTF-8')
      else text += '\ufffd'
      at += size
    }
    return text
  }

  // The bytes of a text with %-escapes, of which some may be wrong.
  function unpercented(text) {
    const plain = encoded(text)
    const bytes = new Uint8Array(plain.length)
    let size = 0
    for (let at = 0; at < plain.length; at++) {
      const digits = plain[at] === 37 ? String.fromCharCode(plain[at + 1], plain[at + 2]) : ''
      if (/^[0-9a-f]{2}$/i.test(digits)) {
        bytes[size++] = parseInt(digits, 16)
        at += 2
      } else bytes[size++] = plain[at]
    }
    return bytes.slice(0, size)
  }

  class TextEncoder {
    get encoding() { return 'utf-8' }
    encode(text = '') { return encoded(String(text)) }
    encodeInto(text, target) {
      let read = 0
      let written = 0
      for (const character of String(text)) {
        const bytes = encoded(character)
        if (written + bytes.length > target.length) break
        target.set(bytes, written)
        written += bytes.length
        read += character.length
      }
      return { read, written }
    }
  }

  class TextDecoder {
    #fatal; #keep; #rest = new Uint8Array(0); #begun = false
    constructor(label = 'utf-8', { fatal = false, ignoreBOM = false } = {}) {
      const name = String(label).trim().toLowerCase()
      if (name !== 'utf-8' && name !== 'utf8') throw new RangeError(name + ' is not decoded here, only utf-8')
      this.#fatal = Boolean(fatal)
      this.#keep = Boolean(ignoreBOM)
    }
    get encoding() { return 'utf-8' }
    get fatal() { return this.#fatal }
    get ignoreBOM() { return this.#keep }
    decode(input, { stream = false } = {}) {
      const more = input === undefined ? new Uint8Array(0) : viewed(input)
      if (more === undefined) throw new TypeError('only bytes can be decoded')
      const bytes = new Uint8Array(this.#rest.length + more.length)
      bytes.set(this.#rest)
      bytes.set(more, this.#rest.length)
      const rest = { bytes: new Uint8Array(0) }
      const text = decode(bytes, this.#fatal, stream ? rest : undefined)
      this.#rest = rest.bytes
      const first = !this.#begun
      this.#begun = stream && (this.#begun || text !== '')
      return first && !this.#keep ? unmarked(text) : text
    }
  }

  return { TextEncoder, TextDecoder, decode, unpercented }
})
