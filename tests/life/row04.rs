//! Builds: before a release becomes a slot, with write access to its tree, and in no environment but their own.

use serde_json::Value;

use super::{builds, expect_checked, expect_refused, has, world};
use crate::support::host::{shown, text};
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// Says where it runs, writes, and changes what came with the release.
const SCRIPT: &str = "echo building $SLOTD_VERSION as $SLOTD_SLOT in phase $SLOTD_PHASE, CI=$CI, mode=$MODE, greeting=$GREETING\n\
                      echo interfaces: $(sed 1,2d /proc/net/dev | cut -d: -f1 | xargs)\n\
                      id -un\n\
                      echo ${MODE:-none} >made && chmod 700 bin && mkdir -p lib/deep && ln -s ../made lib/link\n";

/// One that waits until it is let go.
const HELD: &str = "touch /var/tmp/begun; while [ ! -e /var/tmp/go ]; do sleep 0.1; done; echo let go >made\n";

fn log(world: &World, slot: &str) -> String {
    world.ok(&format!("logs web {slot} --build"))
}

fn tree(world: &World, slot: &str) -> Value {
    world.json(&format!("inspect web {slot}"))["tree_path"].clone()
}

#[track_caller]
fn expect_begun(world: &World) {
    wait_until("the build to run", PATIENCE, || match world.host.sh("test -e /var/tmp/begun").status.success() {
        true => Ok(()),
        false => Err(shown(&world.slotctl("status"))),
    });
}

#[test]
fn row04_story() {
    let world = world("row04");
    world.supply_server();
    builds::add(&world);
    world.settings("web", "[env]\nGREETING = \"hello\"\n");
    expect_exit(&world.slotctl("check web"), 0);

    // Built by its own user, with its own environment and no network; frozen afterwards like any tree.
    expect_exit(&world.send("web", &builds::release(&world, "1.0.0", SCRIPT)), 0);
    world.expect_serving(8080, "1.0.0");
    let said = log(&world, "1.0.0");
    expect_parts(
        &said,
        &[
            "web-build@1.0.0.service begins",
            "building 1.0.0 as 1.0.0 in phase build, CI=1, mode=, greeting=\n",
            "interfaces: lo\n",
            ": web-build\n",
            "it ended well after",
        ],
    );
    assert_eq!(builds::file(&world, "1.0.0", "lib/link"), "none");
    let at = tree(&world, "1.0.0").as_str().expect("a tree").to_owned();
    assert_eq!(world.host.ok(&format!("find {at} ! -user slotd; stat -c %a {at}/bin {at}/made")), "555\n444");
    builds::expect_cleared(&world);
    let events = world.ok("events web --json");
    expect_parts(&events, &["release.processing", "release.building", "1.0.0 is built by web-build@1.0.0.service"]);

    // While it runs: who is at it, what it says, and in which slice.
    let two = builds::release(&world, "2.0.0", HELD);
    world.begin("two", &format!("deploy {two} --app web"));
    expect_begun(&world);
    let status = world.json("status web");
    expect_parts(&status["waiting"].to_string(), &["is built as 2.0.0 by web-build@2.0.0.service"]);
    assert_eq!(world.slots("web"), ["2.0.0 building", "1.0.0 active"]);
    expect_parts(&log(&world, "2.0.0"), &["Starting web-build@2.0.0.service"]);
    let shown = "systemctl show -P Slice web-build@2.0.0.service; systemctl show -P CPUWeight slotd-build.slice; \
                 stat -c %U /var/lib/slotd/apps/web/builds/2.0.0/tree";
    assert_eq!(world.host.ok(shown), "slotd-build.slice\n20\nweb-build");
    world.host.ok("touch /var/tmp/go");
    expect_exit_of(&world, "two", 0);
    world.expect_serving(8080, "2.0.0");

    // The same bytes, built by the same: nothing runs, and the log says so.
    world.host.ok("rm /var/tmp/begun; cp /root/web-2.0.0.tar.zst /root/web-2.0.1.tar.zst");
    expect_exit(&world.send("web", "/root/web-2.0.1.tar.zst"), 0);
    assert_eq!(world.expect_idle("web")["current"], "2.0.1");
    expect_parts(&log(&world, "2.0.1"), &["isn't run: 2.0.0 was built of the same artifact", "it ended well"]);
    assert_eq!(tree(&world, "2.0.1"), tree(&world, "2.0.0"));
    assert!(!world.host.sh("test -e /var/tmp/begun").status.success());

    // Another environment of builds is another tree, of the bytes that are kept.
    expect_exit(&world.send("web", &builds::release(&world, "3.0.0", SCRIPT)), 0);
    world.settings("web", "[build.env]\nMODE = \"fast\"\n");
    world.expect_status("web", "3.0.0 built anew", |status| status["current"] == "3.0.0@r2");
    assert_eq!(world.expect_idle("web")["fallback"], "3.0.0");
    expect_parts(&log(&world, "3.0.0@r2"), &["building 3.0.0 as 3.0.0@r2", "mode=fast", "[build.env]: MODE"]);
    assert_ne!(tree(&world, "3.0.0@r2"), tree(&world, "3.0.0"));
    assert_eq!(builds::file(&world, "3.0.0@r2", "made"), "fast");
    // Going back is going back to the tree, and nothing is built for it; nor does it come back by itself.
    world.ok("rollback web");
    world.expect_serving(8080, "3.0.0");
    assert_eq!(world.expect_idle("web")["current"], "3.0.0");
    assert_eq!(builds::file(&world, "3.0.0", "made"), "none");

    by_hand(&world);
    failures(&world);
    a_failed_change(&world);
    cancelled(&world);
    builds::expect_cleared(&world);
}

