//! Data: what a release does to it, who is barred by that, and how it goes back.

use serde_json::Value;

use super::{expect_refused, hooks, world};
use crate::support::host::shown;
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// Which slots are barred, and by which.
#[track_caller]
fn barred(world: &World) -> Vec<(String, String)> {
    let listed = world.json("list web");
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let all = listed.as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|slot| Some((word(&slot["slot"])?, word(&slot["barred"])?))).collect()
}

fn pair(slot: &str, by: &str) -> (String, String) {
    (slot.to_owned(), by.to_owned())
}

/// Brings a release in, which only gets ready.
#[track_caller]
fn bring(world: &World, version: &str, migration: &str, behaviour: &str, restore: &str) {
    let artifact = hooks::migrating(world, version, migration, behaviour, restore);
    expect_exit(&world.deploy("web", &artifact), slotd::model::Exit::ReadyNotLive as i32);
}

#[test]
fn row10_story() {
    let world = world("row10");
    world.live("web", 8080, "1.0.0");
    hooks::add(&world, &["snapshot", "deploy", "restore"]);
    let own = "[[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\npath = \"/health\"\n";
    let rest = "[soak]\ntime = \"0s\"\n[retention]\nkeep = 10\n";
    world.settings("web", &format!("deploy = \"manual\"\nstrategy = \"blue-green\"\n{rest}{own}"));

    // One that older slots can live with bars nobody, and nothing is saved for it.
    bring(&world, "2.0.0", "compatible", "", "");
    expect_parts(&world.ok("plan web 2.0.0"), &["compatible migration: older slots go on working"]);
    world.ok("activate web 2.0.0");
    assert_eq!(hooks::ran(&world), ["deploy 2.0.0 of 2.0.0, up: 1.0.0"]);
    world.ok("rollback web");
    world.ok("rollback web");
    assert_eq!((hooks::ran(&world), barred(&world)), (vec![], vec![]));

    // A breaking one stops what is old before it touches the data, whatever the strategy, and bars it.
    bring(&world, "3.0.0", "breaking", "", "");
    let parts = [
        "breaking migration: the old slot stops first",
        "slots below 3.0.0 are barred",
        "web-snapshot@3.0.0",
        "web-restore@3.0.0",
    ];
    expect_parts(&world.ok("plan web 3.0.0"), &parts);
    world.ok("activate web 3.0.0");
    world.expect_serving(8080, "3.0.0");
    assert_eq!(hooks::ran(&world), ["snapshot 3.0.0 of 3.0.0, up:", "deploy 3.0.0 of 3.0.0, up:"]);
    assert_eq!(barred(&world), [pair("2.0.0", "3.0.0"), pair("1.0.0", "3.0.0")]);
    expect_parts(&world.ok("history web -n 1"), &["deploy 3.0.0, breaking"]);
    assert_eq!(world.json("history web -n 1")[0]["migration"], "breaking");
    expect_parts(&world.ok("status web"), &["3.0.0 since, which 2.0.0 doesn't know"]);
    for words in ["rollback web", "rollback web --to 1.0.0", "activate web 2.0.0"] {
        expect_refused(&world, words, 5, "release.barred");
    }
    expect_parts(&shown(&world.slotctl("plan web 2.0.0")), &["release.barred", "--force"]);
    // Another number of instances is the same release.
    world.ok("scale web 2");
    world.ok("scale web 1");
    assert_eq!(hooks::ran(&world), Vec::<String>::new());

    // By force it goes back: whoever says so has seen to the data, and nobody is barred any more.
    world.ok("activate web 3.0.0");
    world.ok("rollback web --to 2.0.0 --force");
    world.expect_serving(8080, "2.0.0");
    assert_eq!((hooks::ran(&world), barred(&world)), (vec![], vec![]));
    world.ok("activate web 3.0.0");
    assert_eq!(hooks::ran(&world).len(), 2, "and forward it migrates again");

    // What fails once the data has changed gets it restored, before what was live starts again.
    bring(&world, "4.0.0", "breaking", "health-500", "");
    expect_exit(&world.slotctl("activate web 4.0.0"), 10);
    world.expect_serving(8080, "3.0.0");
    let ran = ["snapshot 4.0.0 of 4.0.0, up:", "deploy 4.0.0 of 4.0.0, up:", "restore 4.0.0 of 4.0.0, up:"];
    assert_eq!((hooks::ran(&world), hooks::form(&world)), (ran.map(str::to_owned).to_vec(), "3.0.0".to_owned()));
    assert!(barred(&world).iter().all(|(_, by)| by == "3.0.0"), "{:?}", barred(&world));

    // An operator knows more than the release; and cancels in the middle of it.
    world.fetch(&hooks::release(
        &world,
        "5.0.0",
        &[
            ("snapshot", "cp /var/tmp/data/form /var/tmp/data/saved"),
            ("deploy", "echo 5 >/var/tmp/data/form; sleep 300"),
            ("restore", "cp /var/tmp/data/saved /var/tmp/data/form"),
        ],
    ));
    expect_exit(&world.slotctl("deploy /root/web-5.0.0.tar.zst --app web"), slotd::model::Exit::ReadyNotLive as i32);
    world.ok("activate web 5.0.0 --migration breaking --no-wait");
    wait_until("the data to change", PATIENCE, || match hooks::form(&world) {
        form if form == "5" => Ok(()),
        form => Err(form),
    });
    world.ok("cancel web");
    let last = world.expect_idle("web")["last"].clone();
    assert_eq!((&last["ended"]["outcome"], &last["migration"]), (&"cancelled".into(), &"breaking".into()), "{last}");
    world.expect_serving(8080, "3.0.0");
    assert_eq!(hooks::form(&world), "3.0.0");

    // Data that can't be restored is touched by nobody; forward is a way out.
    bring(&world, "6.0.0", "breaking", "health-500", "exit 1");
    expect_exit(&world.slotctl("activate web 6.0.0"), 13);
    expect_parts(&world.ok("why web"), &["stuck", "the restore hook web-restore@6.0.0.service exited with status 1"]);
    assert_eq!(world.host.ok("systemctl list-units --plain --no-legend 'web@*.service' | wc -l"), "0");
    bring(&world, "7.0.0", "none", "", "");
    world.ok("activate web 7.0.0");
    world.expect_serving(8080, "7.0.0");
}

#[track_caller]
pub fn row10_refusal(world: &World) {
    let before = world.slots("web");
    // There is no hook that restores the data.
    expect_refused(world, "activate web 1.0.0 --migration breaking", 5, "release.irreversible");
    expect_parts(
        &shown(&world.slotctl("plan web 1.0.0 --migration breaking")),
        &["release.irreversible", "[hooks] restore"],
    );
    assert_eq!(world.slotctl("activate web 1.0.0 --migration worse").status.code(), Some(2));
    let wrong = world.artifact_with("web", "3.0.0", ".tar.zst", |tree| {
        std::fs::create_dir(tree.join(".slotd")).expect("made");
        std::fs::write(tree.join(".slotd/release.toml"), "migration = \"worse\"\n").expect("written");
    });
    world.fetch(&wrong);
    let linted = world.slotctl(&format!("lint /root/{}", wrong.file));
    assert_eq!(linted.status.code(), Some(21), "{}", shown(&linted));
    expect_parts(&shown(&linted), &["release.invalid", "breaking"]);
    assert_eq!(world.slots("web"), before);
}
