export default {
  fetch() {
    return new Response('{"msg":"Hello John"}', { headers: { "content-type": "application/json" } });
  },
};
