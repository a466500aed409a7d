//! A host whose slotd dies at named points: arms a point, runs a scenario into it, and holds what is left against the
//! recovery rule.

#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../life/builds.rs"]
pub mod builds;
#[path = "../life/hooks.rs"]
pub mod hooks;
pub mod seen;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;

use slotd::config::Profile;
use slotd::model::Exit;

use super::support::host::{Root, shown, text};
use super::support::leftovers::Tidy;
use super::support::wait_until;
use super::support::workshop::expect_exit;
use super::support::world::{PATIENCE, World};
use seen::{Expected, Seen, is_true};

/// Where the armed point and the log of passed ones lie, both ways writable for whoever slotd runs as.
const DIR: &str = "/var/lib/slotd/crash";

/// While it is there, nothing starts slotd; a boot takes it away.
pub const STAYS_DEAD: &str = "/run/slotd-stays-dead";

const APP: &str = "web";
const PORT: u16 = 8080;

/// Three that do well, to go round between: none of current and fallback is always one that `next` must be made for.
const GOOD: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];

/// Its `/health` has status 500.
const ILL: &str = "9.0.0";

/// Below all others, so that it never goes live by itself and is the first that retention lets go.
const OLD: &str = "0.1.0";

/// What slotd is doing when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A release that does well is deployed, and watched for a while.
    Good,
    /// One whose probe fails is deployed.
    ProbeFails,
    /// An operator goes back.
    Rollback,
    /// An operator has removed what retention doesn't keep.
    Prune,
}

impl Scenario {
    /// The settings that make it reach its points, and quickly.
    fn settings(self) -> String {
        let (timeout, deadline, soak, keep) = match self {
            // Long enough for a machine that does much else.
            Scenario::Good => ("2s", "20s", "200ms", 5),
            Scenario::Rollback => ("2s", "20s", "0s", 5),
            // What the failure takes, each time.
            Scenario::ProbeFails => ("700ms", "700ms", "0s", 5),
            Scenario::Prune => ("2s", "20s", "0s", 1),
        };
        format!(
            "[proof]\ninterval = \"50ms\"\ntimeout = \"{timeout}\"\nsuccesses = 1\ndeadline = \"{deadline}\"\n\
             stable_for = \"100ms\"\n[soak]\ntime = \"{soak}\"\n[retention]\nkeep = {keep}\n"
        )
    }
}

/// A host for many deaths.
pub struct Rig {
    /// The host; at the end nothing may be left behind on it.
    pub world: Tidy,
    /// How many instances a slot of the app has.
    pub instances: u32,
    /// By whose settings the app goes.
    set_up: Mutex<Option<Scenario>>,
}

impl Rig {
    /// slotd with an app that has all the slots of the scenarios.
    #[track_caller]
    pub fn boot(hint: &str, profile: Profile) -> Rig {
        let rig = Rig::empty(hint, profile);
        rig.world.add_app(APP, PORT);
        rig.supply();
        rig
    }

    /// All the slots of the scenarios, for an app that is there. The points that the last good one passed.
    #[track_caller]
    pub fn supply(&self) -> Vec<String> {
        let world = &self.world;
        world.supply_server();
        self.set_up(Scenario::Good);
        for version in GOOD {
            world.host.ok(&format!("rm -f {DIR}/log"));
            world.send_live(APP, version);
            world.expect_idle(APP);
        }
        let log = world.host.ok(&format!("cat {DIR}/log"));
        self.set_up(Scenario::ProbeFails);
        expect_exit(&world.send(APP, &world.make(APP, ILL, "health-500")), Exit::RolledBack as i32);
        world.make(APP, OLD, "");
        log.lines().map(str::to_owned).collect()
    }

    /// slotd without an app.
    #[track_caller]
    pub fn empty(hint: &str, profile: Profile) -> Rig {
        let world = World::installed(hint, Root::Own);
        let environment = format!("Environment=SLOTD_CRASH_AT={DIR}/at SLOTD_CRASH_LOG={DIR}/log");
        let drop_ins = "/etc/systemd/system/slotd.service.d";
        let unit = format!("[Unit]\nConditionPathExists=!{STAYS_DEAD}\n[Service]\nRestartSec=100ms\n{environment}\n");
        world.host.write(&format!("{drop_ins}/crash.conf"), unit);
        if profile == Profile::Root {
            world.host.ok(&format!("cp /usr/share/slotd/profile-root.conf {drop_ins}"));
            world.host.write("/etc/slotd/slotd.toml", "profile = \"root\"\n");
        }
        world.host.ok(&format!("install -d -m 0777 {DIR} && systemctl daemon-reload"));
        world.host.ok("systemctl enable --now slotd.socket slotd.service");
        Rig { world: Tidy::new(world), instances: 1, set_up: Mutex::new(None) }
    }

