"""The files of a new service in JavaScript: the NATS services protocol, and nothing of ours."""

from __future__ import annotations

import json

from microcosmos.base import names

# Pinned: later transports need Node 22, and npm has no later client of services.
_PACKAGES = {"@nats-io/services": "3.0.0-25", "@nats-io/transport-node": "3.0.0"}

_SERVICE = """\
// {title}: say what it is for.
import {{ readFileSync }} from "node:fs";
import {{ ServiceError, Svcm }} from "@nats-io/services";
import {{ connect, credsAuthenticator }} from "@nats-io/transport-node";
import {{ hello }} from "./hello.mjs";

const {{ NATS_URL, NATS_CREDS, NATS_INBOX_PREFIX, MICRO_SERVICE_NAME = "{name}" }} = process.env;

const nc = await connect({{
  servers: NATS_URL,
  authenticator: NATS_CREDS ? credsAuthenticator(readFileSync(NATS_CREDS)) : undefined,
  inboxPrefix: NATS_INBOX_PREFIX,
  maxReconnectAttempts: -1,
}});

// The protocol knows no dots in names; the true one stands in the metadata.
const name = MICRO_SERVICE_NAME.replaceAll(".", "-");
const service = await new Svcm(nc).add({{
  name,
  version: "0.1.0",
  metadata: {{ "micro.service": MICRO_SERVICE_NAME }},
}});

// The subjects begin with the service's name: the engine lets it listen to no others.
const own = service.addGroup(name);

/** What a handler returns is the answer, what it throws the error, at every door. */
function answering(handler) {{
  return async (_, msg) => {{
    try {{
      const request = msg.data.length ? msg.json() : {{}};
      msg.respond(JSON.stringify(await handler(request)));
    }} catch (error) {{
      msg.respondError(error instanceof ServiceError ? error.code : 500, error.message);
    }}
  }};
}}

own.addEndpoint("call", {{
  // The request and the answer as JSON Schema: for flags, forms and gRPC.
  metadata: {{
    "micro.schema": JSON.stringify({{
      request: {{ type: "object", properties: {{ name: {{ type: "string" }} }} }},
      response: {{ type: "object", properties: {{ msg: {{ type: "string" }} }} }},
    }}),
  }},
  handler: answering(hello),
}});

process.once("SIGTERM", () => nc.drain());
"""

_HELLO = """\
/** Say hello. */
export function hello({ name = "World" }) {
  return { msg: `Hello ${name}` };
}
"""

_TEST = """\
import assert from "node:assert/strict";
import { test } from "node:test";
import { hello } from "../hello.mjs";

test("it says hello", () => {
  assert.deepEqual(hello({ name: "John" }), { msg: "Hello John" });
});
"""


def files(name: str) -> dict[str, str]:
    """The files of a service of a name, but for its README."""
    title = names.camel(names.handler_of(name))
    package = {
        "name": names.announced(name).lower(),
        "version": "0.1.0",
        "private": True,
        "type": "module",
        "scripts": {"start": "node service.mjs", "test": "node --test"},
        "dependencies": _PACKAGES,
    }
    return {
        "package.json": json.dumps(package, indent=2) + "\n",
        "service.mjs": _SERVICE.format(name=name, title=title),
        "hello.mjs": _HELLO,
        "tests/hello.test.mjs": _TEST,
        ".gitignore": "node_modules/\n",
    }
