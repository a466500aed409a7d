//! What a move costs users: an app on a booted host goes from version to version under load, by slotd and by what one
//! does without it, and all that users got is counted.

pub mod back;
pub mod canary;
pub mod jobs;
pub mod load;
pub mod program;
pub mod queue;
pub mod undone;
pub mod watch;

use crate::support::host::Root;
use crate::support::workshop::expect_exit;
use crate::support::world::{PROOF, World};
use load::{Counted, Load};
use program::Program;

/// How many moves, unless the environment says.
const DEPLOYMENTS: u32 = 10;
/// Fewer answers than these a move, on either kind of connection, show nothing.
const LEAST_ANSWERS: u64 = 100;

const VERSIONS: [&str; 2] = ["1.0.0", "2.0.0"];

/// A way to users, and a way to move on it.
pub struct Route {
    /// In the printed lines.
    pub name: &'static str,
    /// What the host needs first: lines of shell.
    pub before: &'static [&'static str],
    /// Further words of `slotctl new`.
    pub new: &'static str,
    /// Puts the app, made with these words of `slotctl new`, behind its proxy.
    pub front: Option<fn(&World, &str)>,
    /// What its settings say in place of, and beside, what `new` wrote; a soak should be short.
    pub settings: &'static str,
    /// From the recorded switch on the new slot alone answers new connections.
    pub switches: bool,
    /// The most moves.
    pub most: u32,
}

/// So many moves, at most `most`: HANDOVER_DEPLOYMENTS, or few.
pub fn deployments(most: u32) -> u32 {
    wanted().unwrap_or(DEPLOYMENTS).min(most)
}

/// HANDOVER_DEPLOYMENTS, if it says something.
fn wanted() -> Option<u32> {
    let text = std::env::var("HANDOVER_DEPLOYMENTS").ok().filter(|text| !text.is_empty())?;
    Some(text.parse().expect("HANDOVER_DEPLOYMENTS is a number"))
}

/// slotd on a fresh host, with the app `web` on this route, and 1.0.0 live.
#[track_caller]
pub fn app_on(route: &Route, program: &Program) -> World {
    let world = app_without_release(route, program);
    expect_exit(&world.send("web", &program.release(&world, VERSIONS[0])), 0);
    world
}

/// The same, before its first release.
#[track_caller]
pub fn app_without_release(route: &Route, program: &Program) -> World {
    let world = World::installed("handover", Root::Own);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    for line in route.before {
        world.host.ok(line);
    }
    let Program { exec, new, .. } = program;
    world.ok(&format!("new web --exec {exec} {new} --port 8080 {} --health /health --write", route.new));
    if let Some(front) = route.front {
        front(&world, &format!("--port 8080 {}", route.new));
    }
    let proof = if route.settings.contains("[proof]") { "" } else { PROOF };
    world.settings("web", &format!("{}{proof}", route.settings));
    // Else slotd would go on with what `new` wrote, and the row would tell of another strategy.
    world.ok("check web");
    load::supply(&world);
    world
}

/// What users got while the app was moved.
pub struct Moved {
    pub counted: Counted,
    pub deployments: u32,
}

/// Moves the app between two versions under load, once by `deploy` and then by `activate`. Before each move `beside` is
/// told its number, from 1 on, and the version.
#[track_caller]
pub fn moved(world: &World, route: &Route, program: &Program, mut beside: impl FnMut(u32, &str)) -> Moved {
    let deployments = deployments(route.most.min(program.most));
    let second = program.release(world, VERSIONS[1]);
    let load = Load::start(world, 8080, "--current /var/lib/slotd/apps/web/current");
    for round in 1..=deployments {
        let version = VERSIONS[round as usize % 2];
        load.expect(version);
        beside(round, version);
        let moved = match round {
            1 => world.send("web", &second),
            _ => world.slotctl(&format!("activate web {version}")),
        };
        expect_exit(&moved, 0);
        // A slot is live before the old one has drained.
        world.expect_idle("web");
    }
    world.expect_serving(8080, VERSIONS[deployments as usize % 2]);
    Moved { counted: load.end(), deployments }
}

impl Moved {
    /// Sees that users got what the route promises.
    #[track_caller]
    pub fn expect(&self, route: &Route) {
        let Moved { counted, deployments } = self;
        let Counted { client, wrk } = counted;
        expect_load(counted, LEAST_ANSWERS * u64::from(*deployments));
        assert!(counted.answers(VERSIONS[1]) > 0, "nothing was answered by the new version: {client}");
        assert_eq!((counted.failed("new"), counted.wrk_failed()), (0, 0), "new connections failed: {client} {wrk}");
        // After the one retry that the client makes, and counts.
        assert_eq!(counted.failed("keep_alive"), 0, "kept connections failed: {client}");
        assert_eq!(counted.count("marks"), u64::from(*deployments) + 1, "not each switch was seen: {client}");
        if route.switches {
            assert_eq!(counted.count("stale"), 0, "an old slot answered after the switch: {client}");
        }
    }
}

/// A row of counts: moves on this route.
#[track_caller]
pub fn moves(world: &World, route: &Route, program: &Program) {
    let moved = moved(world, route, program, |_, _| {});
    println!("{}", moved.counted.line(&format!("{}{}", route.name, program.name), moved.deployments));
    moved.expect(route);
}

/// The run that the first version is in.
#[track_caller]
pub fn run_of(world: &World) -> String {
    world.host.ok(&format!("systemctl show -P InvocationID web@{}.service", VERSIONS[0]))
}

/// A restart without slotd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// `systemctl restart`.
    Restart,
    /// `ln -sfn`, then that.
    Link,
}

/// Restarts the same program in a plain unit under the same load. Requests have to fail: what slotd is for.
#[track_caller]
pub fn restarts(world: &World, program: &Program, plain: Plain) {
    let deployments = deployments(program.most.min(50));
    world.host.ok("mkdir -p /srv/plain && cp -r /root/trees/. /srv/plain/ && ln -sfn 1.0.0 /srv/plain/current");
    world.host.write("/etc/systemd/system/plain.service", program.plain_unit());
    world.host.ok("systemctl daemon-reload && systemctl start plain");
    world.expect_serving(8090, VERSIONS[0]);
    let load = Load::start(world, 8090, "");
    for round in 1..=deployments {
        let version = VERSIONS[round as usize % 2];
        if plain == Plain::Link {
            load.expect(version);
            world.host.ok(&format!("ln -sfn {version} /srv/plain/current"));
        }
        world.host.ok("systemctl restart plain");
        if plain == Plain::Link {
            load.mark(version);
        }
        // As an operator does, who wants to see it serve.
        world.expect_answering(8090);
    }
    let counted = load.end();
    world.host.ok("systemctl stop plain");

    let name = if plain == Plain::Link { "symlink-restart" } else { "systemctl-restart" };
    println!("{}", counted.line(&format!("{name}{}", program.name), deployments));
    // Much of the time nobody answers.
    expect_load(&counted, 1);
    assert!(counted.failed("new") > 0, "a restart of a program that owns its port loses none? {}", counted.client);
}

/// That it was a load at all, on both kinds of connections and by the first version.
#[track_caller]
fn expect_load(counted: &Counted, least: u64) {
    for kind in ["new", "keep_alive"] {
        assert!(counted.client[kind]["answered"].as_u64() >= Some(least), "too few answers: {}", counted.client);
    }
    assert!(counted.answers(VERSIONS[0]) > 0, "{}", counted.client);
}
