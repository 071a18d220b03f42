// As attacker.py, on Deno that was given all permissions: by its own foreign function interface.

const [path] = Deno.args;
const pointer = { parameters: Array(7).fill("i64"), result: "i64" };
const libc = Deno.dlopen("libc.so.6", {
  syscall: pointer,
  __errno_location: { parameters: [], result: "pointer" },
});
const errno = new Deno.UnsafePointerView(libc.symbols.__errno_location());
const kept = [];

function argument(said, results) {
  if (typeof said === "number") return BigInt(said);
  if ("of" in said) return results[said.of][0];
  let bytes;
  if ("text" in said) bytes = Uint8Array.from(said.text + "\0", (c) => c.charCodeAt(0));
  else if ("words" in said) bytes = new Uint8Array(BigInt64Array.from(said.words, BigInt).buffer);
  else bytes = new Uint8Array(said.room);
  kept.push(bytes);
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}

function made(calls) {
  const results = [];
  for (const [number, ...said] of calls) {
    const given = said.map((one) => argument(one, results));
    while (given.length < 6) given.push(0n);
    const result = libc.symbols.syscall(BigInt(number), ...given);
    results.push([result, result === -1n ? errno.getInt32() : 0]);
  }
  return results.map(([result, failed]) => [Number(result), failed]);
}

const listener = Deno.listen({ transport: "unix", path });
for await (const connection of listener) {
  let text = "";
  const decoder = new TextDecoder();
  try {
    for await (const part of connection.readable.pipeThrough(new TransformStream())) {
      text += decoder.decode(part);
      if (!text.endsWith("\n")) continue;
      const answer = JSON.stringify(made(JSON.parse(text))) + "\n";
      text = "";
      await connection.write(new TextEncoder().encode(answer));
    }
  } catch {
    // Whoever asked has gone.
  }
}
