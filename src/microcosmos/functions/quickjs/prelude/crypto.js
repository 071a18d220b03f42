// Random numbers: ChaCha20 of the seed that the worker took from the system for this context.
(function (inside) {
  'use strict'
  const { seed, fromBase64, viewed } = inside
  const { TypeError, Uint8Array, Uint32Array, DOMException } = globalThis
  const MOST = 65536

  const state = new Uint32Array(16)
  state.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574])
  const block = new Uint32Array(16)
  const bytes = new Uint8Array(block.buffer)
  let left = 0

  let seeded = false

  function reseed() {
    seeded = false
    left = 0
  }
  function key() {
    seeded = true
    state.set(new Uint32Array(fromBase64(seed()).buffer, 0, 8), 4)
    state.fill(0, 12)
  }

  function quarter(a, b, c, d) {
    block[a] += block[b]; block[d] ^= block[a]; block[d] = (block[d] << 16) | (block[d] >>> 16)
    block[c] += block[d]; block[b] ^= block[c]; block[b] = (block[b] << 12) | (block[b] >>> 20)
    block[a] += block[b]; block[d] ^= block[a]; block[d] = (block[d] << 8) | (block[d] >>> 24)
    block[c] += block[d]; block[b] ^= block[c]; block[b] = (block[b] << 7) | (block[b] >>> 25)
  }
  function refill() {
    if (!seeded) key()
    block.set(state)
    for (let round = 0; round < 10; round++) {
      quarter(0, 4, 8, 12); quarter(1, 5, 9, 13); quarter(2, 6, 10, 14); quarter(3, 7, 11, 15)
      quarter(0, 5, 10, 15); quarter(1, 6, 11, 12); quarter(2, 7, 8, 13); quarter(3, 4, 9, 14)
    }
    for (let at = 0; at < 16; at++) block[at] += state[at]
    if (++state[12] === 0) ++state[13]
    left = 64
  }
  function fill(target) {
    for (let at = 0; at < target.length; at++) {
      if (left === 0) refill()
      target[at] = bytes[64 - left]
      bytes[64 - left--] = 0
    }
  }
  const hexadecimal = (part) => part.toHex()

  const crypto = {
    getRandomValues(array) {
      if (!ArrayBuffer.isView(array) || array instanceof DataView || /^Float/.test(array.constructor.name)) {
        throw new TypeError('getRandomValues wants a typed array of integers')
      }
      if (array.byteLength > MOST) throw new DOMException('at most ' + MOST + ' bytes at once', 'QuotaExceededError')
      fill(viewed(array))
      return array
    },
    randomUUID() {
      const random = new Uint8Array(16)
      fill(random)
      random[6] = (random[6] & 0x0f) | 0x40
      random[8] = (random[8] & 0x3f) | 0x80
      const text = hexadecimal(random)
      return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-')
    },
  }
  return { crypto, fill, reseed }
})
