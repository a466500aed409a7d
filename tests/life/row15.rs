//! Telling somebody: the administrator's unit is started once for each end that is to be told.

use serde_json::Value;
use slotd::model::Exit;

use super::world;
use crate::support::host::{shown, text};
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{Artifact, PATIENCE, World};

/// Takes whatever is posted, a line each: path, the header Authorization, the body; and answers as a forge does.
const SINK: &str = r#"
import http.server, json
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("/root/sink.log", "a") as log:
            log.write(json.dumps([self.path, self.headers["Authorization"], body]) + "\n")
        self.send_response(201)
        self.end_headers()
        self.wfile.write(b'{"id": 7}')
http.server.HTTPServer(("127.0.0.1", 9000), Sink).serve_forever()
"#;

/// What mails are given to; it passes them on to the sink.
const SENDMAIL: &str = "#!/bin/sh\nexec curl -sf --data-binary @- http://127.0.0.1:9000/mail\n";

/// What came to the sink: path, authorization, body.
fn sunk(world: &World) -> Vec<(String, String, String)> {
    let log = text(&world.host.sh("cat /root/sink.log 2>/dev/null"));
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of the sink"));
    let part = |line: &Value, n: usize| line[n].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (part(&line, 0), part(&line, 1), part(&line, 2))).collect()
}

/// Waits for so many of them, and for the unit to have been stopped: no more comes.
#[track_caller]
fn expect_sunk(world: &World, count: usize) -> Vec<(String, String, String)> {
    wait_until(&format!("{count} at the sink, and no unit left"), PATIENCE, || {
        let units = text(&world.host.sh("systemctl list-units --plain --no-legend 'slotd-notify@*'"));
        match sunk(world) {
            told if told.len() == count && units.is_empty() => Ok(told),
            told => {
                let unit = text(&world.host.sh("journalctl --no-pager -n 50 -u 'slotd-notify@*'"));
                Err(format!("{told:?}; {units}; {unit}; {}", notes(world)))
            }
        }
    })
}

fn notes(world: &World) -> String {
    world.json("status web")["notes"].to_string()
}

/// Installs one of the examples, as its comments say.
#[track_caller]
fn example(world: &World, name: &str, environment: &str) {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/notify").join(name);
    world.host.ok("install -d /usr/local/lib/slotd /etc/systemd/system");
    let (unit, script) = ("slotd-notify@.service", format!("notify-{name}"));
    world.host.push(here.join(unit), &format!("/etc/systemd/system/{unit}"));
    world.host.push(here.join(&script), &format!("/usr/local/lib/slotd/{script}"));
    if !environment.is_empty() {
        let file = format!("/etc/slotd/notify-{name}.env");
        world.host.write(&file, environment);
        world.host.ok(&format!("chmod 0600 {file}"));
    }
    world.host.ok("systemctl daemon-reload");
    world.ok("check web");
}

/// A release that names its commit.
fn of_commit(world: &World, version: &str, commit: &str, behaviour: &str) -> Artifact {
    world.artifact_with("web", version, ".tar.zst", |tree| {
        std::fs::create_dir_all(tree.join(".slotd")).expect("folder");
        std::fs::write(tree.join(".slotd/release.toml"), format!("commit = \"{commit}\"\n")).expect("written");
        if !behaviour.is_empty() {
            std::fs::write(tree.join("BEHAVIOUR"), behaviour).expect("written");
        }
    })
}

#[test]
fn row15_story() {
    let world = world("row15");
    world.live("web", 8080, "1.0.0");
    world.host.write("/root/sink.py", SINK);
    world.host.write("/usr/sbin/sendmail", SENDMAIL);
    world.host.ok("chmod 0755 /usr/sbin/sendmail && systemd-run -q --unit sink python3 /root/sink.py");

    // What is asked for is checked: the unit, and slotd's leave to start it, which `new` writes.
    world.settings("web", "on_result = [\"rolled-back\", \"failed\", \"stuck\", \"done\"]\n");
    let checked = world.slotctl("check web");
    expect_exit(&checked, Exit::Degraded as i32);
    expect_parts(
        &shown(&checked),
        &["slotd-notify@.service doesn't exist", "no rule of polkit names slotd-notify@web-"],
    );
    let new = "new web --rule --write";
    expect_exit(&world.slotctl(new), Exit::Degraded as i32);

    the_unit_is_missing(&world);
    a_webhook(&world);
    a_mail(&world);
    a_forge(&world);
    it_fails(&world);
}

/// That nobody can be told delays nothing, is a warning with the next command, and is made up for.
fn the_unit_is_missing(world: &World) {
    let sent = world.deploy("web", &world.artifact("web", "2.0.0", ""));
    expect_exit(&sent, 0);
    world.expect_status("web", "a note", |status| {
        status["notes"]
            .to_string()
            .contains("slotd-notify@web-2.service doesn't exist (unit.missing); next: slotctl check web")
    });
}

