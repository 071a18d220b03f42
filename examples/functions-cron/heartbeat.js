// Runs on a schedule, and shows at /heartbeat when it last did.

async function scheduled(event, env) {
  const beats = ((await env.store.get("beats")) ?? 0) + 1;
  await env.store.set("beats", beats);
  await env.store.set("last", new Date(event.scheduledTime).toISOString());
  console.log(`beat ${beats} of ${event.cron}`);
}

async function handler(request, env) {
  return { beats: (await env.store.get("beats")) ?? 0, last: await env.store.get("last") };
}
