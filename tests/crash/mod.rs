//! A host whose slotd dies at named points: arms a point, runs a scenario into it, and holds what is left against the
//! recovery rule.

use std::process::Output;
use std::sync::Mutex;

use serde_json::Value;
use slotd::config::Profile;
use slotd::model::Exit;

use super::support::host::{Root, shown, text};
use super::support::wait_until;
use super::support::world::{PATIENCE, World};

/// Where the armed point and the log of passed ones lie, both ways writable for whoever slotd runs as.
const DIR: &str = "/var/lib/slotd/crash";

const APP: &str = "web";
const PORT: u16 = 8080;

/// Three that do well, to go round between: none of current and fallback is always one that `next` must be made for.
const GOOD: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];

/// Its `/health` has status 500.
const ILL: &str = "9.0.0";

/// Below all others, so that it never goes live by itself and is the first that retention lets go.
const OLD: &str = "0.1.0";

/// All that is asked of the host, in one go: a level is looked at often, and each entry of the host costs.
const LOOK: &str = r#"
cd /var/lib/slotd/apps/web
echo "restarts $(systemctl show -P NRestarts slotd.service)"
echo "armed $(cat /var/lib/slotd/crash/at 2>/dev/null)"
echo "status $(slotctl status web --json 2>/dev/null | tail -n 1)"
echo "list $(slotctl list web --json 2>/dev/null | tail -n 1)"
echo "gate $(systemctl is-active web.service)"
echo "left $(ls -d next intent.json /run/slotd/hold/web 2>/dev/null | tr '\n' ' ')"
echo "current $(readlink current)"
echo "fallback $(readlink fallback)"
systemctl list-units --all --plain --no-legend --full 'web@*.service' |
    while read -r unit _ active sub _; do echo "unit $unit $active/$sub"; done
"#;

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

/// How the host looks, as far as the recovery rule speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where `current` leads.
    pub current: String,
    fallback: String,
    /// The last deployment's number, outcome and code.
    last: (u64, String, String),
    /// What `status` says of app and units.
    state: String,
    told: Vec<String>,
    /// What systemd says of the units, and of the gate.
    units: Vec<String>,
    gate: String,
    /// "1.0.0 ready", as `list` gives them.
    slots: Vec<String>,
    /// `next`, the intent, the hold mark: those of them that are there.
    left: String,
    /// A point that slotd has not come to.
    armed: String,
    restarts: u64,
}

/// A host for many deaths.
pub struct Rig {
    /// The host.
    pub world: World,
    /// By whose settings the app goes.
    set_up: Mutex<Option<Scenario>>,
}

impl Rig {
    /// slotd with an app that has all the slots of the scenarios.
    #[track_caller]
    pub fn boot(hint: &str, profile: Profile) -> Rig {
        let rig = Rig::empty(hint, profile);
        let world = &rig.world;
        world.add_app(APP, PORT);
        rig.set_up(Scenario::Good);
        for version in GOOD {
            world.live(APP, PORT, version);
        }
        rig.set_up(Scenario::ProbeFails);
        let ill = world.artifact(APP, ILL, "health-500");
        let deployed = world.deploy(APP, &ill);
        assert_eq!(deployed.status.code(), Some(Exit::RolledBack as i32), "{}", shown(&deployed));
        world.fetch(&world.artifact(APP, OLD, ""));
        rig
    }

