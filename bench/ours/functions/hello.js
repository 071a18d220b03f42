function handler() {
  return { msg: "Hello John" };
}
