//! Hooks: before anything, before the candidate starts, and once it is live.

use serde_json::Value;

use super::{expect_checked, expect_refused, hooks, world};
use crate::support::host::shown;
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

const POINTS: [&str; 3] = ["preflight", "deploy", "post_deploy"];

fn run_of(world: &World, slot: &str) -> String {
    world.host.ok(&format!("systemctl show -P InvocationID web@{slot}.service"))
}

/// How the last deployment ended: outcome, code, blame.
#[track_caller]
fn last(world: &World) -> [Value; 3] {
    let ended = world.expect_idle("web")["last"]["ended"].clone();
    [ended["outcome"].clone(), ended["fault"]["code"].clone(), ended["blame"].clone()]
}

#[test]
fn row05_story() {
    let world = world("row05");
    world.live("web", 8080, "1.0.0");
    hooks::add(&world, &POINTS);

    // Each in its place: stop-start has nobody run while `deploy` does.
    world.live("web", 8080, "2.0.0");
    let expected =
        ["preflight 2.0.0 of 2.0.0, up: 1.0.0", "deploy 2.0.0 of 2.0.0, up:", "post_deploy 2.0.0 of 2.0.0, up: 2.0.0"];
    assert_eq!(hooks::ran(&world), expected);
    let steps = world.json("history web -n 1")[0]["steps"].to_string();
    for (point, name) in POINTS.into_iter().zip(["web-preflight", "web-deploy", "web-post-deploy"]) {
        expect_parts(&steps, &[&format!("run the {point} hook {name}@2.0.0.service")]);
    }
    let planned = world.json("plan web 1.0.0");
    assert_eq!(
        planned["hooks"][1],
        serde_json::json!({"at": "deploy", "unit": "web-deploy@1.0.0.service"}),
        "{planned}"
    );
    // Going back runs nothing, and neither does another number of instances.
    world.ok("rollback web");
    world.expect_serving(8080, "1.0.0");
    world.expect_idle("web");
    world.ok("activate web 2.0.0");
    assert_eq!(hooks::ran(&world).len(), 3, "going forward again is a deployment");
    world.ok("scale web 2");
    world.ok("scale web 1");
    assert_eq!(hooks::ran(&world), Vec::<String>::new());

    // A preflight that fails leaves all as it was.
    let live = world.json("status web")["current"].as_str().expect("a slot").to_owned();
    let run = run_of(&world, &live);
    expect_exit(&world.deploy("web", &hooks::release(&world, "3.0.0", &[("preflight", "echo no room; exit 4")])), 11);
    assert_eq!(last(&world), ["failed", "hook.failed", "release"].map(Value::from));
    expect_parts(
        &world.ok("why web"),
        &[
            "failed in",
            "the preflight hook web-preflight@3.0.0.service exited with status 4",
            "no room",
            "changed nothing",
        ],
    );
    assert_eq!(run_of(&world, &live), run);

    // A deploy hook that fails is undone, and the release isn't tried again.
    let failing = hooks::release(&world, "4.0.0", &[("deploy", "echo no such column >&2; exit 3")]);
    expect_exit(&world.deploy("web", &failing), 10);
    assert_eq!(last(&world), ["rolled-back", "hook.failed", "release"].map(Value::from));
    expect_parts(&world.ok("why web"), &["web-deploy@4.0.0.service exited with status 3", "no such column", "--force"]);
    expect_refused(&world, "activate web 4.0.0", 5, "release.quarantined");
    world.expect_serving(8080, "2.0.0");
    assert_eq!(world.host.ok("systemctl list-units --failed --plain --no-legend | wc -l"), "0");
    hooks::ran(&world);

    // One that says that it isn't the release's fault is tried again by itself, and all of it runs anew.
    let again = "if [ ! -e /var/tmp/again ]; then touch /var/tmp/again; exit 75; fi";
    expect_exit(&world.deploy("web", &hooks::release(&world, "5.0.0", &[("deploy", again)])), 10);
    world.expect_serving(8080, "5.0.0");
    let status = world.expect_idle("web");
    assert_eq!(status["last"]["attempt"], 2, "{status}");
    assert_eq!(hooks::ran(&world).iter().filter(|line| line.starts_with("deploy 5.0.0")).count(), 2);

    // What is live stays so, whatever the hook after it says.
    let told = world.deploy("web", &hooks::release(&world, "6.0.0", &[("post_deploy", "echo nobody there; exit 1")]));
    expect_exit(&told, 0);
    world.expect_serving(8080, "6.0.0");
    let ended = world.expect_idle("web")["last"]["ended"].clone();
    assert_eq!(ended["outcome"], "done");
    expect_parts(
        &ended["warnings"].to_string(),
        &["hook.failed", "the post_deploy hook web-post-deploy@6.0.0.service exited with status 1"],
    );
    expect_parts(&world.ok("why web"), &["nobody there"]);

    // `cancel` ends the hook too.
    hooks::ran(&world);
    world.fetch(&hooks::release(&world, "7.0.0", &[("deploy", "sleep 300")]));
    world.begin("long", "deploy /root/web-7.0.0.tar.zst --app web");
    let hook = "systemctl is-active web-deploy@7.0.0.service";
    wait_until("the hook to run", PATIENCE, || match hooks::ran(&world) {
        ran if ran.iter().any(|line| line.starts_with("deploy 7.0.0")) => Ok(()),
        ran => Err(format!("{ran:?}")),
    });
    expect_parts(&world.json("status web")["deployment"]["waiting"].to_string(), &["run the deploy hook", "2m 30s"]);
    world.ok("cancel web");
    assert_eq!(world.exit_of("long").0, 12);
    assert_eq!(last(&world), ["cancelled", "deployment.cancelled", "operator"].map(Value::from));
    assert!(shown(&world.host.sh(hook)).contains("inactive"));
    world.expect_serving(8080, "6.0.0");

    // One after the other, and the hook once: before any of the old ones has gone.
    let own = "[[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\npath = \"/health\"\n";
    world.settings("web", &format!("strategy = \"rolling\"\n[soak]\ntime = \"0s\"\n{own}"));
    hooks::ran(&world);
    world.ok("scale web 2");
    world.live("web", 8080, "8.0.0");
    let ran = hooks::ran(&world);
    let deploy: Vec<&String> = ran.iter().filter(|line| line.starts_with("deploy")).collect();
    assert_eq!(deploy, [&"deploy 8.0.0 of 8.0.0, up: 6.0.0@r2 6.0.0@r2@2".to_owned()], "{ran:?}");
}

