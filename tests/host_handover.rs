//! What users notice of a move from version to version, by routes, strategies and programs, and of the same without
//! slotd. Each test prints lines of counts: `make test-handover`.
//!
//! HANDOVER_DEPLOYMENTS says how many moves each makes.

mod handover;
mod route_support;
mod support;

use handover::back::goes_back;
use handover::canary::gets_its_share;
use handover::program::{GO, GO_BY_SIGNAL, GUNICORN, GUNICORN_ON_PORT, NODE, NODE_BY_SIGNAL, Program, SAMPLE};
use handover::queue::{a_worker_that_fails_is_undone, jobs_are_done_once, jobs_of_one_app_are_done_once};
use handover::undone::{undone, undone_in_the_third_batch};
use handover::watch::{Instances, Watch, rolls};
use handover::{Plain, Route, app_on, moves, restarts};
use route_support::{put_behind_haproxy, put_behind_nginx};
use support::host::{Host, Root};
use support::world::World;

/// One shared socket; the old slot stops, the new one starts, and connections wait in between.
const SOCKET_READY_STOP_START: Route = Route {
    name: "socket-ready-stop-start",
    before: &[],
    new: "",
    front: None,
    settings: "strategy = \"stop-start\"\n",
    switches: true,
    most: u32::MAX,
};

