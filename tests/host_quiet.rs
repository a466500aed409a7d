//! What slotd doesn't do: a deployment starts no child but the unpack worker and has systemd read no unit file again,
//! and while nothing happens nothing runs.

mod support;

use slotd::artifact::worker;
use support::host::{Root, text};
use support::wait_until;
use support::world::{PATIENCE, World};

/// How long it is watched while nothing happens.
const IDLE_SECONDS: u32 = 5;

/// System calls that may fall into that time: the watchdog is fed every 15 s, blocking threads that were needed for
/// files end after 10 s, and each thread is disturbed once by being watched.
const IDLE_CALLS: u32 = 40;

#[test]
fn a_deployment_starts_no_child_but_the_worker_and_has_nothing_reloaded() {
    let world = World::boot("quiet", Root::Own);
    world.live("web", 8080, "1.0.0");
    let next = world.artifact("web", "2.0.0", "");
    world.fetch(&next);
    let pid = world.host.ok("systemctl show -P MainPID slotd.service");
    let calls = "execve,execveat,fork,vfork,clone,clone3";
    world.host.ok(&format!("systemd-run --unit=trace strace -f -qq -s 256 -e trace={calls} -o /root/trace -p {pid}"));
    world.host.ok("systemd-run --unit=bus -p StandardOutput=file:/root/bus -p StandardError=file:/root/bus \
         busctl monitor --system --json=short --match=\"type='signal',interface='org.freedesktop.systemd1.Manager'\"");
    wait_until("strace on every thread", PATIENCE, || {
        let untraced = text(&world.host.sh(&format!("grep -L 'TracerPid:.*[1-9]' /proc/{pid}/task/*/status")));
        if untraced.is_empty() { Ok(()) } else { Err(untraced) }
    });
    wait_until("busctl on the bus", PATIENCE, || {
        let said = text(&world.host.sh("cat /root/bus; journalctl -u bus --no-pager -n 5"));
        if said.contains("Monitoring") { Ok(()) } else { Err(said) }
    });

    world.mv("web", &next);
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");
    world.ok("rollback web");
    let bus = |word: &str| world.host.ok(&format!("grep -c '\"member\":\"{word}\"' /root/bus || true"));
    assert_ne!(bus("JobRemoved"), "0", "the monitor hears nothing: {}", world.host.ok("cat /root/bus"));
    assert_eq!((bus("Reloading"), bus("UnitFilesChanged")), ("0".into(), "0".into()));
    // What it would have shown.
    world.host.ok("systemctl daemon-reload");
    wait_until("a reload on the bus", PATIENCE, || match bus("Reloading").as_str() {
        "2" => Ok(()),
        other => Err(format!("{other} times Reloading")),
    });

    world.host.ok("systemctl stop trace.service bus.service");
    let trace = world.host.ok("cat /root/trace");
    // A call that was refused made nothing; the C library tries clone3 first where a filter knows only clone.
    let called =
        |word: &str| trace.lines().filter(|line| line.contains(word) && !line.contains(" = -1 ")).collect::<Vec<_>>();
    let execs: Vec<&str> = [called("execve("), called("execveat(")].concat();
    let forks = ["fork(", "clone(", "clone3("].map(called).concat();
    let children: Vec<&&str> = forks.iter().filter(|line| !line.contains("CLONE_THREAD")).collect();
    assert_eq!((execs.len(), children.len()), (1, 1), "{trace}");
    assert!(execs[0].contains(&format!("{:?}]", worker::ARGUMENT)), "{}", execs[0]);
}

#[test]
fn while_nothing_happens_nothing_runs() {
    let world = World::boot("idle", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.expect_idle("web");
    let pid = world.host.ok("systemctl show -P MainPID slotd.service");
    // Its status is that of strace, which was interrupted; the table says whether it was there.
    world.host.sh(&format!("timeout --signal=INT {IDLE_SECONDS} strace -f -c -o /root/calls -p {pid}"));
    let table = world.host.ok("cat /root/calls");
    let total = table.lines().find(|line| line.ends_with(" total")).unwrap_or_else(|| panic!("no total: {table}"));
    let calls: u32 = total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).expect("a count");
    println!("{calls} system calls in {IDLE_SECONDS} s:\n{table}");
    assert!(calls <= IDLE_CALLS, "{table}");
}

#[test]
fn a_release_that_cannot_be_tried_waits_for_its_turn() {
    let world = World::boot("turn", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.host.ok("systemctl mask --runtime web@2.0.0.service");
    world.mv("web", &world.artifact("web", "2.0.0", ""));
    let waits = |status: &serde_json::Value| status["waiting"].to_string().contains("is tried again in");
    world.expect_status("web", "2.0.0 to wait", waits);
    // One for each release; an eager slotd would have made dozens by now.
    let history = world.json("history web");
    let told: Vec<&str> = history.as_array().into_iter().flatten().filter_map(|report| report["id"].as_str()).collect();
    assert_eq!(told, ["web-2", "web-1"], "{history}");
    world.host.ok("systemctl unmask --runtime web@2.0.0.service");
    world.expect_serving(8080, "2.0.0");
}
