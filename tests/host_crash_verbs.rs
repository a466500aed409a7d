//! One deployment is held in each state, on a real systemd, and every verb is tried there: what comes of it is what
//! `docs/verbs.md` says.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use support::host::Root;
use support::wait_until;
use support::workshop::expect_exit;
use support::world::{PATIENCE, World};

/// Where slotd reads in which step it waits.
const HOLD: &str = "/run/hold";

/// Its `/health` has status 500.
const ILL: &str = "9.0.0";

/// How a deployment comes into a state and stays there: the step that is held, and settings that lead to it.
struct Way {
    state: &'static str,
    step: &'static str,
    switch: &'static str,
    soak: &'static str,
}

const fn way(state: &'static str, step: &'static str) -> Way {
    Way { state, step, switch: "automatic", soak: "time = \"0s\"" }
}

const WAYS: [Way; 10] = [
    way("preparing", "verify"),
    way("starting", "start"),
    way("proving", "prove"),
    way("switching", "confirm"),
    Way { switch: "manual", ..way("waiting", "await") },
    // What is watched for so long doesn't end by itself.
    Way { soak: "time = \"10m\"\nconfirm = true", ..way("soaking", "soak") },
    Way { soak: "time = \"10m\"", ..way("soaking", "soak") },
    way("draining", "drain"),
    way("post", "confirm"),
    way("reverting", "hold"),
];

/// What has become of a verb, by the words of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// It ends with this status, and the deployment under way goes on.
    Beside(i32),
    /// The deployment does it.
    Followed,
}

/// The table: cells by verb and state.
fn table() -> BTreeMap<(String, String), String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verbs.md")).expect("docs/verbs.md");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
    let head = rows.next().expect("a head");
    let of = |row: Vec<String>| {
        let verb = row[1].trim_matches('`').to_owned();
        let states = head.iter().zip(row).skip(2).filter(|(state, _)| !state.is_empty());
        states.map(|(state, cell)| ((verb.clone(), state.clone()), cell)).collect::<Vec<_>>()
    };
    rows.flat_map(of).collect()
}

/// The meaning of a cell. Where it says more than one thing, the first is of deployments that are to be confirmed, the last
/// of all others.
fn meaning(cell: &str, way: Option<&Way>) -> Cell {
    let confirmed = way.is_some_and(|way| way.soak.contains("confirm"));
    let mut said = cell.split("; else ");
    match if confirmed { said.next() } else { said.last() }.unwrap_or(cell) {
        "done" | "waits" => Cell::Beside(0),
        "busy" | "refused [1]" | "refused [2]" => Cell::Beside(6),
        "nothing" => Cell::Beside(4),
        refused if refused.starts_with("refused [") => Cell::Beside(5),
        followed if followed.starts_with("followed") => Cell::Followed,
        other => panic!("{other:?} stands in docs/verbs.md"),
    }
}

struct Stage {
    world: World,
    sent: u32,
}

impl Stage {
    /// An app of which a deployment can stop anywhere, with two slots that do well and one that is quarantined.
    fn boot() -> Stage {
        let stage = Stage { world: World::installed("verbs", Root::Own), sent: 0 };
        let world = &stage.world;
        let drop_in = "/etc/systemd/system/slotd.service.d/hold.conf";
        world.host.write(drop_in, format!("[Service]\nEnvironment=SLOTD_HOLD_AT={HOLD}\n"));
        world.host.ok("systemctl daemon-reload && systemctl enable --now slotd.socket slotd.service");
        world.add_app_with("web", "--port 8080 --accept signal");
        stage.go_by(&way("", ""));
        for version in ["1.0.0", "2.0.0"] {
            world.live("web", 8080, version);
        }
        expect_exit(&world.deploy("web", &world.artifact("web", ILL, "health-500")), 10);
        world.host.ok(&format!("cp -p /var/lib/slotd/apps/web/slots/{ILL}/quarantine.json /root/"));
        stage
    }

    #[track_caller]
    fn go_by(&self, way: &Way) {
        let (switch, soak) = (way.switch, way.soak);
        // What fails is to fail soon, and what does well has time on a busy machine.
        let deadline = if way.state == "reverting" { "700ms" } else { "20s" };
        self.world.settings(
            "web",
            &format!(
                "strategy = \"blue-green\"\nswitch = \"{switch}\"\n[soak]\n{soak}\n[proof]\ninterval = \"50ms\"\n\
                 timeout = \"700ms\"\nsuccesses = 1\ndeadline = \"{deadline}\"\nstable_for = \"100ms\"\n[retention]\nkeep = 50\n"
            ),
        );
        self.world.ok("check web");
    }

