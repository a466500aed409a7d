//! How a host looks, and how it should look after a death of slotd.

use std::process::Output;

use serde_json::Value;
use slotd::model::Exit;

use super::{APP, GOOD, ILL};
use crate::support::host::text;
use crate::support::world::World;

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

/// How the host looks, as far as the recovery rule speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where `current` leads.
    pub current: String,
    pub fallback: String,
    /// The last deployment's number, outcome and code.
    pub last: (u64, String, String),
    /// What `status` says of app and units.
    state: String,
    told: Vec<String>,
    /// What systemd says of the units, and of the gate.
    units: Vec<String>,
    gate: String,
    /// "1.0.0 ready", as `list` gives them.
    pub slots: Vec<String>,
    /// `next`, the intent, the hold mark: those of them that are there.
    left: String,
    /// A point that slotd has not come to.
    armed: String,
    pub restarts: u64,
}

impl Seen {
    /// How the host looks now; the error is what can't be read of it, for slotd may be on its way up.
    pub fn look(world: &World) -> Result<Seen, String> {
        let looked = text(&world.host.sh(LOOK));
        let line = |key: &str| {
            let found = looked.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            found.unwrap_or_default().to_owned()
        };
        let json = |key: &str| {
            serde_json::from_str::<Value>(&line(key)).map_err(|error| format!("no {key}: {error}: {looked}"))
        };
        let (status, list) = (json("status")?, json("list")?);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // The next try of one that was undone is none.
        let waits = |it: &Value| !it["reason"].as_str().unwrap_or_default().starts_with("is tried again in ");
        if !status["deployment"].is_null() || status["waiting"].as_array().is_none_or(|all| all.iter().any(waits)) {
            return Err(format!("something is under way: {status}"));
        }
        let last = &status["last"];
        let number = word(&last["id"]).rsplit_once('-').and_then(|(_, number)| number.parse().ok());
        let mut units: Vec<String> =
            looked.lines().filter_map(|line| line.strip_prefix("unit ")).map(str::to_owned).collect();
        units.retain(|unit| !unit.ends_with("inactive/dead"));
        let mut told: Vec<String> = status["units"].as_array().into_iter().flatten().map(word).collect();
        units.sort();
        told.sort();
        let slots = list.as_array().into_iter().flatten();
        Ok(Seen {
            current: line("current").trim_start_matches("slots/").to_owned(),
            fallback: line("fallback").trim_start_matches("slots/").to_owned(),
            last: (number.unwrap_or_default(), word(&last["ended"]["outcome"]), word(&last["ended"]["fault"]["code"])),
            state: word(&status["state"]),
            told,
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
pub struct Expected {
    pub current: String,
    pub fallback: String,
    /// Of each slot.
    pub instances: u32,
    pub number: u64,
    pub outcome: String,
    /// The code of what went wrong.
    pub code: String,
    pub exit: Exit,
    /// The state of the release whose probe fails.
    pub ill: &'static str,
}

impl Expected {
    /// As though nothing had been asked for.
    pub fn nothing_of(before: &Seen, instances: u32) -> Expected {
        let failed = before.slots.contains(&format!("{ILL} failed"));
        Expected {
            current: before.current.clone(),
            fallback: before.fallback.clone(),
            instances,
            number: before.last.0,
            outcome: before.last.1.clone(),
            code: before.last.2.clone(),
            exit: Exit::Ok,
            ill: if failed { "failed" } else { "ready" },
        }
    }

    /// What is not so.
    pub fn wrong_in(&self, seen: &Seen, restarts: u64) -> Vec<String> {
        let units = self.units();
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
        check("its fault", seen.last.2 == self.code);
        check("what runs", seen.units == units);
        check("what status says runs", seen.told == units);
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

    /// What runs, all of it and nothing else.
    fn units(&self) -> Vec<String> {
        let unit = |number| match number {
            1 => format!("{APP}@{}.service active/running", self.current),
            number => format!("{APP}@{}@{number}.service active/running", self.current),
        };
        (1..=self.instances).map(unit).collect()
    }
}

/// Whether the one who asked was told the truth: how it ended; or that slotd went away, where that was before the id
/// was told.
pub fn is_true(output: &Output, expected: &Expected, unbegun: bool) -> bool {
    let code = output.status.code();
    let away = code == Some(Exit::Unreachable as i32);
    away || !unbegun && code == Some(expected.exit as i32)
}