    /// slotd dies at the `passing`-th passing of `point` from now on.
    #[track_caller]
    pub fn arm(&self, point: &str, passing: usize) {
        self.world.host.ok(&format!("umask 0; echo '{point} {passing}' >{DIR}/.at; mv {DIR}/.at {DIR}/at"));
    }

    /// Waits until slotd has died at the armed point.
    #[track_caller]
    pub fn expect_dead(&self, point: &str) {
        wait_until(&format!("a death at {point}"), PATIENCE, || {
            let armed = text(&self.world.host.sh(&format!("cat {DIR}/at 2>/dev/null")));
            if armed.is_empty() { Ok(()) } else { Err(format!("{armed}; {}", self.world.journal())) }
        });
    }

    /// Brings the settings to what `scenario` needs.
    #[track_caller]
    fn set_up(&self, scenario: Scenario) {
        if self.set_up.lock().expect("no other user").replace(scenario) == Some(scenario) {
            return;
        }
        self.world.settings(APP, &scenario.settings());
        // Broken settings would leave those of the scenario before in force.
        self.world.ok(&format!("check {APP}"));
    }

    /// Runs `scenario` undisturbed; the points that it passes, in their order.
    #[track_caller]
    pub fn record(&self, scenario: Scenario) -> Vec<String> {
        let (before, words, done) = self.prepare(scenario);
        self.world.host.ok(&format!("rm -f {DIR}/log"));
        let output = self.world.slotctl(&words);
        assert_eq!(output.status.code(), Some(done.exit as i32), "{words}: {}", shown(&output));
        self.expect(&done, before.restarts);
        // Retention follows every deployment by itself; those removals are not this scenario's.
        let prunes = scenario == Scenario::Prune;
        let log = self.world.host.ok(&format!("cat {DIR}/log"));
        log.lines().filter(|point| is_removal(point) == prunes).map(str::to_owned).collect()
    }

    /// Runs `scenario`, in which slotd dies at the `passing`-th passing of `point`, and sees that what recovery makes
    /// of it is what would have come of it undisturbed: in one boot every deployment goes on. One of which
    /// nothing was written down never was.
    #[track_caller]
    pub fn die_at(&self, scenario: Scenario, point: &str, passing: usize) {
        let (before, words, done) = self.prepare(scenario);
        let unbegun = point == "before:queue" && passing == 1;
        let expected = if unbegun { Expected::nothing_of(&before, self.instances) } else { done };
        self.arm(point, passing);
        let output = self.world.host.sh(&format!("timeout 60 slotctl {words}"));
        let story = || format!("{scenario:?}, {point} {passing}: slotctl {words}: {}", shown(&output));
        eprintln!("{scenario:?}, {point} {passing}: slotctl {words}: {}", output.status);
        self.expect(&expected, before.restarts + 1);
        if scenario == Scenario::Prune {
            self.expect_prunable(&expected);
        } else {
            self.expect_told(&expected);
            assert!(is_true(&output, &expected, unbegun), "{}", story());
        }
    }

    /// Runs `scenario` until slotd dies at the `passing`-th passing of `point`, and stays dead as long as this boot lasts.
    /// How it would have ended, and what is right where it is undone, by recovery's first answer.
    #[track_caller]
    pub fn die_for_good_at(&self, scenario: Scenario, point: &str, passing: usize) -> Vec<Expected> {
        let (before, words, done) = self.prepare(scenario);
        let as_before = Expected::nothing_of(&before, self.instances);
        self.arm(point, passing);
        self.world.host.ok(&format!("touch {STAYS_DEAD}"));
        self.world.begin("dying", &words);
        self.expect_dead(point);
        if point == "before:queue" && passing == 1 {
            return vec![as_before];
        }
        let undone = |outcome: &str| Expected {
            number: done.number,
            outcome: outcome.to_owned(),
            code: "deployment.interrupted".to_owned(),
            ..as_before.clone()
        };
        vec![undone("failed"), undone("rolled-back"), done]
    }

