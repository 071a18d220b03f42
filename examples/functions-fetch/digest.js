// Asks several places at the same time and tells what each said; one that fails spoils nothing.
//
// The places are a variable of the deploy, and --allow-host says where it may go at all.

async function handler(request, env) {
  const started = Date.now();
  const places = env.PLACES.split(",");
  const found = await Promise.all(places.map(look));
  return { places: found, milliseconds: Date.now() - started };
}

async function look(url) {
  try {
    const answer = await fetch(url);
    const text = await answer.text();
    return { url, status: answer.status, characters: text.length };
  } catch (error) {
    return { url, error: error.message };
  }
}
