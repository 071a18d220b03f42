export default {
  fetch() {
    return Response.json({ msg: "Hello John" });
  },
};
