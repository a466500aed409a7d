//! The programs that are moved: what their releases hold, and how they are started with and without slotd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::queue;
use crate::support::host::shown;
use crate::support::world::World;

/// A program whose answers are `version X slot Y …`.
pub struct Program {
    /// In the printed lines; the sample server's has none.
    pub name: &'static str,
    /// How slotd's unit starts it.
    pub exec: &'static str,
    /// Further words of `slotctl new`.
    pub new: &'static str,
    /// How a plain unit starts it on a port of its own.
    plain: &'static str,
    /// `Type=` of both.
    kind: &'static str,
    /// The most moves; beside the sample server it is the program that is shown, not the route.
    pub most: u32,
    /// Fills the folder of a release, but for VERSION.
    fill: fn(&World, &Path),
}

/// examples/sample-server, which closes no connection unannounced.
pub const SAMPLE: Program = Program {
    name: "",
    exec: "/srv/web/bin/web",
    new: "",
    plain: "/srv/plain/current/bin/web --port 8090",
    kind: "notify",
    most: u32::MAX,
    fill: |world, tree| {
        // It lies on the host once; the releases only start it.
        world.supply_server();
        fs::create_dir(tree.join("bin")).expect("made");
        write_program(&tree.join("bin/web"), b"#!/bin/sh\nexec /usr/local/lib/sample-server \"$@\"\n");
    },
};

/// The sample server, and the queue worker beside it as bin/worker.
pub const SAMPLE_WITH_WORKER: Program = Program {
    fill: |world, tree| {
        (SAMPLE.fill)(world, tree);
        write_program(&tree.join("bin/worker"), queue::START.as_bytes());
    },
    ..SAMPLE
};

/// Debian's gunicorn; its workers close each connection after an answer.
pub const GUNICORN: Program = Program {
    name: "-gunicorn",
    exec: "\"/usr/bin/gunicorn --workers 2 --chdir /srv/web app:app\"",
    new: "",
    plain: "/usr/bin/gunicorn --workers 2 --bind 127.0.0.1:8090 app:app",
    kind: "notify",
    most: 50,
    fill: |_, tree| {
        fs::copy(checkout().join("examples/wsgi/app.py"), tree.join("app.py")).expect("copied");
    },
};

/// The same on a port of its own.
pub const GUNICORN_ON_PORT: Program =
    Program { exec: "'/usr/bin/gunicorn --workers 2 --bind [::]:${PORT} --chdir /srv/web app:app'", ..GUNICORN };

/// A server on node's http.
pub const NODE: Program = Program {
    name: "-node",
    exec: "\"/usr/bin/node /srv/web/server.js\"",
    new: "--type exec",
    plain: "/usr/bin/node server.js",
    kind: "exec",
    most: 50,
    fill: |_, tree| {
        fs::copy(programs().join("server.js"), tree.join("server.js")).expect("copied");
    },
};

/// A server on Go's net/http.
pub const GO: Program = Program {
    name: "-go",
    exec: "/srv/web/server",
    new: "",
    plain: "/srv/plain/current/server",
    kind: "notify",
    most: 50,
    fill: |_, tree| build_go(&programs().join("server.go"), &tree.join("server")),
};

/// examples/node-server, which starts quiet and goes by the two signals.
pub const NODE_BY_SIGNAL: Program = Program {
    exec: "\"/usr/bin/node /srv/web/server.js\"",
    new: "",
    kind: "notify",
    fill: |_, tree| {
        fs::copy(checkout().join("examples/node-server/server.js"), tree.join("server.js")).expect("copied");
    },
    ..NODE
};

/// examples/go-server, which does so too.
pub const GO_BY_SIGNAL: Program =
    Program { fill: |_, tree| build_go(&checkout().join("examples/go-server/main.go"), &tree.join("server")), ..GO };

impl Program {
    /// Puts the folder of a release onto the host, below /root/trees, and packs it. Returns the artifact's path there.
    #[track_caller]
    pub fn release(&self, world: &World, version: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path().join(version);
        fs::create_dir(&tree).expect("made");
        fs::write(tree.join("VERSION"), version).expect("written");
        (self.fill)(world, &tree);
        let there = format!("/root/trees/{version}");
        world.host.ok("mkdir -p /root/trees");
        world.host.push(&tree, &there);
        world.pack(&there, &format!("web-{version}.tar.zst"))
    }

    /// A unit as one writes it without slotd: it owns port 8090 and runs what /srv/plain/current names.
    pub fn plain_unit(&self) -> String {
        format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType={}\nDynamicUser=yes\nWorkingDirectory=/srv/plain/current\n\
             Environment=PORT=8090\nExecStart={}\nRestart=always\nRestartSec=1s\nKillMode=mixed\n",
            self.kind, self.plain
        )
    }
}

fn build_go(source: &Path, program: &Path) {
    let build = Command::new("go")
        .args(["build", "-o"])
        .args([program, source])
        .envs([("CGO_ENABLED", "0"), ("GOPROXY", "off"), ("GO111MODULE", "off"), ("GOFLAGS", "")])
        .env("GOCACHE", checkout().join("target/go-cache"))
        .output()
        .expect("go starts: tests/host/host setup");
    assert!(build.status.success(), "{}", shown(&build));
}

fn write_program(path: &Path, text: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn programs() -> PathBuf {
    checkout().join("tests/handover/programs")
}
