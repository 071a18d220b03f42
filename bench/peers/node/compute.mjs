// The compute set behind Node's http: the same file as the function's, the piece by its name.
import http from "node:http";
import { PIECES } from "../../ours/functions/compute.js";

const server = http.createServer((request, response) => {
  response.end(JSON.stringify(PIECES[request.url.slice(1)]()));
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
