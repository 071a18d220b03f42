// Errors of syntax in a source, and its form, without running it.

import { admit, dismiss } from "./doors.js";
import { firstLine } from "./errors.js";
import { globals, match, stringify, vm } from "./platform.js";
import { javascript } from "./forms.js";

const { Blob, URL } = globals;

/** What a source with `import` or `export` fails with when it is read as a script. */
const MODULAR =
  /import statement|import declarations|Unexpected token 'export'|import\.meta|Unexpected token '\{'/;

/** A module that fails, so that whatever imports it is read, and not run. */
const STOP = "data:text/javascript,throw 0";

/** Look at a source; a promise of what `wire.Checked` has. */
export async function check(source) {
  const { code, file, language } = source;
  const typed = language === "typescript";
  let plain;
  try {
    plain = typed ? javascript(code) : code;
  } catch (error) {
    return await located(code, typed, error);
  }
  const wrong = scriptError(plain, file);
  if (wrong === null) {
    const handlers = handlersOf(plain);
    return { form: handlers.length > 0 ? "handler" : "script", handlers };
  }
  const modular = moduleError(plain, file);
  if (modular === null) return { form: "module" };
  return await located(code, typed, MODULAR.test(wrong.message) ? modular : wrong);
}

function scriptError(code, file) {
  try {
    new vm.Script(code, { filename: file });
    return null;
  } catch (error) {
    return error;
  }
}

function moduleError(code, file) {
  try {
    new vm.SourceTextModule(code, { identifier: file });
    return null;
  } catch (error) {
    return error;
  }
}

/** The handlers that a script has of its own: those that cannot be declared once more. */
function handlersOf(code) {
  const found = [];
  for (const name of ["handler", "consume", "scheduled"]) {
    if (scriptError(`let ${name};${code}`, "") !== null) found[found.length] = name;
  }
  return found;
}

/** The place of an error: the engine's loader of modules tells it, where `vm` does not. */
async function located(code, typed, error) {
  const type = typed ? "application/typescript" : "text/javascript";
  const url = URL.createObjectURL(new Blob([`${code}\nimport ${stringify(STOP)};`], { type }));
  admit(url);
  admit(STOP);
  try {
    await import(url);
  } catch (found) {
    const place = match(/:(\d+):(\d+)$/, found?.message ?? "");
    if (place !== null) {
      const message = firstLine(found.message).replace(/^SyntaxError: /, "").replace(
        / at blob:\S+$/,
        "",
      );
      return { line: +place[1], column: +place[2], message };
    }
  } finally {
    dismiss(url);
    URL.revokeObjectURL(url);
  }
  return { message: `${error.message}` };
}
