// Makes a program of a script, run by calling it with the path; what it ends with is the answer.
//
// The value of a script's last statement can be had from `eval` only, which parses the text each
// time. So where the last statement is an expression, which is nearly always, the script becomes a
// function that returns it: parsed once. Its own declarations are then the function's, too.
(function () {
  const LONGEST = 64 * 1024
  const TRIES = 64
  const COMMENTS = '(?:\\s|//[^\\n]*(?:\\n|$)|/\\*[^]*?\\*/)*'
  const NO_EXPRESSION = new RegExp('^' + COMMENTS + '(?:\\{|(?:function|class|async|let)\\b|$)')
  const MARK = {}

  const made = (body) => {
    try {
      return new Function('path', body)
    } catch {
      return undefined
    }
  }
  const expression = (text) => {
    if (NO_EXPRESSION.test(text)) return undefined
    const bare = text.replace(/[;\s]+$/, '')
    return made('return (' + bare + '\n)') && bare
  }

  // The lines before the last statement, and that statement, if it is an expression on lines of
  // its own. A line break is where a statement ends if what follows could stand on the same line
  // only behind a semicolon, or if anything may follow there. Comments there would hide that.
  const divided = (source) => {
    const lines = source.split('\n')
    for (let at = lines.length - 1; at > 0 && at >= lines.length - TRIES; at--) {
      const last = expression(lines.slice(at).join('\n'))
      if (last === undefined) continue
      const before = lines.slice(0, at).join('\n').trimEnd()
      if (/\/\/|\*\//.test(before.slice(before.lastIndexOf('\n') + 1))) return undefined
      if (made(before) === undefined) continue
      const ends = made(before + ' 0;') !== undefined || made(before + ' ' + last) === undefined
      if (ends) return made(before + '\nreturn (' + last + '\n)')
    }
    return undefined
  }

  return (source) => {
    const run = new Function('path', 'return eval(arguments[1])')
    try {
      run('', 'throw arguments[2];\n\n' + source, MARK)
    } catch (error) {
      if (error !== MARK) throw error
    }
    if (source.length <= LONGEST && !/<!--|-->/.test(source)) {
      const whole = expression(source)
      if (whole !== undefined) return made('return (' + whole + '\n)')
      const parts = divided(source)
      if (parts !== undefined) return parts
    }
    return (path) => run(path, '\n\n' + source)
  }
})