fn a_webhook(world: &World) {
    example(world, "webhook", "WEBHOOK_URL=http://127.0.0.1:9000/hook\n");
    let told = expect_sunk(world, 1);
    let report: Value = serde_json::from_str(&told[0].2).expect("a report");
    assert_eq!((told[0].0.as_str(), &report["id"]), ("/hook", &"web-2".into()), "told once it could be: {told:?}");
    assert_eq!((&report["to"], &report["ended"]["outcome"]), (&"2.0.0".into(), &"done".into()), "{report}");
    let notes = notes(world);
    assert!(!notes.contains("nobody"), "{notes}");
    // Not of what isn't asked for: an operator's cancel.
    world
        .settings("web", "[proof]\ninterval = \"100ms\"\ntimeout = \"2s\"\ndeadline = \"60s\"\nstable_for = \"30s\"\n");
    world.ok("activate web 1.0.0 --no-wait");
    world.ok("cancel web");
    world.expect_idle("web");
    world.settings("web", crate::support::world::PROOF);
    assert_eq!(world.json("status web")["last"]["ended"]["outcome"], "cancelled");
    // Nor again at a restart.
    world.host.ok("systemctl restart slotd.service");
    world.expect_idle("web");
}

fn a_mail(world: &World) {
    example(world, "mail", "");
    let sent = world.deploy("web", &world.artifact("web", "3.0.0", "health-500"));
    expect_exit(&sent, Exit::RolledBack as i32);
    let told = expect_sunk(world, 2);
    let (path, _, mail) = &told[1];
    assert_eq!(path, "/mail");
    expect_parts(mail, &["To: root\n", "Subject: web-4: deploy 3.0.0 over 2.0.0: rolled-back\n", "returned to 2.0.0"]);
}

fn a_forge(world: &World) {
    let environment = "FORGE_API=http://127.0.0.1:9000/api\nFORGE_REPOSITORY=ann/web\nFORGE_TOKEN=secret\n";
    example(world, "forge", environment);
    expect_exit(&world.deploy("web", &of_commit(world, "4.0.0", "c0ffee", "")), 0);
    let told = expect_sunk(world, 4);
    let body = |n: usize| serde_json::from_str::<Value>(&told[n].2).expect("JSON");
    assert_eq!((told[2].0.as_str(), told[2].1.as_str()), ("/api/repos/ann/web/deployments", "Bearer secret"));
    assert_eq!((&body(2)["ref"], &body(2)["environment"]), (&"c0ffee".into(), &"production".into()), "{told:?}");
    assert_eq!(told[3].0, "/api/repos/ann/web/deployments/7/statuses");
    assert_eq!((&body(3)["state"], &body(3)["description"]), (&"success".into(), &"web-5 done".into()), "{told:?}");
    expect_exit(&world.deploy("web", &of_commit(world, "5.0.0", "badcafe", "health-500")), Exit::RolledBack as i32);
    let told = expect_sunk(world, 6);
    let status: Value = serde_json::from_str(&told[5].2).expect("JSON");
    assert_eq!(status["state"], "failure", "{status}");
    expect_parts(status["description"].as_str().expect("text"), &["web-6 rolled-back: "]);
}

/// A unit that ran and failed isn't started again: the note says what to do, and goes once somebody is told again.
fn it_fails(world: &World) {
    world.host.write(
        "/etc/slotd/notify-forge.env",
        "FORGE_API=http://127.0.0.1:9/api\nFORGE_REPOSITORY=a/b\nFORGE_TOKEN=t\n",
    );
    expect_exit(&world.deploy("web", &of_commit(world, "6.0.0", "c0ffee", "")), 0);
    world.expect_status("web", "a note", |status| {
        let notes = status["notes"].to_string();
        notes.contains("nobody was told that web-7 ended done")
            && notes.contains("journalctl -u slotd-notify@web-7.service")
    });
    world.host.ok("systemctl restart slotd.service");
    let status = world.expect_idle("web");
    assert!(status["notes"].to_string().contains("web-7"), "{status}");
    example(world, "webhook", "");
    world.ok("rollback web");
    let told = expect_told(world, 7);
    assert!(told[6].2.contains("web-8"), "{told:?}");
    let notes = notes(world);
    assert!(!notes.contains("nobody"), "{notes}");
    // It is left for whoever looks for units that failed.
    let failed = text(&world.host.sh("systemctl list-units --failed --plain --no-legend"));
    assert!(failed.starts_with("slotd-notify@web-7.service "), "{failed}");
    world.host.ok("systemctl reset-failed slotd-notify@web-7.service");
}

/// Waits for so many of them; a unit that failed stays.
#[track_caller]
fn expect_told(world: &World, count: usize) -> Vec<(String, String, String)> {
    wait_until(&format!("{count} at the sink"), PATIENCE, || match sunk(world) {
        told if told.len() == count && !notes(world).contains("nobody") => Ok(told),
        told => Err(format!("{told:?}; {}", notes(world))),
    })
}

#[track_caller]
pub fn row15_refusal(world: &World) {
    let file = "/etc/slotd/apps/web.toml";
    for (line, part) in [
        ("on_result = [\"rolledback\"]", "did you mean \"rolled-back\"?"),
        ("on_result = [\"cancelled\"]", "not \"cancelled\""),
        ("on_result = \"never\"", "not \"never\""),
        ("on_result = [\"done\", \"done\"]", "twice"),
    ] {
        world.host.ok(&format!("cp {file} /root/web.toml && sed -i '1i {line}' {file}"));
        let checked = world.slotctl("check web");
        world.host.ok(&format!("mv /root/web.toml {file}"));
        expect_exit(&checked, Exit::Degraded as i32);
        expect_parts(&shown(&checked), &[line, part]);
    }
    // slotd may start it for ids of this app, and for nothing else.
    let rule = text(&world.host.sh("cat /etc/polkit-1/rules.d/50-slotd-web.rules"));
    assert!(!rule.contains("slotd-notify"), "nothing of it is allowed unless it is asked for: {rule}");
}
