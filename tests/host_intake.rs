//! What can be dropped, and what becomes of it.

mod support;

use support::host::Root;
use support::wait_until;
use support::workshop::{expect_exit, expect_parts};
use support::world::{PATIENCE, World};

const INBOX: &str = "/var/lib/slotd/inbox/web";

#[test]
fn folders_and_every_kind_of_archive_are_taken_and_equal_bytes_are_one_tree() {
    let world = World::boot("intake", Root::Own);
    world.supply_server();
    for (version, ending) in [("1.0.0", "tar"), ("1.0.1", "tar.gz"), ("1.0.2", "tar.xz"), ("1.0.3", "tar.zst")] {
        let tree = world.tree(&format!("web-{version}"), &[("VERSION", version)]);
        world.drop_in("web", &world.pack(&tree, &format!("web-{version}.{ending}")));
        world.expect_serving(8080, version);
    }
    world.drop_in("web", &world.tree("web-1.0.4", &[("VERSION", "1.0.4")]));
    world.expect_serving(8080, "1.0.4");
    world.expect_idle("web");
    world.expect_taken(&[]);
    let fate = world.host.ok(&format!("cat {INBOX}/web-1.0.4.slotd.json"));
    expect_parts(&fate, &["accepted", "1.0.4"]);

    // Without a VERSION of its own a release says what slotd calls it.
    let trees = || world.host.ok("ls -d /var/lib/slotd/apps/web/trees/*/ | wc -l");
    let file = world.pack(&world.tree("web-same", &[]), "web-2.0.0.tar.zst");
    expect_exit(&world.send("web", &file), 0);
    let before = trees();
    world.host.ok("cp /root/web-2.0.0.tar.zst /root/web-2.0.1.tar.zst");
    expect_exit(&world.send("web", "/root/web-2.0.1.tar.zst"), 0);
    world.expect_serving(8080, "2.0.1");
    world.ok("rollback web");
    world.expect_serving(8080, "2.0.0");
    assert_eq!(trees(), before);
}

#[test]
fn a_wrong_checksum_is_refused_and_a_right_one_taken_and_what_is_kept_is_taken_once() {
    let world = World::boot("checksum", Root::Own);
    world.supply_server();
    world.send_live("web", "1.0.0");
    world.make("web", "2.0.0", "");
    world.host.ok(&format!("echo {} web-2.0.0.tar.zst >{INBOX}/web-2.0.0.tar.zst.sha256", "0".repeat(64)));
    world.drop_in("web", "/root/web-2.0.0.tar.zst");
    let status = world.expect_status("web", "a refusal", |status| status["refused"][0].is_object());
    assert_eq!(status["refused"][0]["file"], "web-2.0.0.tar.zst", "{status}");
    assert_eq!(status["refused"][0]["fault"]["code"], "trust.digest_mismatch", "{status}");
    world.expect_serving(8080, "1.0.0");
    expect_parts(&world.host.ok(&format!("cat {INBOX}/web-2.0.0.tar.zst.slotd.json")), &["trust.digest_mismatch"]);
    expect_parts(&world.ok("why web"), &["refused", "web-2.0.0.tar.zst"]);

    world.host.ok(&format!("cp /root/web-2.0.0.tar.zst.sha256 {INBOX}/"));
    world.expect_serving(8080, "2.0.0");
    let status = world.expect_idle("web");
    assert_eq!(status["refused"].as_array().map(Vec::len), Some(0), "{status}");
    world.expect_taken(&[]);

    world.settings("web", "[inbox]\nkeep = true\n");
    world.drop_in("web", &world.make("web", "3.0.0", ""));
    world.expect_serving(8080, "3.0.0");
    let last = world.expect_idle("web")["last"]["id"].clone();
    world.expect_taken(&["web-3.0.0.tar.zst"]);
    world.host.ok("systemctl restart slotd.service");
    let status = world.expect_idle("web");
    assert_eq!((&status["last"]["id"], &status["refused"]), (&last, &serde_json::json!([])), "{status}");
    world.expect_taken(&["web-3.0.0.tar.zst"]);
    world.expect_serving(8080, "3.0.0");
}

#[test]
fn clean_up_keeps_what_lives_with_one_kept_and_an_old_release_redeployed() {
    let world = World::boot("prune", Root::Own);
    world.supply_server();
    world.settings("web", "[retention]\nkeep = 1\n");
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0"] {
        world.send_live("web", version);
    }
    // Beside the live slot and the one to go back to.
    world.expect_slots(&["4.0.0 active", "3.0.0 ready", "2.0.0 ready"]);
    // Old, and below all that is kept by its version: it is live, so it stays.
    expect_exit(&world.send("web", "/root/web-1.0.0.tar.zst"), 20);
    world.ok("activate web 1.0.0");
    world.expect_slots(&["4.0.0 ready", "3.0.0 ready", "1.0.0 active"]);
    let kept = world.ok("prune web --dry-run");
    expect_parts(&kept, &["1.0.0", "4.0.0"]);
    world.ok("prune web");
    world.expect_slots(&["4.0.0 ready", "3.0.0 ready", "1.0.0 active"]);
    world.expect_serving(8080, "1.0.0");
    let count = |folder: &str| world.host.ok(&format!("ls /var/lib/slotd/apps/web/{folder} | wc -l"));
    assert_eq!((count("artifacts"), count("instances")), ("3".into(), "3".into()));
    world.ok("rollback web");
    world.expect_serving(8080, "4.0.0");
}

impl World {
    /// Waits until these are all that lies in the inbox beside fates and checksums.
    #[track_caller]
    fn expect_taken(&self, left: &[&str]) {
        wait_until("the inbox taken", PATIENCE, || {
            let found = self.host.ok(&format!("ls {INBOX} | grep -v -e 'slotd.json$' -e 'sha256$' || true"));
            if found.lines().eq(left.iter().copied()) { Ok(()) } else { Err(self.host.ok(&format!("ls -la {INBOX}"))) }
        });
    }

    /// Waits until these are the slots of `web`.
    #[track_caller]
    fn expect_slots(&self, expected: &[&str]) {
        wait_until("the slots", PATIENCE, || {
            let slots = self.slots("web");
            if slots == expected { Ok(()) } else { Err(format!("{slots:?}")) }
        });
    }
}