    /// Waits until the host is at rest and as one of `ends` says, after a boot. Which one.
    #[track_caller]
    pub fn expect_one_of<'a>(&self, ends: &'a [Expected]) -> &'a Expected {
        wait_until("a slot that is whole after the boot", PATIENCE, || {
            let seen = self.look()?;
            let wrong = |end: &Expected| format!("{end:?}: {}", end.wrong_in(&seen, 0).join(", "));
            match ends.iter().find(|end| end.wrong_in(&seen, 0).is_empty()) {
                Some(end) => Ok(end),
                None => Err(format!("{}; {seen:?}", ends.iter().map(wrong).collect::<Vec<_>>().join("; "))),
            }
        })
    }

    /// Does what `scenario` needs beforehand. How the host looks, the words that begin it, and its regular end.
    #[track_caller]
    fn prepare(&self, scenario: Scenario) -> (Seen, String, Expected) {
        self.set_up(scenario);
        match scenario {
            Scenario::ProbeFails => {
                // So that the verdict is made anew.
                self.world.slotctl(&format!("quarantine clear {APP} {ILL}"));
            }
            Scenario::Prune => {
                let deployed = self.world.slotctl(&format!("deploy /root/{APP}-{OLD}.tar.zst --app {APP}"));
                assert_eq!(deployed.status.code(), Some(Exit::ReadyNotLive as i32), "{}", shown(&deployed));
            }
            Scenario::Good | Scenario::Rollback => {}
        }
        let before = wait_until("a look at the host", PATIENCE, || self.look());
        let as_before = Expected::nothing_of(&before, self.instances);
        let number = before.last.0 + 1;
        let (words, done) = match scenario {
            Scenario::Good => {
                let to = GOOD.iter().find(|version| **version != before.current && **version != before.fallback);
                let to = (*to.expect("one of three")).to_owned();
                let done = Expected { outcome: "done".into(), code: String::new(), number, ..as_before };
                let done = Expected { current: to.clone(), fallback: before.current.clone(), ..done };
                (format!("activate {APP} {to}"), done)
            }
            Scenario::ProbeFails => {
                let done = Expected { outcome: "rolled-back".into(), code: "probe.failed".into(), number, ..as_before };
                (format!("activate {APP} {ILL}"), Expected { ill: "failed", exit: Exit::RolledBack, ..done })
            }
            Scenario::Rollback => {
                let (current, fallback) = (before.fallback.clone(), before.current.clone());
                let done = Expected { outcome: "done".into(), code: String::new(), number, ..as_before };
                (format!("rollback {APP}"), Expected { current, fallback, ..done })
            }
            Scenario::Prune => (format!("prune {APP}"), as_before),
        };
        (before, words, done)
    }

    /// Waits until the host is at rest and as `expected`, and has had so many restarts of slotd.
    #[track_caller]
    fn expect(&self, expected: &Expected, restarts: u64) {
        wait_until(&format!("{expected:?} after {restarts} restarts"), PATIENCE, || {
            let seen = self.look()?;
            let wrong = expected.wrong_in(&seen, restarts);
            if wrong.is_empty() { Ok(()) } else { Err(format!("{}; {seen:?}", wrong.join(", "))) }
        });
        let answer = self.world.host.ok(&format!("curl -s -m 5 http://127.0.0.1:{PORT}/"));
        let version = format!("version {} ", expected.current);
        assert!(answer.starts_with(&version), "{expected:?}, but answered is {answer:?}");
    }

    /// The history has it too.
    #[track_caller]
    fn expect_told(&self, expected: &Expected) {
        let history = self.world.json(&format!("history {APP} -n 1"));
        let told = (history[0]["id"].as_str(), history[0]["ended"]["outcome"].as_str());
        let id = format!("{APP}-{}", expected.number);
        assert_eq!(told, (Some(id.as_str()), Some(expected.outcome.as_str())), "{history}");
    }

    /// Whatever a killed prune left, the next one takes; what is kept is whole.
    #[track_caller]
    fn expect_prunable(&self, expected: &Expected) {
        self.world.ok(&format!("prune {APP}"));
        let slots = self.world.slots(APP);
        assert!(!slots.iter().any(|slot| slot.starts_with(OLD)), "{slots:?}");
        let count = r"cd /var/lib/slotd/apps/web; ls trees | grep -vc json; ls artifacts | wc -l; ls staging | wc -l;
            ls instances | sort -u | while read -r name; do test -d slots/$name || echo $name; done";
        let counts = text(&self.world.host.sh(count));
        let kept = slots.len();
        assert_eq!(counts, format!("{kept}\n{kept}\n0"), "trees, artifacts, staging, instances of no slot: {slots:?}");
        let live = format!("{} active", expected.current);
        assert!(slots.contains(&live), "{slots:?}");
    }

    /// How the host looks now.
    fn look(&self) -> Result<Seen, String> {
        Seen::look(&self.world)
    }
}

/// A death: at which point, and at which of its passings in the scenario.
pub type Death = (String, usize);

/// Each passing of `log`, as a point and which time it is.
pub fn passings(log: &[String]) -> Vec<Death> {
    let mut counts = HashMap::new();
    let mut number = |point: &String| {
        let count: &mut usize = counts.entry(point.clone()).or_default();
        *count += 1;
        (point.clone(), *count)
    };
    log.iter().map(&mut number).collect()
}

/// Where a runner shows it: what a test prints is otherwise kept from those who look at one that passed.
pub fn tell(line: &str) {
    // A closed output is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether a point is one of prune's.
fn is_removal(point: &str) -> bool {
    let name = point.split_once(':').map_or(point, |(_, name)| name);
    slotd::slots::Removal::ALL.iter().any(|removal| removal.as_str() == name)
}
