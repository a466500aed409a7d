//! What the rows of the life of a release share: an app, and what it says to bad words.

pub mod builds;
pub mod hooks;
mod row01;
mod row02;
mod row03;
mod row04;
mod row05;
mod row06;
mod row06_route;
mod row07;
mod row08;
mod row09;
mod row10;
mod row11;
mod row12;
mod row13;
mod row14;
mod row15;
mod tidy;
mod walk;

use serde_json::Value;

use crate::support::host::{Root, shown};
use crate::support::leftovers::Tidy;
use crate::support::workshop::expect_parts;
use crate::support::world::World;

/// What each row refuses, on one host whose app has 1.0.0 behind it and 2.0.0 live.
#[test]
fn refusals() {
    let world = world("refusals");
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    row01::row01_refusal(&world);
    row06::row06_refusal(&world);
    row12::row12_refusal(&world);
    row03::row03_refusal(&world);
    row07::row07_refusal(&world);
    row08::row08_refusal(&world);
    row10::row10_refusal(&world);
    row09::row09_refusal(&world);
    row11::row11_refusal(&world);
    row13::row13_refusal(&world);
    row14::row14_refusal(&world);
    row15::row15_refusal(&world);
    row02::row02_refusal(&world);
    row04::row04_refusal(&world);
    // What it leaves is a deployment that failed.
    row05::row05_refusal(&world);
}

/// An app that keeps one slot beside the live one and the fallback. At the end of the test the host is looked over: nothing
/// of what was under way may be left behind.
pub fn world(hint: &str) -> Tidy {
    let world = World::installed(hint, Root::Own);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    world.add_app("web", 8080);
    world.settings("web", "[retention]\nkeep = 1\n");
    Tidy::new(world)
}

/// What `check` says of the app with these lines at the end of its settings; they go again.
#[track_caller]
pub fn expect_checked(world: &World, lines: &str, exit: i32, parts: &[&str]) {
    let file = "/etc/slotd/apps/web.toml";
    world.host.ok(&format!("cp {file} /root/web.toml && printf '%s' '{lines}' >>{file}"));
    let checked = world.slotctl("check web");
    world.host.ok(&format!("mv /root/web.toml {file}"));
    assert_eq!(checked.status.code(), Some(exit), "{lines}: {}", shown(&checked));
    expect_parts(&shown(&checked), parts);
}

/// Whether the app has this slot, in whatever state.
pub fn has(world: &World, slot: &str) -> bool {
    world.slots("web").iter().any(|line| line.starts_with(&format!("{slot} ")))
}

/// What `prune` says of a slot: whether it stays, and why.
#[track_caller]
pub fn verdict(pruned: &Value, slot: &str) -> (bool, String) {
    let found = pruned["slots"].as_array().and_then(|all| all.iter().find(|it| it["slot"] == slot));
    let found = found.unwrap_or_else(|| panic!("{slot}: {pruned}"));
    (found["kept"] == true, found["reason"].as_str().unwrap_or_default().to_owned())
}

/// A variable in the environment of a unit's main process.
#[track_caller]
pub fn env_of(world: &World, unit: &str, name: &str) -> Option<String> {
    let all = world.host.ok(&format!("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {unit})/environ"));
    all.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned))
}

/// Words that are refused: their exit status, the stable code, and what stays as it was.
#[track_caller]
pub fn expect_refused(world: &World, words: &str, exit: i32, code: &str) {
    let output = world.slotctl(&format!("{words} --json"));
    assert_eq!(output.status.code(), Some(exit), "{words}: {}", shown(&output));
    assert!(shown(&output).contains(&format!("\"{code}\"")), "{words}: {}", shown(&output));
}

/// Words that are refused to somebody who is in none of slotd's groups.
#[track_caller]
pub fn expect_denied(world: &World, words: &str) {
    let denied = world.host.sh(&format!("runuser -u nobody -- slotctl {words} --json"));
    assert!(shown(&denied).contains("\"auth.denied\""), "{}", shown(&denied));
}

/// What the settings file is told about this line of `[retention]`.
#[track_caller]
pub fn expect_wrong(world: &World, line: &str, part: &str) {
    let file = "/etc/slotd/apps/web.toml";
    world.host.ok(&format!("cp {file} /root/web.toml && sed -i '/^keep = /a {line}' {file}"));
    let checked = world.slotctl("check web");
    world.host.ok(&format!("mv /root/web.toml {file}"));
    assert_eq!(checked.status.code(), Some(3), "{line}: {}", shown(&checked));
    expect_parts(&shown(&checked), &[line, part]);
}
