//! Releases that fail, under load: each is undone for its true cause, the old slot goes on in the run that it was in, and
//! users notice nothing of a candidate that they weren't sent to.

use serde_json::Value;

use super::load::{Counted, Load};
use super::program::SAMPLE;
use super::watch::Watch;
use super::{Route, VERSIONS, app_on, run_of};
use crate::support::workshop::{expect_exit, expect_parts};

/// Has the health socket of 1.0.0 at the path of its own.
const BORROWS_HEALTH: &str = "#!/bin/sh\nln -s /run/slots/web/1.0.0/health.sock \"$HEALTH_SOCKET\"\n\
                              unset HEALTH_SOCKET\nexec /usr/local/lib/sample-server \"$@\"\n";

/// The third of its instances ends at once.
const THIRD_FAILS: &str = "#!/bin/sh\ncase \"$SLOTD_INSTANCE\" in *@3) echo the third fails >&2; exit 3;; esac\n\
                           exec /usr/local/lib/sample-server \"$@\"\n";

/// The longest time without an answer where the live slot dies: several times what it takes.
const MOST_GAP_MS: u64 = 2000;

/// A release that fails, and what has to be told of it.
struct Broken {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    code: &'static str,
    /// Parts of `slotctl why`.
    why: &'static [&'static str],
    /// Users were sent to it.
    was_live: bool,
}

const BROKEN: [Broken; 6] = [
    Broken {
        name: "never ready",
        files: &[("BEHAVIOUR", "never-ready")],
        code: "unit.start_timeout",
        why: &["starting: start web@", "result timeout"],
        was_live: false,
    },
    Broken {
        name: "crash-loops",
        files: &[("BEHAVIOUR", "exit-before-accept 3")],
        code: "unit.exited",
        why: &["starting: start web@", "exited with status 3", "can't start: its BEHAVIOUR says so"],
        was_live: false,
    },
    Broken {
        name: "dies before it was up for long enough",
        files: &[("BEHAVIOUR", "crash-after 1200")],
        code: "proof.unstable",
        why: &["proving: prove web@", "after it had answered well", "killed by SIGABRT"],
        was_live: false,
    },
    Broken {
        name: "answers 500",
        files: &[("BEHAVIOUR", "health-500")],
        code: "probe.failed",
        why: &["proving: prove web@", "status 500 Internal Server Error, not 200 to 299"],
        was_live: false,
    },
    Broken {
        name: "the old slot answers for it",
        files: &[("bin/web", BORROWS_HEALTH)],
        code: "probe.failed",
        why: &["proving: prove web@", "is answered by web@1.0.0.service, not by web@"],
        was_live: false,
    },
    Broken {
        name: "dies in the soak",
        files: &[("BEHAVIOUR", "crash-after 4000")],
        code: "unit.exited",
        why: &["soaking: ", "killed by SIGABRT"],
        was_live: true,
    },
];

/// A row of counts: all of them on this route, one after the other on one host.
#[track_caller]
pub fn undone(route: &Route) {
    let world = app_on(route, &SAMPLE);
    world.host.write("/etc/systemd/system/web@.service.d/start.conf", "[Service]\nTimeoutStartSec=2s\n");
    world.host.ok("systemctl daemon-reload");
    let run = run_of(&world);
    let (mut requests, mut cut, mut gap) = (0, 0, 0);
    for (number, broken) in BROKEN.iter().enumerate() {
        let version = format!("2.0.{number}");
        let artifact = world.make_with("web", &version, broken.files);
        let load = Load::start(&world, 8080, "");
        let sent = world.send("web", &artifact);
        let counted = load.end();
        expect_exit(&sent, 10);

        let name = broken.name;
        let last = world.json("status web")["last"].clone();
        expect_undone(&last, &version, broken.code, name);
        let why = world.ok("why web");
        expect_parts(&why, broken.why);
        expect_parts(&why, &["returned to 1.0.0", "quarantined", broken.code]);
        assert_eq!(run_of(&world), run, "{name}: 1.0.0 was to run on");
        assert!(counted.answers(VERSIONS[0]) > 0, "{name}: {}", counted.client);
        assert_eq!(counted.answers(&version) > 0, broken.was_live, "{name}: {}", counted.client);
        let failed = counted.count("failed") + counted.wrk_failed();
        if broken.was_live {
            expect_cut(&counted);
            (cut, gap) = (failed, counted.count("gap_ms"));
        } else {
            assert_eq!(failed, 0, "{name}: {} {}", counted.client, counted.wrk);
        }
        requests += counted.count("requests");
    }
    println!(
        "handover undone-{} cases={} requests={requests} failed=0 cut_in_soak={cut} gap_in_soak_ms={gap}",
        route.name,
        BROKEN.len(),
    );
}

