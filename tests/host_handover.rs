//! What users notice of a move from version to version, by routes, strategies and programs, and of the same without
//! slotd. Each test prints lines of counts: `make test-handover`.
//!
//! HANDOVER_DEPLOYMENTS says how many moves each makes.

mod handover;
mod support;

use handover::program::{GO, GUNICORN, NODE, Program, SAMPLE};
use handover::queue::jobs_are_done_once;
use handover::watch::{Instances, Watch, rolls};
use handover::{Plain, Route, app_on, moves, restarts};
use support::host::{Host, Root};

/// One shared socket; the old slot stops, the new one starts, and connections wait in between.
const SOCKET_READY_STOP_START: Route = Route {
    name: "socket-ready-stop-start",
    before: &[],
    new: "",
    settings: "strategy = \"stop-start\"\n",
    keeps_alive: true,
    switches: true,
    most: u32::MAX,
};

/// The same socket; the new slot accepts beside the old one, which then stops. Who accepts can't be switched in one step.
const SOCKET_READY_BLUE_GREEN: Route = Route {
    name: "socket-ready-blue-green",
    settings: "strategy = \"blue-green\"\n\
               [[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\npath = \"/health\"\n\
               [soak]\ntime = \"0s\"\n",
    switches: false,
    ..SOCKET_READY_STOP_START
};

/// Four instances on it, one after the other.
const SOCKET_READY_ROLLING: Route = Route {
    name: "socket-ready",
    settings: "strategy = \"rolling\"\n[[unit]]\nname = \"web@\"\ninstances = 4\n\
               [[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\npath = \"/health\"\n\
               [soak]\ntime = \"0s\"\n",
    switches: false,
    ..SOCKET_READY_STOP_START
};

/// A row: a test of this name, on this route, with this program, and what it is compared with.
macro_rules! rows {
    ($($name:ident: $route:expr, $program:expr, $plain:expr;)*) => {$(
        #[test]
        fn $name() {
            row(&$route, &$program, &$plain);
        }
    )*};
}

rows! {
    socket_ready_stop_start: SOCKET_READY_STOP_START, SAMPLE, [Plain::Restart, Plain::Link];
    socket_ready_blue_green: SOCKET_READY_BLUE_GREEN, SAMPLE, [];
    socket_ready_stop_start_gunicorn: SOCKET_READY_STOP_START, GUNICORN, [Plain::Restart];
    socket_ready_stop_start_node: SOCKET_READY_STOP_START, NODE, [Plain::Restart];
    socket_ready_stop_start_go: SOCKET_READY_STOP_START, GO, [Plain::Restart];
}

/// A row: a test of this name, on this route, that watches so many instances under these two numbers.
macro_rules! rolling_rows {
    ($($name:ident: $route:expr, $count:literal, ($max_surge:literal, $max_unavailable:literal);)*) => {$(
        #[test]
        fn $name() {
            rolls(&Instances {
                route: $route,
                count: $count,
                max_surge: $max_surge,
                max_unavailable: $max_unavailable,
            });
        }
    )*};
}

rolling_rows! {
    rolling_socket_ready: SOCKET_READY_ROLLING, 4, (1, 0);
    rolling_socket_ready_blue_green: SOCKET_READY_BLUE_GREEN, 1, (1, 0);
    rolling_socket_ready_stop_start: SOCKET_READY_STOP_START, 1, (0, 1);
}

#[test]
fn the_watch_on_instances_sees_the_least_and_the_most() {
    let host = Host::boot("watch", Root::Own);
    let unit = |text: &str| host.write("/etc/systemd/system/pot@.service", format!("[Service]\n{text}"));
    // A stop that takes a moment, so that an instance runs and isn't ready.
    unit("ExecStart=sleep infinity\nExecStop=sleep 0.2\n");
    host.ok("systemctl daemon-reload && mkdir -p /run/handover && systemctl start pot@1 pot@2.x_y");
    let watch = Watch::start(&host, "pot@");
    host.ok("systemctl start pot@3 && systemctl stop pot@1 pot@2.x_y && systemctl start pot@2.x_y");
    // Of another template.
    host.ok("systemd-run --quiet --unit=potter@1 sleep infinity");
    let seen = watch.end();
    let [ready, running, least, most] = ["ready", "running", "min_ready", "max_running"].map(|key| seen[key].as_u64());
    assert_eq!((ready, running, least, most), (Some(2), Some(2), Some(1), Some(3)), "{seen}");
}

#[test]
fn each_job_is_done_once_while_web_app_and_worker_move() {
    jobs_are_done_once(&SOCKET_READY_STOP_START);
}

#[track_caller]
fn row(route: &Route, program: &Program, plain: &[Plain]) {
    let world = app_on(route, program);
    moves(&world, route, program);
    // What is compared has the host to itself.
    world.host.ok("systemctl stop 'web.*'");
    for plain in plain {
        restarts(&world, program, *plain);
    }
}
