// Node's own http, as a careful author would write it: a constant hello, and JSON echoed.
const http = require("node:http");

const HELLO = Buffer.from('{"msg":"Hello John"}');

function answer(response, body) {
  response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
}

const server = http.createServer((request, response) => {
  if (request.method === "GET") return answer(response, HELLO);
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const sent = JSON.parse(Buffer.concat(parts).toString());
    answer(response, Buffer.from(JSON.stringify(sent)));
  });
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