/// What a slot that died under its users had accepted is lost with it: each connection once, and once more the one that a
/// client made after that and that still waited in the listener's queue. Nobody is refused, and none of it takes long.
#[track_caller]
fn expect_cut(counted: &Counted) {
    let seen = format!("{} {}", counted.client, counted.wrk);
    assert!(counted.count("gap_ms") <= MOST_GAP_MS, "{seen}");
    let refused = |kind: &str| counted.client[kind]["failed"]["refused"].as_u64().unwrap_or(0);
    assert_eq!((refused("new"), refused("keep_alive")), (0, 0), "{seen}");
    // The client has eight connections of each kind, wrk has eight. A proxy's answer in place of a cut one counts twice with
    // wrk: by its status, and because the connection ends there.
    assert!(counted.count("failed") <= 32 && counted.wrk_failed() <= 16, "{seen}");
}

#[track_caller]
fn expect_undone(last: &Value, version: &str, code: &str, name: &str) {
    let ended = &last["ended"];
    assert_eq!((&last["to"], &ended["outcome"]), (&version.into(), &"rolled-back".into()), "{name}: {last}");
    assert_eq!((&ended["fault"]["code"], &ended["blame"]), (&code.into(), &"release".into()), "{name}: {last}");
}

/// A row of counts: of four instances the third new one fails, and four old ones serve as before.
#[track_caller]
pub fn undone_in_the_third_batch(route: &Route) {
    let world = app_on(route, &SAMPLE);
    let artifact = world.make_with("web", VERSIONS[1], &[("bin/web", THIRD_FAILS)]);
    let watch = Watch::start(&world.host, "web@");
    let load = Load::start(&world, 8080, "");
    let sent = world.send("web", &artifact);
    let counted = load.end();
    let seen = watch.end();
    expect_exit(&sent, 10);
    println!(
        "handover undone-in-batch-3-{} requests={} failed={} min_ready={} max_running={}",
        route.name,
        counted.count("requests"),
        counted.count("failed") + counted.wrk_failed(),
        seen["min_ready"],
        seen["max_running"],
    );
    let last = world.json("status web")["last"].clone();
    expect_undone(&last, VERSIONS[1], "unit.exited", "the third");
    expect_parts(&world.ok("why web"), &["start web@2.0.0@3.service", "exited with status 3", "the third fails"]);
    // The first two had users.
    assert!(counted.answers(VERSIONS[1]) > 0, "{}", counted.client);
    assert_eq!((counted.count("failed"), counted.wrk_failed()), (0, 0), "{} {}", counted.client, counted.wrk);
    let units = "systemctl list-units --plain --no-legend --state=active 'web@*' | cut -d' ' -f1";
    let old = ["web@1.0.0.service", "web@1.0.0@2.service", "web@1.0.0@3.service", "web@1.0.0@4.service"];
    assert_eq!(world.host.ok(units).lines().collect::<Vec<_>>(), old);
    // Undone within the same bounds: (1, 0).
    let bounds = (seen["min_ready"].as_u64(), seen["max_running"].as_u64());
    assert_eq!(bounds, (Some(4), Some(5)), "{seen}");
}
