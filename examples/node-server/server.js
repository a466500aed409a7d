// A Node.js server that loses no request when another version takes its place, of Node's own modules alone.
//
// What it does for that is what examples/sample-server does; its comments say why. Three things are Node's own:
//
// - server.close() closes connections that idle, at once (from Node 19 on), and with them requests that are on their way.
//   So a stop closes the listener alone, by net's close(), lets each connection have one last answer, and only then
//   closes what idles.
// - Whoever closes a listener closes its descriptor, and there is no dup(): a process can't accept again. So this one
//   keeps the listener, and a process of its own accepts, begun by SIGUSR1 and ended by SIGUSR2.
// - There are no datagrams over Unix sockets: systemd is told by systemd-notify, a process of its own. The unit needs
//   NotifyAccess=all.
"use strict";

const { execFile, spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");

// How long a stop waits for the next request of connections that idle, before it closes them unasked.
const LINGER_MS = 500;

// The first descriptor that systemd hands over (sd_listen_fds(3)), and where it stands in the process that accepts.
const LISTENER = 3;

const version = read("VERSION") ?? process.env.SLOTD_VERSION;
let leaving = false; // each answer is its connection's last

function read(file) {
  try {
    return fs.readFileSync(file, "utf8").trim();
  } catch {
    return undefined;
  }
}

function answer(request, response) {
  const texts = {
    "/": `version ${version} slot ${process.env.SLOTD_SLOT ?? "-"} pid ${process.pid}\n`,
    "/health": `ok version ${version}\n`,
  };
  const text = texts[request.url] ?? "there is / and /health\n";
  // Asked when the answer is ready, not when the request came: a stop in between counts.
  if (leaving) response.setHeader("Connection", "close");
  const head = { "Content-Type": "text/plain", "Content-Length": Buffer.byteLength(text), "X-Version": version };
  response.writeHead(request.url in texts ? 200 : 404, head);
  response.end(text);
}

// The process that accepts: from its start until it is told to leave.
function accept() {
  const server = http.createServer(answer);
  // Node's default of 5 s has it close connections on which a proxy's next request is on its way.
  server.keepAliveTimeout = 75_000;
  const sockets = new Set();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const own = process.argv[3];
  // listen() is called anew on the shared listener: with Node's default its backlog would shrink to 511 for all.
  const where = own ? { port: Number(own), host: "::" } : { fd: LISTENER };
  server.listen({ ...where, backlog: 4096 }, () => process.send("accepting"));
  process.on("message", () => {
    leaving = true;
    // Not server.close(), which closes what idles. From here on who comes waits in the listener.
    net.Server.prototype.close.call(server, () => process.exit(0));
    process.send("leaving");
    setTimeout(() => {
      server.closeIdleConnections();
      // Those that have asked nothing yet don't count as idle.
      sockets.forEach((socket) => socket.bytesRead === 0 && socket.destroy());
    }, LINGER_MS);
  });
  // Without the main process nobody could tell it anything any more.
  process.on("disconnect", () => process.exit(1));
  // Signals are for the main process; one that ends here is Ctrl-C in a terminal, which goes to both.
  process.on("SIGINT", () => {});
}

// The main process: it is told, and answers health questions.
function main() {
  const shared = process.env.LISTEN_PID === String(process.pid) && process.env.LISTEN_FDS !== "0";
  const health = process.env.HEALTH_SOCKET;
  let acceptor; // the process that accepts now
  const running = new Set(); // with those that finish
  const then = (status) => () => notify(`--status=${status}`);

  function open(opened) {
    if (acceptor) return opened();
    const stdio = ["inherit", "inherit", "inherit", shared ? LISTENER : "ignore", "ipc"];
    const child = spawn(process.execPath, [__filename, "accept", shared ? "" : process.env.PORT], { stdio });
    acceptor = child;
    running.add(child);
    child.once("message", opened);
    child.once("exit", (code) => {
      running.delete(child);
      // It ended unasked: so does all, and systemd starts it anew.
      if (acceptor === child) process.exit(code || 1);
    });
  }

  function close(closed) {
    if (!acceptor) return closed();
    acceptor.once("message", closed);
    acceptor.send("leave");
    acceptor = undefined;
  }

  // Before READY=1: without a handler SIGUSR2 ends the process, and SIGUSR1 starts Node's debugger.
  process.on("SIGUSR1", () => open(then("accepting")));
  process.on("SIGUSR2", () => close(then("quiet")));
  process.on("SIGTERM", () => {
    close(() => {
      notify("STOPPING=1");
      const end = () => {
        if (running.size > 0) return;
        if (health) fs.rmSync(health, { force: true });
        process.exit(0);
      };
      running.forEach((child) => child.once("exit", end));
      end();
    });
  });

  const ready = (status) => () => notify("--ready", `--status=${status}`);
  const begin = () => (process.env.SLOTD_ACCEPT === "signal" ? ready("quiet")() : open(ready("accepting")));
  if (health) {
    fs.rmSync(health, { force: true });
    http.createServer(answer).listen(health, begin);
  } else {
    begin();
  }
}

function notify(...words) {
  if (!process.env.NOTIFY_SOCKET) return;
  execFile("systemd-notify", words, (error) => error && console.error(error.message));
}

if (process.argv[2] === "accept") accept();
else main();