    /// slotd without an app.
    #[track_caller]
    pub fn empty(hint: &str, profile: Profile) -> Rig {
        let world = World::installed(hint, Root::Own);
        let environment = format!("Environment=SLOTD_CRASH_AT={DIR}/at SLOTD_CRASH_LOG={DIR}/log");
        let drop_ins = "/etc/systemd/system/slotd.service.d";
        world.host.write(&format!("{drop_ins}/crash.conf"), format!("[Service]\nRestartSec=100ms\n{environment}\n"));
        if profile == Profile::Root {
            world.host.ok(&format!("cp /usr/share/slotd/profile-root.conf {drop_ins}"));
            world.host.write("/etc/slotd/slotd.toml", "profile = \"root\"\n");
        }
        world.host.ok(&format!("install -d -m 0777 {DIR} && systemctl daemon-reload"));
        world.host.ok("systemctl enable --now slotd.socket slotd.service");
        Rig { world, set_up: Mutex::new(None) }
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
        let expected = if unbegun { Expected::nothing_of(&before) } else { done };
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
        let as_before = Expected::nothing_of(&before);
        let number = before.last.0 + 1;
        let (words, done) = match scenario {
            Scenario::Good => {
                let to = GOOD.iter().find(|version| **version != before.current && **version != before.fallback);
                let to = (*to.expect("one of three")).to_owned();
                let done = Expected { current: to.clone(), fallback: before.current.clone(), number, ..as_before };
                (format!("activate {APP} {to}"), Expected { outcome: "done".into(), ..done })
            }
            Scenario::ProbeFails => {
                let done = Expected { number, outcome: "rolled-back".into(), exit: Exit::RolledBack, ..as_before };
                (format!("activate {APP} {ILL}"), Expected { ill: "failed", ..done })
            }
            Scenario::Rollback => {
                let (current, fallback) = (before.fallback.clone(), before.current.clone());
                let done = Expected { current, fallback, number, outcome: "done".into(), ..as_before };
                (format!("rollback {APP}"), done)
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

    /// How the host looks now; the error is what can't be read of it, for slotd may be on its way up.
    fn look(&self) -> Result<Seen, String> {
        let looked = text(&self.world.host.sh(LOOK));
        let line = |key: &str| {
            let found = looked.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            found.unwrap_or_default().to_owned()
        };
        let json = |key: &str| {
            serde_json::from_str::<Value>(&line(key)).map_err(|error| format!("no {key}: {error}: {looked}"))
        };
        let (status, list) = (json("status")?, json("list")?);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !status["deployment"].is_null() || status["waiting"].as_array().is_none_or(|waiting| !waiting.is_empty()) {
            return Err(format!("something is under way: {status}"));
        }
        let last = &status["last"];
        let number = word(&last["id"]).rsplit_once('-').and_then(|(_, number)| number.parse().ok());
        let mut units: Vec<String> =
            looked.lines().filter_map(|line| line.strip_prefix("unit ")).map(str::to_owned).collect();
        units.retain(|unit| !unit.ends_with("inactive/dead"));
        let slots = list.as_array().into_iter().flatten();
        Ok(Seen {
            current: line("current").trim_start_matches("slots/").to_owned(),
            fallback: line("fallback").trim_start_matches("slots/").to_owned(),
            last: (number.unwrap_or_default(), word(&last["ended"]["outcome"]), word(&last["ended"]["fault"]["code"])),
            state: word(&status["state"]),
            told: status["units"].as_array().into_iter().flatten().map(word).collect(),
            units,
            gate: line("gate"),
            slots: slots.map(|slot| format!("{} {}", word(&slot["slot"]), word(&slot["state"]))).collect(),
            left: line("left"),
            armed: line("armed"),
            restarts: line("restarts").parse().map_err(|error| format!("restarts: {error}"))?,
        })
    }
}

/// How it should look in the end.
#[derive(Clone, Debug)]
struct Expected {
    current: String,
    fallback: String,
    number: u64,
    outcome: String,
    exit: Exit,
    /// The state of the release whose probe fails.
    ill: &'static str,
}

impl Expected {
    /// As though nothing had been asked for.
    fn nothing_of(before: &Seen) -> Expected {
        let failed = before.slots.contains(&format!("{ILL} failed"));
        Expected {
            current: before.current.clone(),
            fallback: before.fallback.clone(),
            number: before.last.0,
            outcome: before.last.1.clone(),
            exit: Exit::Ok,
            ill: if failed { "failed" } else { "ready" },
        }
    }

    /// What is not so.
    fn wrong_in(&self, seen: &Seen, restarts: u64) -> Vec<String> {
        let unit = format!("{APP}@{}.service active/running", self.current);
        let mut wrong = Vec::new();
        let mut check = |what: &str, right: bool| {
            if !right {
                wrong.push(format!("not right: {what}"));
            }
        };
        check("the point was not reached", seen.armed.is_empty());
        check("restarts", seen.restarts == restarts);
        check("current", seen.current == self.current);
        check("fallback", seen.fallback == self.fallback);
        check("left behind", seen.left.is_empty());
        check("the last deployment", (seen.last.0, &seen.last.1) == (self.number, &self.outcome));
        check("its fault", seen.last.2 == if self.outcome == "rolled-back" { "probe.failed" } else { "" });
        check("what runs", seen.units == [unit.as_str()]);
        check("what status says runs", seen.told == [unit.as_str()]);
        check("the gate", seen.gate == "active");
        check("the state", seen.state == "online");
        let state = |version: &str| match version {
            ILL => self.ill,
            version if version == self.current => "active",
            _ => "ready",
        };
        for version in GOOD.iter().chain([&ILL]) {
            check("the slots", seen.slots.contains(&format!("{version} {}", state(version))));
        }
        wrong
    }
}

/// Whether the one who asked was told the truth: how it ended; or that slotd went away, where that was before the id
/// was told.
fn is_true(output: &Output, expected: &Expected, unbegun: bool) -> bool {
    let code = output.status.code();
    let away = code == Some(Exit::Unreachable as i32);
    away || !unbegun && code == Some(expected.exit as i32)
}

/// Whether a point is one of prune's.
pub fn is_removal(point: &str) -> bool {
    let name = point.split_once(':').map_or(point, |(_, name)| name);
    slotd::slots::Removal::ALL.iter().any(|removal| removal.as_str() == name)
}
