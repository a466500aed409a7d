//! Plan and approval: what was approved is carried out though slotd dies in it, and a token outlives slotd.

use slotd::config::Profile;

use crate::crash::Rig;

use super::die_at;

#[test]
fn row11_kill() {
    let rig = Rig::boot("row11-kill", Profile::User);
    let world = &rig.world;
    let token = |slot: &str| {
        let planned = world.json(&format!("plan web {slot}"));
        planned["foreseen"]["token"].as_str().unwrap_or_else(|| panic!("{planned}")).to_owned()
    };
    let approved = token("2.0.0");
    die_at(&rig, "before:queue", &format!("activate web 2.0.0 --plan {approved}"));
    world.expect_serving(8080, "3.0.0");
    assert_eq!(token("2.0.0"), approved, "nothing was done, and the approval holds");
    rig.arm("after:switch", 1);
    world.ok(&format!("activate web 2.0.0 --plan {approved} --no-wait"));
    rig.expect_dead("after:switch");
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");
    // What was approved is over: the way from what is live now is another one.
    let again = world.json(&format!("activate web 3.0.0 --plan {approved}"));
    assert_eq!(again["fault"]["code"], "plan.moved", "{again}");
}