#[track_caller]
pub fn row05_refusal(world: &World) {
    let (before, run) = (world.slots("web"), run_of(world, "2.0.0"));
    let file = "/etc/slotd/apps/web.toml";
    let check = |lines: &str, exit: i32, parts: &[&str]| expect_checked(world, lines, exit, parts);
    check("[hooks]\ndeploy = \"web@\"\n", 3, &["web@ is a unit of the app itself"]);
    check("[hooks]\ndeploy = \"web-deploy.service\"\n", 3, &["web-deploy.service"]);
    check("[hooks]\npre_start = \"web-deploy@\"\n", 3, &["unknown key `pre_start`"]);
    check("[hooks]\ndeploy = \"web-deploy@\"\n", 3, &["unit.missing", "web-deploy@.service doesn't exist"]);
    let bad = "[Service]\nType=oneshot\nExecStart=/bin/true\nRemainAfterExit=yes\n";
    world.host.write("/etc/systemd/system/web-deploy@.service", bad);
    let parts =
        ["TimeoutStartSec=5min is missing", "User=web is missing", "RemainAfterExit=yes", "no rule of polkit names"];
    check("[hooks]\ndeploy = \"web-deploy@\"\n", 3, &parts);

    // And a deployment refuses what `check` refuses, before anything is touched; it isn't the release's fault.
    world.host.ok("systemctl daemon-reload");
    world.settings("web", "[hooks]\ndeploy = \"web-deploy@\"\n");
    let refused = world.slotctl("activate web 1.0.0 --json");
    assert_eq!(refused.status.code(), Some(11), "{}", shown(&refused));
    expect_parts(&shown(&refused), &["config.unit", "nobody can tell when it is done"]);
    world.host.ok(&format!("sed -i /RemainAfterExit/d /etc/systemd/system/web-deploy@.service && systemctl daemon-reload && sed -i /hooks/,+1d {file} && systemctl reload slotd"));
    world.ok("cancel web");
    assert_eq!((world.slots("web"), run_of(world, "2.0.0")), (before, run));
}
