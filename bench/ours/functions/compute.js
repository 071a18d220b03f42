// Pieces of plain JavaScript of some milliseconds each, from several corners of the language.

function fib(n) {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

function random() {
  let seed = 42;
  return () => (seed = (seed * 1103515245 + 12345) % 2147483648);
}

function sort() {
  const next = random();
  const numbers = Array.from({ length: 30000 }, next);
  return numbers.sort((one, other) => one - other)[15000];
}

function matrix() {
  const size = 180;
  const one = new Float64Array(size * size).map((_, at) => at % 7);
  const product = new Float64Array(size * size);
  for (let row = 0; row < size; row++)
    for (let column = 0; column < size; column++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += one[row * size + k] * one[k * size + column];
      product[row * size + column] = sum;
    }
  return product[777];
}

function words() {
  const next = random();
  const counts = new Map();
  for (let at = 0; at < 60000; at++) {
    const word = `w${next() % 500}`;
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].sort(([, one], [, other]) => other - one)[0][1] > 0;
}

function json() {
  const records = Array.from({ length: 2000 }, (_, id) => ({ id, name: `name ${id}`, tags: ["a", "b"] }));
  let size = 0;
  for (let round = 0; round < 5; round++) size += JSON.stringify(JSON.parse(JSON.stringify(records))).length;
  return size;
}

function patterns() {
  const text = "the quick brown fox 2026-11-21 jumps over the lazy dog 10:42 ".repeat(4000);
  const found = text.match(/\d{4}-\d{2}-\d{2}|\b[a-z]{5}\b/g).length;
  return found + text.replace(/(\w+) (\w+)/g, "$2 $1").length;
}

export const PIECES = { fib: () => fib(30), sort, matrix, words, json, patterns };

export default {
  fetch(request) {
    const piece = new URL(request.url).pathname.split("/").pop();
    return Response.json(PIECES[piece]());
  },
};