#[track_caller]
fn expect_exit_of(world: &World, name: &str, exit: i32) -> String {
    let (status, said) = world.exit_of(name);
    assert_eq!(status, exit, "{said}");
    said
}

/// Deployed by hand, what is set waits; so does a changed unit, which no settings file shows.
fn by_hand(world: &World) {
    world.ok("set web deploy manual");
    world.settings("web", "[build.env]\nMODE = \"slow\"\n");
    let staged = world.json("staged web");
    let keys: Vec<&str> = staged.as_array().into_iter().flatten().filter_map(|it| it["key"].as_str()).collect();
    assert_eq!(keys, ["build.env.MODE"], "{staged}");
    assert!(!staged.to_string().contains("slow"), "{staged}");
    let planned = world.json("plan web");
    assert_eq!(planned["to"], "3.0.0@r3", "{planned}");
    expect_parts(&log(world, "3.0.0@r3"), &["mode=slow"]);
    world.ok("deploy-staged web -m slowly");
    assert_eq!(world.expect_idle_but_staged("web")["current"], "3.0.0@r3");

    world.host.write("/etc/systemd/system/web-build@.service", builds::unit("Environment=MORE=1\n"));
    // systemd still has the old one.
    expect_parts(&world.ok("diff web"), &["web-build@"]);
    world.host.ok("systemctl daemon-reload");
    let staged = world.json("staged web");
    assert_eq!(staged[0]["key"], "build.unit", "{staged}");
    world.ok("deploy-staged web");
    assert_eq!(world.expect_idle_but_staged("web")["current"], "3.0.0@r4");
    assert_eq!(world.json("staged web"), serde_json::json!([]));
    world.ok("set web deploy automatic");
}

/// A build that fails, one that asks for another try, and one that leaves what no tree may have.
fn failures(world: &World) {
    let live = world.json("status web")["current"].clone();
    let failing = builds::release(world, "4.0.0", "echo no such module >&2; exit 3\n");
    let refused = world.send("web", &failing);
    expect_exit(&refused, 21);
    expect_parts(&shown(&refused), &["web-build@4.0.0.service exited with status 3", "--build"]);
    assert!(world.slots("web").contains(&"4.0.0 failed".to_owned()), "{:?}", world.slots("web"));
    expect_parts(&log(world, "4.0.0"), &["no such module", "exited with status 3"]);
    let inspected = world.json("inspect web 4.0.0");
    assert_eq!(inspected["info"]["phase"], "building", "{inspected}");
    expect_parts(&world.ok("inspect web 4.0.0"), &["no such module"]);
    expect_refused(world, "activate web 4.0.0", 21, "build.failed");
    assert_eq!(world.host.ok("systemctl list-units --failed --plain --no-legend | wc -l"), "0");

    let link = builds::release(world, "4.0.1", "ln -s /etc/passwd secrets\n");
    let refused = world.send("web", &link);
    expect_exit(&refused, 21);
    expect_parts(&shown(&refused), &["secrets"]);
    expect_parts(&log(world, "4.0.1"), &["what it made can't be kept"]);
    assert_eq!(world.json("status web")["current"], live);

    let again = "if [ ! -e /var/tmp/again ]; then touch /var/tmp/again; exit 75; fi\n";
    world.drop_in("web", &builds::release(world, "5.0.0", again));
    world.expect_status("web", "the next try", |status| status["waiting"].to_string().contains("status 75"));
    world.expect_serving(8080, "5.0.0");
    world.expect_idle("web");
}

