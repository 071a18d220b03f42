// What a function is given: its variables, and the bindings that it was granted.
(function (inside) {
  'use strict'
  const { promised } = inside
  const { parse, stringify } = JSON
  const { defineProperty } = Object

  async function use(binding, verb, given) {
    const name = ',"' + binding + '",' + stringify(verb) + ',' + stringify(given)
    return await promised('c', name, (text) => parse(text))
  }
  const VERBS = {
    store: ['get', 'set', 'delete', 'list'],
    config: ['get'],
    events: ['publish'],
    broker: ['publish'],
  }
  function binding(name) {
    const made = {}
    for (const verb of VERBS[name]) made[verb] = (...given) => use(name, verb, given)
    return made
  }
  const MADE = { call: () => (endpoint, ...given) => use('call', String(endpoint), given) }
  for (const name in VERBS) MADE[name] = () => binding(name)

  return (variables, grants) => {
    const env = {}
    for (const name in variables) {
      defineProperty(env, name, { value: variables[name], writable: true, enumerable: true, configurable: true })
    }
    for (const name of grants) {
      let value
      defineProperty(env, name, { get: () => (value ??= MADE[name]()), enumerable: true, configurable: true })
    }
    return env
  }
})
