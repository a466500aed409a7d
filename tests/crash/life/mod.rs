//! What the kills of all rows share.

mod row01;
mod row02;
mod row03;
mod row04;
mod row05;
mod row06;
mod row07;
mod row08;
mod row09;
mod row10;
mod row11;
mod row12;
mod row13;
mod row14;
mod row15;

use slotd::model::Exit;

use crate::crash::Rig;
use crate::support::host::shown;

/// Says something in which slotd dies at `point`; the caller is told that nobody answered.
#[track_caller]
pub fn die_at(rig: &Rig, point: &str, words: &str) {
    rig.arm(point, 1);
    let output = rig.world.host.sh(&format!("timeout 60 slotctl {words}"));
    assert_eq!(output.status.code(), Some(Exit::Unreachable as i32), "{point}, {words}: {}", shown(&output));
    rig.expect_dead(point);
}
