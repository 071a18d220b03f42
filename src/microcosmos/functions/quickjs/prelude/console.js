// console: every call is a line of the function's log.
(function (inside) {
  'use strict'
  const { log, told } = inside
  const { String, Array, Object, JSON, Map, Set, Error, Date, RegExp, Symbol } = globalThis
  const DEEP = 4
  const MANY = 100
  const LONGEST = 8 * 1024

  const key = (name) => (/^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(name) ? name : quoted(name))
  const quoted = (text) =>
    text.includes("'") ? JSON.stringify(text) : "'" + JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"') + "'"
  const listed = (parts, open, close) => (parts.length ? open + ' ' + parts.join(', ') + ' ' + close : open + close)

  function shown(value, deep, above) {
    switch (typeof value) {
      case 'string': return quoted(value)
      case 'bigint': return value + 'n'
      case 'function': return '[Function: ' + (value.name || '(anonymous)') + ']'
      case 'object': break
      default: return Object.is(value, -0) ? '-0' : String(value)
    }
    if (value === null) return 'null'
    if (above.includes(value)) return '[Circular]'
    if (value instanceof Error) return told(value)
    if (value instanceof Date) return String(value.getTime()) === 'NaN' ? 'Invalid Date' : value.toISOString()
    if (value instanceof RegExp) return String(value)
    if (deep > DEEP) return Array.isArray(value) ? '[Array]' : '[Object]'
    return structured(value, deep + 1, [...above, value])
  }

  function structured(value, deep, above) {
    const inner = (item) => shown(item, deep, above)
    const some = (items, show) => {
      const parts = []
      let more = 0
      for (const item of items) {
        if (parts.length < MANY) parts.push(show(item))
        else more++
      }
      if (more) parts.push('\u2026 ' + more + ' more')
      return parts
    }
    const pair = ([name, item]) => inner(name) + ' => ' + inner(item)
    if (Array.isArray(value)) return listed(some(value, inner), '[', ']')
    if (value instanceof Map) return 'Map(' + value.size + ') ' + listed(some(value, pair), '{', '}')
    if (value instanceof Set) return 'Set(' + value.size + ') ' + listed(some(value, inner), '{', '}')
    if (ArrayBuffer.isView(value) && Symbol.iterator in value) {
      return value.constructor.name + '(' + value.length + ') ' + listed(some(value, inner), '[', ']')
    }
    const kind = value.constructor?.name
    const named = kind && kind !== 'Object' ? kind + ' ' : ''
    const property = (name) => key(name) + ': ' + inner(value[name])
    return named + listed(some(Object.keys(value), property), '{', '}')
  }

  const line = (given) => {
    const text = given
      .map((value) => {
        if (typeof value === 'string') return value
        try {
          return shown(value, 0, [])
        } catch {
          return 'something that cannot be shown'
        }
      })
      .join(' ')
    return text.length > LONGEST ? text.slice(0, LONGEST) + '\u2026 (' + (text.length - LONGEST) + ' more characters)' : text
  }
  const at = (level) => (...given) => log(level, line(given))
  const console = { log: at('info'), info: at('info'), debug: at('debug'), warn: at('warn'), error: at('error') }
  console.trace = console.debug
  console.dir = console.log
  console.assert = (truth, ...given) => {
    if (!truth) console.error('Assertion failed:', ...given)
  }
  return { console }
})
