// A service of the platform without a line of it: the NATS services protocol is enough.
import { readFileSync } from "node:fs";
import { ServiceError, Svcm } from "@nats-io/services";
import { connect, credsAuthenticator } from "@nats-io/transport-node";

const { NATS_URL, NATS_CREDS, NATS_INBOX_PREFIX, MICRO_SERVICE_NAME = "node" } = process.env;

const nc = await connect({
  servers: NATS_URL,
  authenticator: NATS_CREDS ? credsAuthenticator(readFileSync(NATS_CREDS)) : undefined,
  inboxPrefix: NATS_INBOX_PREFIX,
  maxReconnectAttempts: -1,
});

// The protocol knows no dots in names; the true one stands in the metadata.
const name = MICRO_SERVICE_NAME.replaceAll(".", "-");
const service = await new Svcm(nc).add({
  name,
  version: "1.0.0",
  metadata: { "micro.service": MICRO_SERVICE_NAME },
});

// The subjects begin with the service's name: the engine lets it listen to no others.
const own = service.addGroup(name);

/** What a handler returns is the answer, what it throws the error, at every door. */
function answering(handler) {
  return async (_, msg) => {
    try {
      const request = msg.data.length ? msg.json() : {};
      msg.respond(JSON.stringify(await handler(request)));
    } catch (error) {
      msg.respondError(error instanceof ServiceError ? error.code : 500, error.message);
    }
  };
}

/** The request and the answer as JSON Schema: for flags, forms and gRPC. */
function shapes(request, response) {
  const object = (properties) => ({ type: "object", properties });
  return { "micro.schema": JSON.stringify({ request: object(request), response: object(response) }) };
}

own.addEndpoint("call", {
  metadata: shapes({ name: { type: "string" } }, { msg: { type: "string" } }),
  handler: answering(({ name = "World" }) => ({ msg: `Hello ${name}` })),
});

own.addGroup("math").addEndpoint("divide", {
  metadata: shapes({ a: { type: "number" }, b: { type: "number" } }, { result: { type: "number" } }),
  handler: answering(({ a, b }) => {
    if (!b) throw new ServiceError(400, "b: nothing can be divided by it");
    return { result: a / b };
  }),
});

process.once("SIGTERM", () => nc.drain());
console.log(`${MICRO_SERVICE_NAME} answers`);
