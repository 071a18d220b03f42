// Runs by itself for every event of the topic `orders`, and shows its sums at /orders-report.
//
// An event is acknowledged when `consume` returns. When it throws, the event comes again, and
// after some attempts it is set aside: what is no order is not worth that, so it is only logged.

async function consume(event, env) {
  const { customer, total } = event.payload;
  if (typeof customer !== "string" || typeof total !== "number") {
    console.warn("no order", event.id);
    return;
  }
  // An event may come twice: each is written once, under its own id.
  await env.store.set(`order/${customer}/${event.id}`, total);
  console.log(`${customer} ordered for ${total}`);
}

async function handler(request, env) {
  const sums = {};
  for (const key of await env.store.list({ prefix: "order/" })) {
    const customer = key.split("/")[1];
    sums[customer] = (sums[customer] ?? 0) + (await env.store.get(key));
  }
  return sums;
}
