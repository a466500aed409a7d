//! A host with an app `web`, made as `new` proposes, for the tests of gate and units.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::time::Duration;

use slotd::config::host::Scaffold;
use slotd::model::SlotName;

use crate::support::host::{Host, Root, shown, text};
use crate::support::wait_until;

/// Long enough for anything that isn't waited for by design.
pub const SOON: Duration = Duration::from_secs(15);

/// A host with an app `web`, made as `new` proposes.
pub struct Site {
    /// The host it is on.
    pub host: Host,
}

impl Site {
    /// Boots a host and makes the app there, with a socket if there is a port.
    pub fn new(hint: &str, root: Root, port: Option<u16>) -> Site {
        let host = Host::boot(hint, root);
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        host.ok("mkdir -p /usr/lib/slotd");
        host.push(env!("CARGO_BIN_EXE_slotd-gate"), "/usr/lib/slotd/slotd-gate");
        for (from, to) in [
            ("systemd/slotd-settle@.service", "/usr/lib/systemd/system/slotd-settle@.service"),
            ("packaging/sysusers.d/slotd.conf", "/usr/lib/sysusers.d/slotd.conf"),
            ("packaging/tmpfiles.d/slotd.conf", "/usr/lib/tmpfiles.d/slotd.conf"),
        ] {
            host.write(to, std::fs::read(checkout.join(from)).expect("readable"));
        }
        host.ok("systemd-sysusers && systemd-tmpfiles --create slotd.conf");

        let scaffold =
            Scaffold { port, ..Scaffold::new("web".parse().expect("app"), "/usr/bin/python3 /srv/web/server.py") };
        let plan = scaffold.plan().expect("a plan");
        for file in &plan.files {
            let path = file.path.to_str().expect("text");
            host.write(path, &file.contents);
            host.ok(&format!("chmod {:o} {path}", file.mode));
        }
        // Not slotctl nor slotd: they aren't there.
        for command in plan.commands.iter().filter(|command| !command.join(" ").contains("slotd.service")) {
            if command[0] != "slotctl" {
                host.ok(&command.join(" "));
            }
        }
        // The host boots to basic.target, and no further.
        host.ok("systemctl add-wants basic.target web.service 2>&1");
        Site { host }
    }

    /// Publishes a slot as slotd does: a frozen tree, an instance, a record; all below a folder of slotd's alone.
    pub fn publish(&self, slot: &str, mode: &str) {
        let name: SlotName = slot.parse().expect("slot");
        let encoded = name.encoded();
        let record = format!(
            r#"{{"format":1,"app":"web","slot":"{slot}","units":[{{"name":"web@","instances":1}}],"env":{{}}}}"#
        );
        let root = "/var/lib/slotd/apps/web";
        let tree = format!("{root}/trees/{encoded}");
        self.host.write(&format!("{tree}/server.py"), include_str!("server.py"));
        self.host.write(&format!("{tree}/version"), slot);
        self.host.write(&format!("{tree}/mode"), mode);
        self.host.write(&format!("{root}/slots/{encoded}/slot.json"), record);
        self.host.write(&format!("{root}/instances/{encoded}/env"), format!("SLOTD_SLOT={slot}\n"));
        self.host.ok(&format!(
            "chmod 0555 {tree} && ln -s {tree} {root}/instances/{encoded}/root && \
             chown -R -h slotd: {root} && chmod 0700 {root}"
        ));
    }

    /// Lets a link name the slot, by a rename.
    pub fn make_current(&self, slot: &str) {
        let encoded = slot.parse::<SlotName>().expect("slot").encoded();
        self.host.ok(&format!("cd /var/lib/slotd/apps/web && ln -s slots/{encoded} next && mv -T next current"));
    }

    /// Publishes a good slot and makes it current.
    pub fn deploy(&self, slot: &str) {
        self.publish(slot, "good");
        self.make_current(slot);
    }

    /// Sets the hold mark of a deployment under way.
    pub fn hold(&self, millis: u64) {
        let boottime = "python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000)'";
        let now: u64 = self.host.ok(boottime).parse().expect("a number");
        let mark = format!(r#"{{"boot":"{}","until_ms":{},"deployment":"web-7"}}"#, self.host.boot_id(), now + millis);
        self.host.write("/run/slotd/hold/.web", mark);
        self.host.ok("mv /run/slotd/hold/.web /run/slotd/hold/web");
    }

    /// "active", "inactive", "failed" …
    pub fn state(&self, unit: &str) -> String {
        text(&self.host.sh(&format!("systemctl is-active {unit}")))
    }

    /// Waits until the unit is in that state.
    #[track_caller]
    pub fn until(&self, unit: &str, state: &str) {
        wait_until(&format!("{unit} {state}"), SOON, || match self.state(unit) {
            now if now == state => Ok(()),
            now => Err(format!("{now}\n{}", self.journal())),
        });
    }

    /// What the address answers, waiting up to 30 s.
    pub fn ask(&self) -> String {
        let answer = self.host.sh("curl -sS --max-time 30 http://127.0.0.1:8080/");
        if answer.status.success() { text(&answer) } else { shown(&answer) }
    }

    /// The last lines of the app's units and of settle.
    pub fn journal(&self) -> String {
        self.host.ok("journalctl -b --no-pager -o short-monotonic -u 'web*' -u 'slotd-settle*' | tail -n 60")
    }

    /// How many times systemd has begun to start the unit in this boot.
    pub fn starts(&self, unit: &str) -> usize {
        let line = format!("journalctl -b -o cat -u {unit} | grep -c -e '^Starting ' -e ' starts$' || true");
        self.host.ok(&line).parse().expect("a number")
    }
}

/// Tells the story on both systems.
pub fn on_both(hint: &str, port: Option<u16>, story: impl Fn(&Site)) {
    for root in [Root::Own, Root::Trixie] {
        story(&Site::new(hint, root, port));
    }
}
