// A JSON API: GET, PUT and DELETE of notes at /notes/ID, and a list of them at /notes.
//
// Records are the function's own: `env.store` is there because it was granted at the deploy.

async function handler(request, env) {
  const id = decodeURIComponent(request.path);
  if (!id) {
    if (request.method !== "GET") return refused(405, "a note is put at /notes/ID");
    return { notes: await env.store.list({ prefix: "note/" }).then(withoutPrefix) };
  }
  const key = `note/${id}`;
  switch (request.method) {
    case "GET": {
      const note = await env.store.get(key);
      return note === null ? refused(404, `there is no note ${id}`) : note;
    }
    case "PUT": {
      const note = await json(request);
      if (typeof note?.text !== "string") return refused(400, 'a note is {"text": "…"}');
      await env.store.set(key, { text: note.text, changed: new Date().toISOString() });
      return new Response(null, { status: 204 });
    }
    case "DELETE":
      await env.store.delete(key);
      return new Response(null, { status: 204 });
    default:
      return refused(405, "GET, PUT and DELETE are known here");
  }
}

const withoutPrefix = (keys) => keys.map((key) => key.slice("note/".length));

async function json(request) {
  try {
    return await request.json();
  } catch {
    return null;
  }
}

function refused(status, why) {
  return new Response(JSON.stringify({ error: why }), {
    status,
    headers: { "content-type": "application/json" },
  });
}
