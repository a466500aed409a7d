//! What the rows of the life of a release share: an app, and what it says to bad words.

mod row07;
mod row13;
mod row14;

use serde_json::Value;

use crate::support::host::{Root, shown};
use crate::support::workshop::expect_parts;
use crate::support::world::World;

/// What each row refuses, on one host whose app has 1.0.0 behind it and 2.0.0 live.
#[test]
fn refusals() {
    let world = world("refusals");
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    row07::row07_refusal(&world);
    row13::row13_refusal(&world);
    row14::row14_refusal(&world);
}

/// An app that keeps one slot beside the live one and the fallback.
pub fn world(hint: &str) -> World {
    let world = World::installed(hint, Root::Own);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    world.add_app("web", 8080);
    world.settings("web", "[retention]\nkeep = 1\n");
    world
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
