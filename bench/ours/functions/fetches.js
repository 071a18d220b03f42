async function handler(request, env) {
  const response = await fetch(env.URL);
  return response.text();
}
