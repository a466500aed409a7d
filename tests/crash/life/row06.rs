//! Settings: a changed environment goes live once, however slotd dies on the way.

use slotd::config::Profile;

use crate::crash::Rig;

#[test]
fn row06_kill() {
    let rig = Rig::boot("row06-kill", Profile::User);
    let world = &rig.world;
    for (n, point) in [(2, "before:raise-mark"), (3, "after:raise-mark"), (4, "after:start"), (5, "after:retire")] {
        rig.arm(point, 1);
        world.settings("web", &format!("[env]\nA = \"{n}\"\n"));
        rig.expect_dead(point);
        let slot = format!("3.0.0@r{n}");
        world.expect_status("web", &format!("{point}: {slot} live"), |status| {
            status["current"] == slot.as_str() && status["deployment"].is_null()
        });
        assert_eq!(world.json("staged web"), serde_json::json!([]), "{point}");
        let slots = world.slots("web").into_iter().filter(|line| line.starts_with("3.0.0@r"));
        assert_eq!(slots.count(), n - 1, "{point}: one slot for each environment");
    }
    world.expect_serving(8080, "3.0.0");
}
