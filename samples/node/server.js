"use strict";

const http = require("node:http");

const port = Number(process.env.PORT || 8080);
const instance = process.env.CF_INSTANCE_INDEX || "0";

const server = http.createServer((request, response) => {
  console.log(`${request.method} ${request.url}`);
  if (request.url === "/api/time") {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ time: new Date().toISOString(), node: process.version, instance }));
  } else if (request.url === "/") {
    response.setHeader("Content-Type", "text/plain; charset=utf-8");
    response.end(`Hello from Node ${process.version}, instance ${instance}\n`);
  } else {
    response.statusCode = 404;
    response.end("Not found\n");
  }
});

server.listen(port, "0.0.0.0", () => console.log(`Listening on port ${port}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
