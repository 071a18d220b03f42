// URL and URLSearchParams, for the schemes that functions meet; names of hosts in ASCII.
(function (inside) {
  'use strict'
  const { part, encoded } = inside
  const { String, TypeError, Symbol, Array, Object, encodeURIComponent, parseInt } = globalThis

  const PORTS = { 'http:': '80', 'https:': '443', 'ws:': '80', 'wss:': '443', 'ftp:': '21' }
  const percent = (text, allowed) =>
    text.toWellFormed().replace(allowed, (character) => {
      let all = ''
      for (const byte of encoded(character)) all += '%' + (byte < 16 ? '0' : '') + byte.toString(16).toUpperCase()
      return all
    })
  const IN_PATH = /[^\x21\x24-\x3b\x3d\x40-\x5d\x5f\x61-\x7a\x7c\x7e%]/gu
  const IN_QUERY = /[^\x21\x24-\x3b\x3d\x3f-\x7e%]/gu
  const IN_SPECIAL_QUERY = /[^\x21\x24-\x26\x28-\x3b\x3d\x3f-\x7e%]/gu
  const IN_FRAGMENT = /[^\x21\x23-\x3b\x3d\x3f-\x5f\x61-\x7e%]/gu
  const IN_USER = /[^\x21\x24-\x2e\x30-\x39\x41-\x5a\x5f\x61-\x7a~%]/gu
  const BAD_HOST = /[\x00-\x20"#%/:<>?@[\\\]^`{|}\x7f]/

  const wrong = (text) => new TypeError('Invalid URL: ' + text)
  const decoded = (text) => part('encoding').decode(part('encoding').unpercented(text))

  function host(text, special, whole) {
    if (!special) return percent(text, /[^\x21-\x7e]/gu)
    if (text.startsWith('[')) {
      if (!/^\[[0-9a-f:.]+\]$/i.test(text)) throw wrong(whole)
      return text.toLowerCase()
    }
    const name = (text.includes('%') ? decoded(text) : text).toLowerCase()
    if (name === '' || BAD_HOST.test(name) || /[^\x00-\x7f]/.test(name)) throw wrong(whole)
    return name
  }
  function resolved(path, special) {
    const parts = path.replace(special ? /\\/g : /(?!)/, '/').split('/').slice(1)
    const done = []
    parts.forEach((name, at) => {
      const end = at === parts.length - 1
      if (/^(?:\.|%2e){2}$/i.test(name)) {
        done.pop()
        if (end) done.push('')
      } else if (/^(?:\.|%2e)$/i.test(name)) {
        if (end) done.push('')
      } else done.push(name)
    })
    return '/' + done.join('/')
  }

  // The parts of a URL; of one that is relative, with those of its base.
  function parsed(input, base) {
    const text = input.replace(/^[\x00-\x20]+|[\x00-\x20]+$/g, '').replace(/[\t\n\r]/g, '')
    const [, scheme, rest] = /^([a-z][a-z0-9+.-]*):([^]*)$/i.exec(text) ?? [undefined, undefined, text]
    if (scheme === undefined && base === undefined) throw wrong(input)
    const protocol = scheme === undefined ? base.protocol : scheme.toLowerCase() + ':'
    const special = protocol in PORTS
    const [, front, , query, , fragment] = /^([^?#]*)(\?([^#]*))?(#([^]*))?$/.exec(rest)
    const url = { protocol, username: '', password: '', hostname: '', port: '', pathname: '', search: '', hash: '' }
    const slashes = special ? front.replace(/\\/g, '/') : front
    const absolute = scheme !== undefined && !(special && base?.protocol === protocol && !slashes.startsWith('/'))
    if (query) url.search = '?' + percent(query, special ? IN_SPECIAL_QUERY : IN_QUERY)
    if (fragment) url.hash = '#' + percent(fragment, IN_FRAGMENT)

    if (absolute && !special && !slashes.startsWith('/')) {
      url.pathname = percent(front, /[^\x20-\x7e]/gu)
      url.opaque = true
      return url
    }
    if (slashes.startsWith('//') || (special && absolute)) {
      const [, authority, path] = /^\/*([^/]*)([^]*)$/.exec(special ? slashes : slashes.slice(2))
      const at = authority.lastIndexOf('@')
      const [, name, , port] = /^(\[[^\]]*\]|[^:]*)(:(.*))?$/.exec(authority.slice(at + 1)) ?? []
      if (name === undefined || (port && !/^\d+$/.test(port)) || Number(port) > 65535) throw wrong(input)
      if (at >= 0) {
        const [user, ...secret] = authority.slice(0, at).split(':')
        url.username = percent(user, IN_USER)
        url.password = percent(secret.join(':'), IN_USER)
      }
      url.hostname = host(name, special, input)
      url.port = port && String(Number(port)) !== PORTS[protocol] ? String(Number(port)) : ''
      url.pathname = path || special ? resolved(percent(path || '/', IN_PATH), special) : ''
      return url
    }
    if (!absolute) {
      if (base.opaque && !(front === '' && query === undefined)) throw wrong(input)
      const { username, password, hostname, port } = base
      Object.assign(url, { username, password, hostname, port, opaque: base.opaque })
      if (front === '') {
        url.pathname = base.pathname
        if (query === undefined) url.search = base.search
        return url
      }
    }
    const folder = slashes.startsWith('/') || !base ? '' : base.pathname.slice(0, base.pathname.lastIndexOf('/') + 1)
    url.pathname = resolved(percent(folder + slashes, IN_PATH), special)
    return url
  }

  class URL {
    #url; #search
    constructor(url, base) {
      this.#url = parsed(String(url), base === undefined ? undefined : parsed(String(base)))
    }
    static canParse(url, base) { return URL.parse(url, base) !== null }
    static parse(url, base) {
      try {
        return new URL(url, base)
      } catch {
        return null
      }
    }
    // Something has changed: what was said is looked at again with a new part.
    #with(part, value) {
      const changed = { ...this.#url, [part]: value }
      try {
        this.#url = parsed(joined(changed))
      } catch {
        return
      }
      this.#search?.[RELOAD](this.#url.search)
    }
    get href() { return joined(this.#url) }
    set href(value) {
      this.#url = parsed(String(value))
      this.#search?.[RELOAD](this.#url.search)
    }
    get origin() {
      return this.#url.protocol in PORTS ? this.#url.protocol + '//' + this.host : 'null'
    }
    get protocol() { return this.#url.protocol }
    set protocol(value) {
      const scheme = String(value).replace(/:[^]*$/, '').toLowerCase() + ':'
      if (scheme in PORTS === this.#url.protocol in PORTS) this.#with('protocol', scheme)
    }
    get username() { return this.#url.username }
    set username(value) { this.#with('username', percent(String(value), IN_USER)) }
    get password() { return this.#url.password }
    set password(value) { this.#with('password', percent(String(value), IN_USER)) }
    get host() { return this.#url.hostname + (this.#url.port && ':' + this.#url.port) }
    set host(value) {
      const [, name, , port] = /^(\[[^\]]*\]|[^:/?#\\]*)(:(\d*))?/.exec(String(value))
      if (name === '') return
      this.#with('hostname', name)
      if (port) this.#with('port', port)
    }
    get hostname() { return this.#url.hostname }
    set hostname(value) {
      if (!/[:/?#\\@]/.test(value) || /^\[/.test(value)) this.#with('hostname', String(value))
    }
    get port() { return this.#url.port }
    set port(value) {
      const [digits] = /^\d*/.exec(String(value))
      if (digits || value === '') this.#with('port', digits)
    }
    get pathname() { return this.#url.pathname }
    set pathname(value) {
      if (this.#url.opaque) return
      const path = String(value).replace(/[?#]/g, encodeURIComponent)
      this.#with('pathname', /^[/\\]/.test(path) ? path : '/' + path)
    }
    get search() { return this.#url.search }
    set search(value) {
      const query = String(value).replace(/^\?/, '').replace(/#/g, '%23')
      this.#with('search', query && '?' + query)
    }
    get searchParams() {
      if (!this.#search) {
        this.#search = new URLSearchParams(this.#url.search)
        this.#search[OWNER]((text) => { this.#url.search = text && '?' + text })
      }
      return this.#search
    }
    get hash() { return this.#url.hash }
    set hash(value) {
      const fragment = String(value).replace(/^#/, '')
      this.#with('hash', fragment && '#' + fragment)
    }
    toString() { return this.href }
    toJSON() { return this.href }
    get [Symbol.toStringTag]() { return 'URL' }
  }

  function joined(url) {
    const { protocol, username, password, hostname, port, pathname, search, hash } = url
    if (url.opaque) return protocol + pathname + search + hash
    const user = username || password ? username + (password && ':' + password) + '@' : ''
    const slashes = hostname || protocol in PORTS || protocol === 'file:' ? '//' : ''
    return protocol + slashes + user + hostname + (port && ':' + port) + pathname + search + hash
  }

  const RELOAD = Symbol('reload')
  const OWNER = Symbol('owner')
  const form = (text) =>
    encodeURIComponent(text.toWellFormed()).replace(/%20/g, '+').replace(/[!'()~]/g, (mark) => '%' + mark.charCodeAt(0).toString(16).toUpperCase())

  class URLSearchParams {
    #list = []
    #changed = () => {}
    constructor(init = '') {
      if (typeof init === 'object' && init !== null) {
        const pairs = typeof init[Symbol.iterator] === 'function' ? init : Object.entries(init)
        for (const pair of pairs) {
          const [name, value, ...more] = pair
          if (value === undefined || more.length) throw new TypeError('a parameter is a pair of name and value')
          this.#list.push([String(name), String(value)])
        }
      } else this[RELOAD](String(init))
    }
    [OWNER](changed) { this.#changed = changed }
    [RELOAD](text) {
      this.#list = text.replace(/^\?/, '').split('&').filter(Boolean).map((pair) => {
        const [name, ...value] = pair.split('=')
        return [name, value.join('=')].map((side) => {
          const plain = side.replaceAll('+', ' ')
          return plain.includes('%') ? decoded(plain) : plain
        })
      })
    }
    #tell() { this.#changed(this.toString()) }
    get size() { return this.#list.length }
    append(name, value) {
      this.#list.push([String(name), String(value)])
      this.#tell()
    }
    delete(name, value) {
      this.#list = this.#list.filter((pair) => pair[0] !== String(name) || (value !== undefined && pair[1] !== String(value)))
      this.#tell()
    }
    get(name) { return this.#list.find((pair) => pair[0] === String(name))?.[1] ?? null }
    getAll(name) { return this.#list.filter((pair) => pair[0] === String(name)).map((pair) => pair[1]) }
    has(name, value) {
      return this.#list.some((pair) => pair[0] === String(name) && (value === undefined || pair[1] === String(value)))
    }
    set(name, value) {
      const known = this.#list.find((pair) => pair[0] === String(name))
      if (!known) this.#list.push([String(name), String(value)])
      else {
        known[1] = String(value)
        this.#list = this.#list.filter((pair) => pair === known || pair[0] !== String(name))
      }
      this.#tell()
    }
    sort() {
      this.#list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      this.#tell()
    }
    forEach(run, self) {
      for (const [name, value] of this) run.call(self, value, name, this)
    }
    *entries() { for (const [name, value] of this.#list) yield [name, value] }
    *keys() { for (const [name] of this.#list) yield name }
    *values() { for (const [, value] of this.#list) yield value }
    [Symbol.iterator]() { return this.entries() }
    toString() { return this.#list.map(([name, value]) => form(name) + '=' + form(value)).join('&') }
    get [Symbol.toStringTag]() { return 'URLSearchParams' }
  }

  return { URL, URLSearchParams }
})
