// An HTTP server on Node's own library that can be moved from one version to the next behind a shared socket.
//
// It takes the listener that systemd hands over, or binds $PORT. Node has no word for READY=1: run it with
// Type=exec and a health path.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");

// The first descriptor that systemd hands over: sd_listen_fds(3).
const FIRST = 3;
// How long connections that idle may still ask after SIGTERM, in milliseconds.
const LINGER = 500;

const version = fs.readFileSync(`${__dirname}/VERSION`, "utf8").trim();
const slot = process.env.SLOTD_SLOT ?? "-";
let stopping = false;

const server = http.createServer((request, answer) => {
  const known = { "/": `version ${version} slot ${slot} pid ${process.pid}\n`, "/health": `ok version ${version}\n` };
  const text = known[request.url];
  if (stopping) answer.setHeader("Connection", "close");
  answer.writeHead(text ? 200 : 404, { "Content-Type": "text/plain" });
  answer.end(text ?? "there is / and /health\n");
});

server.listen(process.env.LISTEN_FDS ? { fd: FIRST } : { port: Number(process.env.PORT) });

process.on("SIGTERM", () => {
  stopping = true;
  // Accepts no more. Not http's own close, which in newer versions cuts what idles at once.
  net.Server.prototype.close.call(server);
  setTimeout(() => server.closeIdleConnections(), LINGER);
  // The process ends with its last connection.
});