/// The same socket; the new slot accepts beside the old one, which then stops. Who accepts can't be switched in one step.
const SOCKET_READY_BLUE_GREEN: Route = Route {
    name: "socket-ready",
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

/// The same socket; the new slot is quiet until it has proved itself, and the old one from then on.
const SOCKET_SIGNAL: Route = Route {
    name: "socket-signal",
    new: "--accept signal",
    settings: "strategy = \"blue-green\"\n[soak]\ntime = \"0s\"\n",
    ..SOCKET_READY_STOP_START
};

/// What tells systemd isn't the main process.
const SOCKET_SIGNAL_NODE: Route = Route {
    before: &[
        "mkdir -p /etc/systemd/system/web@.service.d",
        "printf '[Service]\\nNotifyAccess=all\\n' \
               >/etc/systemd/system/web@.service.d/access.conf",
    ],
    ..SOCKET_SIGNAL
};

/// Instances with ports of their own, and a redirection in the kernel. Kept connections are given a moment, then cut.
const NFTABLES: Route = Route {
    name: "nftables",
    new: "--route nftables",
    settings: "strategy = \"blue-green\"\n[soak]\ntime = \"0s\"\n\
               [route]\nkind = \"nftables\"\nport = 8080\nports = \"20000-20099\"\ndrain = \"1500ms\"\n",
    ..SOCKET_READY_STOP_START
};

/// Four instances with ports of their own, moved by these numbers; proofs are brief, since there are many.
macro_rules! four_by {
    ($max_surge:literal, $max_unavailable:literal, $kind:literal, $route:expr) => {
        Route {
            settings: concat!(
                "strategy = \"rolling\"\nmax_surge = ",
                $max_surge,
                "\nmax_unavailable = ",
                $max_unavailable,
                "\n[[unit]]\nname = \"web@\"\ninstances = 4\n[soak]\ntime = \"0s\"\n[route]\n",
                $kind,
                "\nports = \"20000-20099\"\ndrain = \"1500ms\"\n\
                 [proof]\ninterval = \"50ms\"\nsuccesses = 2\ndeadline = \"20s\"\nstable_for = \"100ms\"\n",
            ),
            ..$route
        }
    };
}

/// Four instances on it, moved by these numbers.
macro_rules! nftables_by {
    ($max_surge:literal, $max_unavailable:literal) => {
        four_by!($max_surge, $max_unavailable, "kind = \"nftables\"\nport = 8080", NFTABLES)
    };
}

/// Behind HAProxy, of which each instance is a server.
const HAPROXY: Route = Route {
    name: "haproxy",
    new: "--route haproxy",
    front: Some(put_behind_haproxy),
    settings: "strategy = \"blue-green\"\n[soak]\ntime = \"0s\"\n\
               [route]\nkind = \"haproxy\"\nbackend = \"web\"\nports = \"20000-20099\"\ndrain = \"1500ms\"\n",
    ..SOCKET_READY_STOP_START
};

/// Behind nginx, which is reloaded: the old workers close what idles, so a request on a kept connection may need a retry.
const NGINX: Route = Route {
    name: "nginx",
    new: "--route nginx",
    front: Some(put_behind_nginx),
    settings: "strategy = \"blue-green\"\n[soak]\ntime = \"0s\"\n\
               [route]\nkind = \"nginx\"\nports = \"20000-20099\"\ndrain = \"1500ms\"\n",
    most: 50,
    ..SOCKET_READY_STOP_START
};

/// HAProxy with servers for twice as many instances as `slotctl new` foresees.
fn put_behind_haproxy_for_four(world: &World, words: &str) {
    put_behind_haproxy(world, words);
    world.host.ok(
        "sed -i 's/--servers 8/--servers 12/' /etc/systemd/system/slotd-route@web.service && \
         sed -i 's/server-template s 1-8/server-template s 1-12/' /etc/haproxy/haproxy.cfg && systemctl daemon-reload && \
         systemctl restart haproxy.service && systemctl restart slotd-route@web.service",
    );
}

/// The same, with as many.
const HAPROXY_FOR_FOUR: Route = Route { front: Some(put_behind_haproxy_for_four), ..HAPROXY };

/// Four instances behind HAProxy, moved by these numbers.
macro_rules! haproxy_by {
    ($max_surge:literal, $max_unavailable:literal) => {
        four_by!($max_surge, $max_unavailable, "kind = \"haproxy\"\nbackend = \"web\"", HAPROXY_FOR_FOUR)
    };
}

/// For what fails: room for a proof, and a soak.
const SOCKET_SIGNAL_SOAKED: Route = Route {
    settings: "strategy = \"blue-green\"\n[soak]\ntime = \"4s\"\n\
               [proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"2s\"\nstable_for = \"2s\"\n",
    ..SOCKET_SIGNAL
};

/// The same with ports of instances' own; the health socket of each instance is asked beside its port.
macro_rules! soaked {
    ($kind:literal, $route:expr) => {
        Route {
            settings: concat!(
                "strategy = \"blue-green\"\n[soak]\ntime = \"4s\"\n[route]\n",
                $kind,
                "\nports = \"20000-20099\"\ndrain = \"1500ms\"\n\
                 [[probe]]\nkind = \"http\"\naddress = \"127.0.0.1:{port}\"\n\
                 [[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\n\
                 [proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"2s\"\nstable_for = \"2s\"\n",
            ),
            ..$route
        }
    };
}

const NFTABLES_SOAKED: Route = soaked!("kind = \"nftables\"\nport = 8080", NFTABLES);
const HAPROXY_SOAKED: Route = soaked!("kind = \"haproxy\"\nbackend = \"web\"", HAPROXY);
const NGINX_SOAKED: Route = soaked!("kind = \"nginx\"", NGINX);

/// Four instances behind HAProxy, of which one is the canary.
const HAPROXY_CANARY: Route = Route {
    settings: "strategy = \"rolling\"\npause_after = 1\nweight = 10\n[[unit]]\nname = \"web@\"\ninstances = 4\n\
               [soak]\ntime = \"0s\"\n\
               [route]\nkind = \"haproxy\"\nbackend = \"web\"\nports = \"20000-20099\"\ndrain = \"1500ms\"\n",
    front: Some(put_behind_haproxy_for_four),
    ..HAPROXY
};

/// A row: a test of this name, on this route, with this program, and what it is compared with.
macro_rules! rows {
    ($($(#[$attribute:meta])* $name:ident: $route:expr, $program:expr, $plain:expr;)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            row(&$route, &$program, &$plain);
        }
    )*};
}

rows! {
    socket_ready_stop_start: SOCKET_READY_STOP_START, SAMPLE, [Plain::Restart, Plain::Link];
    socket_ready: SOCKET_READY_BLUE_GREEN, SAMPLE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    socket_ready_stop_start_gunicorn: SOCKET_READY_STOP_START, GUNICORN, [Plain::Restart];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    socket_ready_stop_start_node: SOCKET_READY_STOP_START, NODE, [Plain::Restart];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    socket_ready_stop_start_go: SOCKET_READY_STOP_START, GO, [Plain::Restart];
    socket_signal: SOCKET_SIGNAL, SAMPLE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    socket_signal_node: SOCKET_SIGNAL_NODE, NODE_BY_SIGNAL, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    socket_signal_go: SOCKET_SIGNAL, GO_BY_SIGNAL, [];
    haproxy: HAPROXY, SAMPLE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    haproxy_gunicorn: HAPROXY, GUNICORN_ON_PORT, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    haproxy_node: HAPROXY, NODE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    haproxy_go: HAPROXY, GO, [];
    nginx: NGINX, SAMPLE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    nginx_gunicorn: NGINX, GUNICORN_ON_PORT, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    nginx_node: NGINX, NODE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    nginx_go: NGINX, GO, [];
    nftables: NFTABLES, SAMPLE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    nftables_gunicorn: NFTABLES, GUNICORN_ON_PORT, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    nftables_node: NFTABLES, NODE, [];
    #[ignore = "each saturates the machine; one program a route is enough for each change"]
    nftables_go: NFTABLES, GO, [];
}

/// A row: a test of this name, on this route, that watches so many instances under these two numbers.
macro_rules! rolling_rows {
    ($($(#[$attribute:meta])* $name:ident: $route:expr, $count:literal, ($max_surge:literal, $max_unavailable:literal);)*) => {$(
        $(#[$attribute])*
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
    #[ignore = "each saturates the machine; one pair of numbers a route is enough for each change"]
    rolling_socket_ready_blue_green: SOCKET_READY_BLUE_GREEN, 1, (1, 0);
    #[ignore = "each saturates the machine; one pair of numbers a route is enough for each change"]
    rolling_socket_ready_stop_start: SOCKET_READY_STOP_START, 1, (0, 1);
    #[ignore = "each saturates the machine; one pair of numbers a route is enough for each change"]
    rolling_haproxy_1_0: haproxy_by!(1, 0), 4, (1, 0);
    #[ignore = "each saturates the machine; one pair of numbers a route is enough for each change"]
    rolling_haproxy_0_1: haproxy_by!(0, 1), 4, (0, 1);
    rolling_haproxy_2_1: haproxy_by!(2, 1), 4, (2, 1);
    #[ignore = "each saturates the machine; one pair of numbers a route is enough for each change"]
    rolling_nftables_1_0: nftables_by!(1, 0), 4, (1, 0);
    rolling_nftables_0_1: nftables_by!(0, 1), 4, (0, 1);
    #[ignore = "each saturates the machine; one pair of numbers a route is enough for each change"]
    rolling_nftables_2_1: nftables_by!(2, 1), 4, (2, 1);
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
#[ignore = "each has the machine to itself; both units in one app is the same for each change"]
fn each_job_is_done_once_while_web_app_and_worker_move() {
    jobs_are_done_once(&SOCKET_READY_STOP_START);
}

#[test]
fn each_job_is_done_once_while_both_units_of_an_app_move() {
    jobs_of_one_app_are_done_once(&SOCKET_SIGNAL);
}

#[test]
fn a_worker_that_fails_leaves_the_old_one_at_work() {
    a_worker_that_fails_is_undone(&SOCKET_SIGNAL);
}

#[test]
fn undone_socket_signal() {
    undone(&SOCKET_SIGNAL_SOAKED);
}

#[test]
fn undone_nftables() {
    undone(&NFTABLES_SOAKED);
}

#[test]
#[ignore = "each has the machine to itself; another route has the same row for each change"]
fn undone_haproxy() {
    undone(&HAPROXY_SOAKED);
}

#[test]
#[ignore = "each has the machine to itself; another route has the same row for each change"]
fn undone_nginx() {
    undone(&NGINX_SOAKED);
}

#[test]
#[ignore = "each has the machine to itself; another route has the same row for each change"]
fn undone_in_batch_3_of_4_haproxy() {
    undone_in_the_third_batch(&haproxy_by!(1, 0));
}

#[test]
#[ignore = "10,000 connections one by one"]
fn a_canary_gets_its_share_haproxy() {
    gets_its_share(&HAPROXY_CANARY, 10);
}

#[test]
fn undone_in_batch_3_of_4_nftables() {
    undone_in_the_third_batch(&nftables_by!(1, 0));
}

#[test]
#[ignore = "each has the machine to itself; another route has the same row for each change"]
fn rollback_socket_signal() {
    goes_back(&SOCKET_SIGNAL_SOAKED);
}

#[test]
fn rollback_nftables() {
    goes_back(&NFTABLES_SOAKED);
}

#[test]
#[ignore = "each has the machine to itself; another route has the same row for each change"]
fn rollback_haproxy() {
    goes_back(&HAPROXY_SOAKED);
}

#[test]
#[ignore = "each has the machine to itself; another route has the same row for each change"]
fn rollback_nginx() {
    goes_back(&NGINX_SOAKED);
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
