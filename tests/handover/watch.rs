//! Instances of an app while it moves: how many are ready at the least, and how many run at the most.

use std::path::Path;

use serde_json::Value;

use super::program::SAMPLE;
use super::{Route, app_on, moved, wanted};
use crate::support::host::Host;

/// Moves of several instances, unless the environment says: a batch takes about as long as a move of one.
const FEW: u32 = 2;

/// The most of those.
const MOST: u32 = 50;

/// A strategy's two numbers, and what they apply to.
pub struct Instances {
    pub route: Route,
    pub count: u64,
    pub max_surge: u64,
    pub max_unavailable: u64,
}

/// A row of counts: moves of all instances. Each bound has to be kept, and to be reached: a surge that isn't used would
/// show nothing.
#[track_caller]
pub fn rolls(instances: &Instances) {
    let Instances { route, count, max_surge, max_unavailable } = instances;
    let world = app_on(route, &SAMPLE);
    let watch = Watch::start(&world.host, "web@");
    let most = match (count, wanted()) {
        (1, _) => route.most,
        (_, None) => FEW,
        (_, Some(_)) => MOST,
    };
    let moved = moved(&world, &Route { most: route.most.min(most), ..*route }, &SAMPLE, |_, _| {});
    let seen = watch.end();
    let counted = &moved.counted;
    println!(
        "handover rolling-{} instances={count} deployments={} requests={} failed={} min_ready={} max_running={} \
         max_surge={max_surge} max_unavailable={max_unavailable}",
        route.name,
        moved.deployments,
        counted.count("requests"),
        counted.count("failed"),
        seen["min_ready"],
        seen["max_running"],
    );
    moved.expect(route);
    assert_eq!((&seen["ready"], &seen["running"]), (&(*count).into(), &(*count).into()), "at the end: {seen}");
    assert_eq!(seen["min_ready"], count - max_unavailable, "{seen}");
    assert_eq!(seen["max_running"], count + max_surge, "{seen}");
}

/// examples/unit-watch at work on a host.
pub struct Watch<'a> {
    host: &'a Host,
}

impl<'a> Watch<'a> {
    /// Returns when it has begun to watch instances of the template, `web@`.
    #[track_caller]
    pub fn start(host: &'a Host, template: &str) -> Watch<'a> {
        let program = Path::new(env!("CARGO_BIN_EXE_slotd")).with_file_name("examples/unit-watch");
        host.push(program, "/usr/local/lib/unit-watch");
        host.ok(&format!(
            "systemd-run --quiet --unit=unit-watch -p Type=notify \
             /usr/local/lib/unit-watch {template} --report /run/handover/watch"
        ));
        Watch { host }
    }

    /// Its report.
    #[track_caller]
    pub fn end(self) -> Value {
        self.host.ok("systemctl stop unit-watch");
        let report = self.host.read("/run/handover/watch");
        serde_json::from_slice(&report).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&report)))
    }
}