    /// The good slot that isn't live.
    fn other(&self) -> &'static str {
        let current = self.world.host.ok("readlink /var/lib/slotd/apps/web/current");
        if current.ends_with("/1.0.0") { "2.0.0" } else { "1.0.0" }
    }

    /// The words of a verb, made so that nothing but the app's standing can refuse them.
    fn words(&mut self, verb: &str) -> String {
        match verb {
            "deploy" => {
                self.sent += 1;
                format!("deploy /root/web-2.0.0.tar.zst --app web --version 10.0.{} --no-wait", self.sent)
            }
            "plan" => format!("plan web {}", self.other()),
            "set" => "set web retention.keep 50".to_owned(),
            "deploy-staged" | "redeploy" => format!("{verb} web --no-wait"),
            "scale" => "scale web 1 --no-wait".to_owned(),
            "pin" | "unpin" => format!("{verb} web 1.0.0"),
            "activate" => format!("activate web {} --no-wait", self.other()),
            "rollback" => format!("rollback web --to {} --no-wait", self.other()),
            "retry" => {
                // What has failed, if no deployment has.
                self.world.host.ok("echo nonsense >/var/lib/slotd/inbox/web/nonsense");
                self.world.expect_status("web", "a refused file", |status| !status["refused"][0].is_null());
                "retry web --no-wait".to_owned()
            }
            "quarantine clear" => {
                let slot = format!("/var/lib/slotd/apps/web/slots/{ILL}");
                self.world.host.ok(&format!("cp -p /root/quarantine.json {slot}/"));
                format!("quarantine clear web {ILL}")
            }
            verb => format!("{verb} web"),
        }
    }

    /// Begins a deployment, and waits until it is held; its id.
    #[track_caller]
    fn hold(&self, way: &Way) -> String {
        self.world.host.write(HOLD, format!("{} {}\n", way.state, way.step));
        let words = match way.state {
            "reverting" => format!("activate web {ILL} --force --no-wait"),
            _ => format!("activate web {} --no-wait", self.other()),
        };
        self.world.ok(&words);
        self.expect_held(way)
    }

    #[track_caller]
    fn expect_held(&self, way: &Way) -> String {
        let held = |status: &serde_json::Value| status["deployment"]["state"] == way.state;
        let status = self.world.expect_status("web", way.state, held);
        status["deployment"]["id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    fn release(&self) {
        self.world.host.ok(&format!("rm -f {HOLD}"));
    }

    /// Tries a verb that leaves the deployment under way alone.
    #[track_caller]
    fn beside(&mut self, verb: &str, exit: i32, way: &Way) {
        let words = self.words(verb);
        let tried = self.world.slotctl(&words);
        let shown = support::host::shown(&tried);
        assert_eq!(tried.status.code(), Some(exit), "{} in {}: {words}: {shown}", verb, way.state);
        if verb == "freeze" {
            self.world.ok("unfreeze web");
        }
        if verb == "deploy" {
            // What waits for its turn is what `cancel` ends first.
            let status = self.world.json("status web");
            assert!(status["waiting"].to_string().contains("10.0."), "{status}");
            self.world.ok("cancel web");
        }
        self.expect_held(way);
    }

    /// Tries a verb that the deployment follows.
    #[track_caller]
    fn followed(&mut self, verb: &str, held: &str, way: &Way) {
        let words = self.words(verb);
        self.world.begin("verb", &words);
        // A step that only waits is left at once; from another one the word is heard when it ends.
        let heard = |status: &serde_json::Value| status["deployment"]["state"] != way.state;
        if ["preparing", "starting", "proving", "switching", "waiting", "soaking", "draining"].contains(&way.state) {
            self.world.expect_status("web", &format!("{verb} in {}", way.state), heard);
        }
        self.release();
        let (exit, said) = self.world.exit_of("verb");
        assert_eq!(exit, 0, "{verb} in {}: {said}", way.state);
        self.world.expect_idle("web");
        let history = self.world.json("history web");
        let outcome =
            history.as_array().into_iter().flatten().find(|it| it["id"] == held).map(|it| &it["ended"]["outcome"]);
        let expected = if ["cancel", "rollback"].contains(&verb) { "cancelled" } else { "done" };
        assert_eq!(outcome.and_then(|it| it.as_str()), Some(expected), "{verb} in {}: {history}", way.state);
    }
}

#[test]
fn every_verb_is_tried_in_every_state() {
    let table = table();
    let mut stage = Stage::boot();
    let mut tried = BTreeSet::new();
    let verbs: BTreeSet<String> = table.keys().map(|(verb, _)| verb.clone()).collect();
    for way in &WAYS {
        let cell = |verb: &str| meaning(&table[&(verb.to_owned(), way.state.to_owned())], Some(way));
        stage.go_by(way);
        let mut held = stage.hold(way);
        for verb in &verbs {
            if let Cell::Beside(exit) = cell(verb) {
                stage.beside(verb, exit, way);
            }
            tried.insert((verb.clone(), way.state.to_owned()));
        }
        let followed: Vec<&String> = verbs.iter().filter(|verb| cell(verb) == Cell::Followed).collect();
        for (n, verb) in followed.iter().enumerate() {
            if n > 0 {
                held = stage.hold(way);
            }
            stage.followed(verb, &held, way);
        }
        stage.release();
        stage.world.expect_idle("web");
    }
    for verb in &verbs {
        let Cell::Beside(exit) = meaning(&table[&(verb.clone(), "idle".to_owned())], None) else {
            panic!("{verb}: nobody is there to follow it");
        };
        let words = stage.words(verb);
        expect_exit(&stage.world.slotctl(&words), exit);
        if verb == "freeze" {
            stage.world.ok("unfreeze web");
        }
        stage.world.expect_idle("web");
        tried.insert((verb.clone(), "idle".to_owned()));
    }
    let _ = writeln!(std::io::stderr(), "verbs: cells={}", tried.len());
    let all: BTreeSet<_> = table.into_keys().collect();
    assert_eq!(tried, all, "each cell of docs/verbs.md");
    wait_until("the app at rest", PATIENCE, || {
        let status = stage.world.json("status web");
        if status["state"] == "online" { Ok(()) } else { Err(status.to_string()) }
    });
}