/// What is set can't be built: what is live stays, the reason is told, and nothing is tried for ever.
fn a_failed_change(world: &World) {
    let script = "[ \"$MODE\" = slow ] || { echo mode $MODE is unknown; exit 4; }\n";
    expect_exit(&world.send("web", &world.make_with("web", "6.0.0", &[("build.sh", &script.replace('\'', ""))])), 0);
    world.settings("web", "[build.env]\nMODE = \"wrong\"\n");
    let told = |status: &Value| status["notes"].to_string().contains("slotctl logs web 6.0.0@r2 --build");
    let status = world.expect_status("web", "the note", told);
    assert_eq!(status["current"], "6.0.0", "{status}");
    expect_parts(&log(world, "6.0.0@r2"), &["mode wrong is unknown"]);
    world.settings("web", "[build.env]\nMODE = \"slow\"\n");
    world.expect_status("web", "no note", |status| !told(status));
    assert!(!has(world, "6.0.0@r3"), "{:?}", world.slots("web"));
}

/// `cancel` reaches it.
fn cancelled(world: &World) {
    world.host.ok("rm -f /var/tmp/go /var/tmp/begun");
    let long = builds::release(world, "7.0.0", HELD);
    world.begin("seven", &format!("deploy {long} --app web"));
    expect_begun(world);
    world.ok("cancel web -m nonsense");
    expect_parts(&expect_exit_of(world, "seven", 12), &["cancelled by", "nonsense"]);
    assert!(!has(world, "7.0.0"), "{:?}", world.slots("web"));
    let up = text(&world.host.sh("systemctl is-active web-build@7.0.0.service slotd-lend@web:web-build@7.0.0.service"));
    assert_eq!(up, "inactive\ninactive");
    assert_eq!(world.json("status web")["current"], "6.0.0");
}

#[track_caller]
pub fn row04_refusal(world: &World) {
    let before = world.slots("web");
    world.supply_server();
    let file = "/etc/slotd/apps/web.toml";
    let check = |lines: &str, exit: i32, parts: &[&str]| expect_checked(world, lines, exit, parts);
    check("[build.env]\nA = \"1\"\n", 3, &["[build] without a build hook"]);
    check("[hooks]\nbuild = \"web-build@\"\n[build]\nnet = true\n", 3, &["unknown key `net`"]);
    check("[hooks]\nbuild = \"web-build@\"\n[build.env]\nSLOTD_X = \"1\"\n", 3, &["SLOTD_X is set by slotd"]);
    check("[hooks]\nbuild = \"web-build@\"\n", 3, &["unit.missing", "web-build@.service doesn't exist"]);
    let bare = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    world.host.write("/etc/systemd/system/web-build@.service", bare);
    let parts = [
        "TimeoutStartSec=5min is missing",
        "User=web is missing",
        "PrivateNetwork=yes is missing",
        "EnvironmentFile=/var/lib/slotd/apps/web/builds/%i/env is missing",
        "BindPaths=/var/lib/slotd/apps/web/builds/%i/tree:/srv/web is missing",
        "Slice=slotd-build.slice is missing",
        "no rule of polkit names web-build@",
        "no rule of polkit names slotd-lend@web:web-build@",
    ];
    check("[hooks]\nbuild = \"web-build@\"\n", 3, &parts);

    // And what `check` refuses isn't run; it isn't the release's fault, so it waits, and comes in once it can be built.
    world.host.ok("systemctl daemon-reload");
    world.settings("web", "[hooks]\nbuild = \"web-build@\"\n");
    for (lines, why) in [
        ("", "has no TimeoutStartSec="),
        ("TimeoutStartSec=60s\n", "runs as root"),
        ("TimeoutStartSec=60s\nUser=web\n", "has the host's network"),
    ] {
        world.host.write("/etc/systemd/system/web-build@.service", format!("{bare}{lines}"));
        world.host.ok("systemctl daemon-reload");
        let refused = world.send("web", &builds::release(world, "9.0.0", ""));
        expect_exit(&refused, 5);
        expect_parts(&shown(&refused), &["config.unit", why, "slotctl check web"]);
    }
    expect_refused(world, "logs web 2.0.0 --build", 4, "unknown.slot");
    world.host.ok(&format!(
        "rm /etc/systemd/system/web-build@.service && systemctl daemon-reload && sed -i /hooks/,+1d {file} && systemctl reload slotd"
    ));
    assert_eq!(world.slots("web"), before);
}
