//! The load on a host: wrk, which keeps the processors busy with new connections, and the load client, which counts.

use std::path::Path;

use serde_json::Value;

use crate::support::wait_until;
use crate::support::world::{PATIENCE, World};

/// Where the client lies on the host.
const CLIENT: &str = "/usr/local/lib/handover-client";
/// The client's lines: a pipe.
const LINES: &str = "/run/handover/lines";
/// What it says to them, and of anything else: a file.
const HEARD: &str = "/run/handover/heard";

/// Both at work.
pub struct Load<'a> {
    world: &'a World,
}

/// What they counted.
pub struct Counted {
    /// The client's report, see examples/handover-client.
    pub client: Value,
    /// wrk's, see wrk.lua.
    pub wrk: Value,
}

/// Puts what the load needs onto the host, once.
#[track_caller]
pub fn supply(world: &World) {
    let client = Path::new(env!("CARGO_BIN_EXE_slotd")).with_file_name("examples/handover-client");
    world.host.push(client, CLIENT);
    world.host.push(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/handover/wrk.lua"), "/usr/local/lib/wrk.lua");
    world.host.ok(&format!("mkdir -p /run/handover && mkfifo {LINES}"));
}

impl<'a> Load<'a> {
    /// Begins to ask the port, and returns when it is answered. `arguments` are further ones of the client.
    #[track_caller]
    pub fn start(world: &'a World, port: u16, arguments: &str) -> Load<'a> {
        world.host.ok("rm -f /run/handover/*.json");
        // Units, so that an end is a signal. The pipe is open for writing too, so that it has no end.
        world.host.ok(&format!(
            "systemd-run --quiet --unit=load-client -p LimitNOFILE=4096 \
             sh -c 'exec {CLIENT} 127.0.0.1:{port} {arguments} --report /run/handover/client.json <>{LINES} 2>{HEARD}'"
        ));
        world.host.ok(&format!(
            "systemd-run --quiet --unit=load-wrk -p KillSignal=SIGINT -p LimitNOFILE=4096 \
             --setenv=REPORT=/run/handover/wrk.json \
             wrk -t 1 -c 8 -d 10h --timeout 60s -H 'Connection: close' -s /usr/local/lib/wrk.lua http://127.0.0.1:{port}/"
        ));
        Load { world }
    }

    /// Tells the client that a move to this slot begins.
    #[track_caller]
    pub fn expect(&self, slot: &str) {
        self.tell(&format!("expect {slot}"));
    }

    /// Tells the client that the switch to this slot is over.
    #[track_caller]
    pub fn mark(&self, slot: &str) {
        self.tell(&format!("mark {slot}"));
    }

    /// Says a line, and returns when it holds: what lies in the pipe doesn't yet, and a switch may be faster.
    #[track_caller]
    fn tell(&self, line: &str) {
        let heard = || self.world.host.ok(&format!("grep -cxF 'heard {line}' {HEARD} || true"));
        let before = heard();
        self.world.host.ok(&format!("echo '{line}' >{LINES}"));
        wait_until(&format!("the load client to hear {line:?}"), PATIENCE, || {
            if heard() == before { Err(self.world.host.ok(&format!("tail {HEARD}"))) } else { Ok(()) }
        });
    }

    /// Ends both.
    #[track_caller]
    pub fn end(self) -> Counted {
        self.world.host.ok("systemctl stop load-client load-wrk");
        let report = |name: &str| {
            wait_until(&format!("the report of {name}"), PATIENCE, || {
                let text = self.world.host.sh(&format!("cat /run/handover/{name}.json"));
                serde_json::from_slice(&text.stdout).map_err(|error| {
                    let said = format!("journalctl -u load-{name} --no-pager -n 20; tail {HEARD}");
                    format!("{error}: {}", self.world.host.ok(&said))
                })
            })
        };
        Counted { client: report("client"), wrk: report("wrk") }
    }
}

impl Counted {
    /// A count of the client's, by its key.
    #[track_caller]
    pub fn count(&self, key: &str) -> u64 {
        self.client[key].as_u64().unwrap_or_else(|| panic!("{key}: {}", self.client))
    }

    /// The client's failed requests of one kind of connection, `new` or `keep_alive`.
    #[track_caller]
    pub fn failed(&self, kind: &str) -> u64 {
        let failed = self.client[kind]["failed"].as_object().unwrap_or_else(|| panic!("{kind}: {}", self.client));
        failed.values().filter_map(Value::as_u64).sum()
    }

    /// wrk's.
    pub fn wrk_failed(&self) -> u64 {
        ["connect", "read", "write", "timeout", "status"].iter().filter_map(|key| self.wrk[key].as_u64()).sum()
    }

    /// How many answers this version gave the client.
    pub fn answers(&self, version: &str) -> u64 {
        let versions = self.client["versions"].as_array().into_iter().flatten();
        versions.filter(|seen| seen["version"] == version).filter_map(|seen| seen["answers"].as_u64()).sum()
    }

    /// What is printed of it.
    pub fn line(&self, name: &str, deployments: u32) -> String {
        format!(
            "handover {name} deployments={deployments} requests={} failed={} retried={} stale={} slowest_ms={} gap_ms={} \
             wrk={} wrk_failed={}",
            self.count("requests"),
            self.count("failed"),
            self.count("retried"),
            self.count("stale"),
            self.count("slowest_ms"),
            self.count("gap_ms"),
            self.wrk["requests"],
            self.wrk_failed(),
        )
    }
}
