// What a page does that speaks gRPC-Web by Connect's client; prints what it has seen as JSON.
const [, , packages, url, descriptors, format] = process.argv;
const { createRequire } = require("module");
const { readFileSync } = require("fs");
const load = createRequire(packages + "/");
const { createFileRegistry, fromBinary } = load("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = load("@bufbuild/protobuf/wkt");
const { createClient, ConnectError, Code } = load("@connectrpc/connect");
const { createGrpcWebTransport } = load("@connectrpc/connect-web");

const set = fromBinary(FileDescriptorSetSchema, readFileSync(descriptors));
const service = createFileRegistry(set).getService("shop.Shop");
const transport = createGrpcWebTransport({ baseUrl: url, useBinaryFormat: format === "binary" });
const shop = createClient(service, transport);

async function main() {
  const seen = {};
  const headers = { "foobar": "x", "micro-trace": "a".repeat(32) };
  let trailer;
  const greeting = await shop.greet(
    { name: "Ann", big: 9007199254740993n, data: new Uint8Array([1, 255]) },
    { headers, onTrailer: (told) => (trailer = told) },
  );
  seen.greeting = { ...greeting, big: String(greeting.big), data: [...greeting.data] };
  delete seen.greeting.$typeName;
  delete seen.greeting.$unknown;
  seen.trace = trailer.get("micro-trace");
  seen.ticks = [];
  for await (const tick of shop.count({ to: 3n })) seen.ticks.push(Number(tick.value));
  for (const [name, call] of Object.entries({
    refused: () => shop.greet({ name: "nobody" }),
    wrong: () => shop.greet({}),
    late: () => shop.greet({ name: "late" }, { timeoutMs: 100 }),
  })) {
    try {
      await call();
    } catch (reason) {
      const error = ConnectError.from(reason);
      seen[name] = [Code[error.code], error.rawMessage, error.details.map((one) => one.type)];
    }
  }
  seen.some = [];
  try {
    for await (const tick of shop.count({ to: 2n, fail: true })) seen.some.push(Number(tick.value));
  } catch (reason) {
    seen.broken = ConnectError.from(reason).rawMessage;
  }
  const given = new AbortController();
  try {
    for await (const tick of shop.count({ to: 1n, stand: true }, { signal: given.signal })) {
      given.abort();
    }
  } catch (reason) {
    seen.aborted = Code[ConnectError.from(reason).code];
  }
  console.log(JSON.stringify(seen));
}

main();
