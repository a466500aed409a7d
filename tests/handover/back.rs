//! Going back to a slot that was kept warm, as users see it: from the operator's word until the old slot has them all.

use super::program::SAMPLE;
use super::{Route, VERSIONS, app_on, run_of, wanted};
use crate::support::host::shown;
use crate::support::workshop::expect_exit;

/// Times unless the environment says, and the most: each takes a whole deployment.
const FEW: u32 = 5;
const MOST: u32 = 50;

/// Where going back is a switch, it takes no longer than this; nginx has to be reloaded.
const SWITCH_MS: f64 = 100.0;

/// Says `rollback` while it asks by new connections; tells how long it took until the last one was made that the new version
/// answered, in milliseconds.
const BACK: &str = r#"
import socket, subprocess, sys, time
old, new = sys.argv[1:]
def ask():
    s = socket.create_connection(("127.0.0.1", 8080), timeout=10)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = b""
    while part := s.recv(4096): answer += part
    return answer.split(b"version ")[1].split(b" ")[0].decode()
assert ask() == new
began = last = time.monotonic()
word = subprocess.Popen(["slotctl", "rollback", "web"], stdout=subprocess.DEVNULL)
by_old = 0
while by_old < 100:
    asked = time.monotonic()
    if ask() == old: by_old += 1
    else: last, by_old = asked, 0
print("%.1f" % ((last - began) * 1000))
sys.exit(word.wait())
"#;

/// A row of counts: moves that are taken back while the new slot is watched.
#[track_caller]
pub fn goes_back(route: &Route) {
    let world = app_on(route, &SAMPLE);
    world.host.write("/root/back.py", BACK);
    let [old, new] = VERSIONS;
    let second = SAMPLE.release(&world, new);
    let run = run_of(&world);
    let times = wanted().unwrap_or(FEW).min(MOST);
    let took = (1..=times).map(|time| {
        let moved = match time {
            1 => world.slotctl(&format!("deploy {second} --app web --no-wait")),
            _ => world.slotctl(&format!("activate web {new} --no-wait")),
        };
        expect_exit(&moved, 0);
        world.expect_status("web", "the soak", |status| status["deployment"]["state"] == "soaking");
        let back = world.host.sh(&format!("python3 /root/back.py {old} {new}"));
        let status = world.expect_idle("web");
        assert_eq!(status["last"]["ended"]["outcome"], "cancelled", "{status}");
        assert!(back.status.success(), "{}", shown(&back));
        String::from_utf8_lossy(&back.stdout).trim().parse().expect("milliseconds")
    });
    let mut took: Vec<f64> = took.collect();
    took.sort_by(f64::total_cmp);
    // The nearest rank.
    let percentile = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    println!(
        "handover rollback-{} times={times} median_ms={:.0} p95_ms={:.0}",
        route.name,
        percentile(50),
        percentile(95)
    );
    assert_eq!(run_of(&world), run, "{old} was to run on");
    assert!(route.name == "nginx" || percentile(50) < SWITCH_MS, "{took:?}");
}
