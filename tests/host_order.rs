//! Which release goes live, whatever the order in which they come and the way that they take.

mod support;

use support::host::Root;
use support::workshop::{expect_exit, expect_parts};
use support::world::World;

const VERSIONS: [&str; 4] = ["1.4.1", "1.4.3", "1.4.2", "1.3.9"];

/// One app a way of bringing an artifact, with its port.
const WAYS: [(&str, u16); 3] = [("copied", 8081), ("moved", 8082), ("sent", 8083)];

#[test]
fn four_releases_in_some_orders_end_with_the_highest_live_and_none_lost() {
    orders_end_alike(&[VERSIONS, ["1.3.9", "1.4.1", "1.4.2", "1.4.3"]]);
}

#[test]
#[ignore = "long: half of 24 orders, by three ways each"]
fn four_releases_in_the_first_twelve_orders_end_with_the_highest_live_and_none_lost() {
    orders_end_alike(&permutations()[..12]);
}

#[test]
#[ignore = "long: the other half"]
fn four_releases_in_the_last_twelve_orders_end_with_the_highest_live_and_none_lost() {
    orders_end_alike(&permutations()[12..]);
}

#[test]
fn versions_that_look_alike_stand_side_by_side_and_pre_releases_wait_for_a_word() {
    let world = World::boot("alike", Root::Own);
    world.supply_server();
    world.send_live("web", "1.4.2");
    let alike = ["2.0~rc1", "1.4.2+b5", "1.4.2-r2"];
    for version in alike {
        world.drop_in("web", &world.make("web", version, ""));
    }
    world.expect_slots("web", &["1.4.2", "1.4.2+b5", "1.4.2-r2", "2.0~rc1"]);
    for (version, unit) in alike.iter().zip(["web@2.0@trc1", "web@1.4.2@bb5", "web@1.4.2-r2"]) {
        world.ok(&format!("activate web '{version}'"));
        world.expect_serving(8080, version);
        assert_eq!(world.host.ok(&format!("systemctl is-active '{unit}.service'")), "active");
        assert_eq!(world.host.ok("systemctl list-units --plain --no-legend --state=active 'web@*' | wc -l"), "1");
    }

    let candidate = world.make("web", "2.0.0-rc.1", "");
    let sent = world.send("web", &candidate);
    expect_exit(&sent, 20);
    expect_parts(&support::host::text(&sent), &["pre-release", "next: slotctl activate web 2.0.0-rc.1"]);
    world.expect_idle("web");
    world.expect_serving(8080, "1.4.2-r2");
    world.ok("activate web 2.0.0-rc.1");
    world.expect_serving(8080, "2.0.0-rc.1");
}

#[test]
fn what_was_left_by_hand_stays_left_until_a_higher_release_comes() {
    let world = World::boot("left", Root::Own);
    world.supply_server();
    world.send_live("web", "1.0.0");
    world.send_live("web", "2.0.0");
    world.ok("rollback web");
    world.expect_serving(8080, "1.0.0");
    let rolled_back = world.json("status web")["last"]["id"].clone();

    world.host.ok("systemctl restart slotd.service");
    world.drop_in("web", "/root/web-2.0.0.tar.zst");
    support::wait_until("the same file known", support::world::PATIENCE, || {
        let left = world.host.ok("ls /var/lib/slotd/inbox/web");
        if left.contains("tar.zst\n") || left.ends_with("tar.zst") { Err(left) } else { Ok(()) }
    });
    let sent = world.send("web", "/root/web-2.0.0.tar.zst");
    expect_exit(&sent, 20);
    expect_parts(&support::host::text(&sent), &["as it was already", "next: slotctl activate web 2.0.0"]);
    let status = world.expect_idle("web");
    assert_eq!((&status["current"], &status["last"]["id"]), (&"1.0.0".into(), &rolled_back), "{status}");
    assert_eq!(world.slots("web"), ["2.0.0 ready", "1.0.0 active"]);
    world.expect_serving(8080, "1.0.0");

    world.drop_in("web", &world.make("web", "2.0.1", ""));
    world.expect_serving(8080, "2.0.1");
}

impl World {
    /// Waits until exactly these slots are there, and nothing is under way.
    #[track_caller]
    fn expect_slots(&self, app: &str, versions: &[&str]) {
        support::wait_until(&format!("{} slots of {app}", versions.len()), support::world::PATIENCE, || {
            let slots = self.slots(app);
            let mut found: Vec<&str> = slots.iter().filter_map(|slot| slot.split(' ').next()).collect();
            found.sort_unstable();
            if found == versions { Ok(()) } else { Err(format!("{slots:?}; {}", self.json(&format!("status {app}")))) }
        });
        self.expect_idle(app);
    }

    /// Takes an app back to where it was before its first release.
    #[track_caller]
    fn reset(&self, apps: &[&str]) {
        self.host.ok("systemctl stop slotd.socket slotd.service");
        for app in apps {
            self.host.ok(&format!(
                "systemctl stop {app}.service && rm -rf /var/lib/slotd/apps/{app} /var/lib/slotd/inbox/{app}/*"
            ));
        }
        self.host.ok("systemctl start slotd.socket slotd.service");
    }
}

fn orders_end_alike(orders: &[[&str; 4]]) {
    let world = World::installed("order", Root::Own);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    world.supply_server();
    for (app, port) in WAYS {
        world.add_app(app, port);
        VERSIONS.iter().for_each(|version| drop(world.make(app, version, "")));
    }
    for order in orders {
        for version in order {
            let name = format!("copied-{version}.tar.zst");
            world.host.ok(&format!("cp /root/{name} /var/lib/slotd/inbox/copied/{name}"));
            world.drop_in("moved", &format!("/root/moved-{version}.tar.zst"));
        }
        for (place, version) in order.iter().enumerate() {
            let is_highest = order[..place].iter().all(|before| before < version);
            let sent = world.send("sent", &format!("/root/sent-{version}.tar.zst"));
            expect_exit(&sent, if is_highest { 0 } else { 20 });
        }
        for (app, port) in WAYS {
            world.expect_slots(app, &["1.3.9", "1.4.1", "1.4.2", "1.4.3"]);
            world.expect_serving(port, "1.4.3");
            world.expect_idle(app);
            let slots = world.slots(app);
            assert_eq!(slots, ["1.4.3 active", "1.4.2 ready", "1.4.1 ready", "1.3.9 ready"], "{app}, {order:?}");
        }
        world.reset(&WAYS.map(|(app, _)| app));
    }
}

/// All orders of [`VERSIONS`].
fn permutations() -> Vec<[&'static str; 4]> {
    let places = 0..4;
    let all = places.clone().flat_map(|a| places.clone().map(move |b| (a, b)));
    let all = all.flat_map(|(a, b)| (0..4).map(move |c| (a, b, c)));
    let distinct: Vec<_> = all
        .filter(|(a, b, c)| a != b && b != c && a != c)
        .map(|(a, b, c)| [a, b, c, 6 - a - b - c].map(|place: usize| VERSIONS[place]))
        .collect();
    assert_eq!(distinct.len(), 24);
    distinct
}
