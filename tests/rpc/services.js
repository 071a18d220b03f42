// What the official client of the NATS services protocol sees; prints one JSON object.
//
//   node services.js FOLDER_WITH_NODE_MODULES NATS_URL SERVICE_NAME ID SUBJECT BODY
const { createRequire } = require("node:module");
const [folder, servers, name, id, subject, body] = process.argv.slice(2);
const from = createRequire(folder + "/index.js");
const { connect } = from("@nats-io/transport-node");
const { Svcm } = from("@nats-io/services");

async function all(answers) {
  const found = [];
  for await (const answer of await answers) found.push(answer);
  return found;
}

async function main() {
  const nc = await connect({ servers });
  const client = new Svcm(nc).client({ strategy: "stall", maxWait: 5000, stall: 200 });
  const seen = {
    ping: await all(client.ping()),
    pingName: await all(client.ping(name)),
    pingId: await all(client.ping(name, id)),
    pingOther: await all(client.ping("nobody")).catch((error) => [error.message]),
    info: await all(client.info(name)),
    answer: (await nc.request(subject, body)).string(),
    stats: await all(client.stats(name)),
  };
  console.log(JSON.stringify(seen));
  await nc.close();
}

main();
