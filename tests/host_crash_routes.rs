//! slotd killed, and the host cut off, while an app of two instances is moved batch by batch on each route: nobody's
//! request fails because slotd died, and each death ends with one whole slot that is current, runs and has all users.
//!
//! `make test` has three deaths a route and one power cut; `make check-all` each passing of each point on each route, and on
//! one of them a power cut behind each.

mod crash;
mod route_support;
mod running_support;
mod support;

use std::collections::BTreeSet;

use crash::{Rig, Scenario, passings, tell};
use route_support::{put_behind_haproxy, put_behind_nginx, told, under_paced_load};
use running_support::{mask_slotd, unmask_slotd, wanted_at_boot};
use slotd::config::Profile;
use slotd::model::route::RouteFile;
use support::wait_until;
use support::world::{PATIENCE, World};

/// A way to users.
struct Route {
    /// In the printed lines.
    name: &'static str,
    /// Words of `slotctl new`.
    new: &'static str,
    /// What stands in front of the app, and how it comes there.
    proxy: Option<(&'static str, PutBehind)>,
}

const SIGNAL: Route = Route { name: "socket-signal", new: "--port 8080 --accept signal", proxy: None };
const NFTABLES: Route = Route { name: "nftables", new: "--port 8080 --route nftables", proxy: None };
const HAPROXY: Route =
    Route { name: "haproxy", new: "--port 8080 --route haproxy", proxy: Some(("haproxy.service", put_behind_haproxy)) };
const NGINX: Route =
    Route { name: "nginx", new: "--port 8080 --route nginx", proxy: Some(("nginx.service", put_behind_nginx)) };

/// Puts the app that was made with these words behind a proxy.
type PutBehind = fn(&World, &str);

/// Two of each slot, moved one after the other.
const INSTANCES: u32 = 2;

/// Between two requests of a client, in seconds: the kills and the work after them are to have the processors.
const PAUSE: &str = "0.01";

/// Where the processes that answered are told apart: more requests than it takes to meet both.
const REQUESTS: u32 = 20;

impl Route {
    /// slotd on a fresh host, with the app on this route and all the slots of the scenarios; the points that a good release
    /// passes.
    #[track_caller]
    fn boot(&self) -> (Rig, Vec<String>) {
        let mut rig = Rig::empty(&format!("crash-{}", self.name), Profile::User);
        rig.instances = INSTANCES;
        let world = &rig.world;
        world.add_app_with("web", self.new);
        if let Some((_, put)) = self.proxy {
            put(world, self.new);
        }
        route_support::supply(world);
        world.settings("web", &format!("strategy = \"rolling\"\n[[unit]]\nname = \"web@\"\ninstances = {INSTANCES}\n"));
        let log = rig.supply();
        (rig, log)
    }

    /// Whether users are sent by signals.
    fn is_shared(&self) -> bool {
        self.name == SIGNAL.name
    }

    /// Sees that the route is as `current` is: its slot has all users, by each of its instances.
    #[track_caller]
    fn expect_agreement(&self, world: &World, story: &str) {
        let current = world.host.ok("basename $(readlink /var/lib/slotd/apps/web/current)");
        let instances = [current.clone(), format!("{current}@2")];
        wait_until(&format!("a route to {current} after {story}"), PATIENCE, || {
            let ask = format!("for n in $(seq {REQUESTS}); do curl -sS -m 5 http://127.0.0.1:8080/; done 2>&1");
            let answers = world.host.ok(&ask);
            let others = answers.lines().filter(|line| !line.starts_with(&format!("version {current} ")));
            let others: Vec<&str> = others.collect();
            let wrong = if self.is_shared() { wrong_by_signal(world, &instances) } else { wrong_by_port(&answers) };
            match (others.is_empty(), wrong) {
                (true, None) => Ok(()),
                (_, wrong) => Err(format!("{others:?}, {wrong:?}\n{}", told(world))),
            }
        });
        // There is no file from a boot on until slotd says something.
        let wanted = world.host.sh("cat /run/slotd/route/web");
        if !self.is_shared() && wanted.status.success() {
            let wanted: RouteFile = serde_json::from_slice(&wanted.stdout).expect("a set of backends");
            let named: Vec<String> = wanted.backends.iter().map(|it| it.instance.to_string()).collect();
            assert_eq!(named, instances, "{story}");
        }
    }

    /// Kills slotd at each of these and sees what comes of it, all under one load. How many requests were answered.
    #[track_caller]
    fn die_at(&self, rig: &Rig, scenario: Scenario, deaths: &[(String, usize)]) -> u64 {
        let answered = under_paced_load(&rig.world, PAUSE, || {
            for (point, passing) in deaths {
                rig.die_at(scenario, point, *passing);
                let story = format!("{scenario:?}, {point} {passing}");
                self.expect_agreement(&rig.world, &story);
                let failed = rig.world.host.ok("cat /root/stop.failed 2>/dev/null || true");
                assert_eq!(failed, "", "requests failed by {story}\n{}", told(&rig.world));
            }
        });
        answered.values().filter_map(serde_json::Value::as_u64).sum()
    }

    /// What slotd is dead for and the gate has to have right: the host is cut off when the users have moved and the link
    /// hasn't, and comes up without slotd.
    #[track_caller]
    fn cut_between_route_and_link(&self, rig: &Rig, log: &[String]) {
        let world = &rig.world;
        let switch = log.iter().position(|point| point == "before:switch").expect("a switch");
        let routes = log[..switch].iter().filter(|point| *point == "after:route").count();
        self.wanted_at_boot(world);
        let ends = rig.die_for_good_at(Scenario::Good, "after:route", routes);
        mask_slotd(world);
        world.host.crash();
        self.expect_agreement(world, "a power cut between route and link, without slotd");
        unmask_slotd(world);
        // Nothing of the new slot ran any more, and `current` names the old one.
        assert_eq!(rig.expect_one_of(&ends).outcome, "rolled-back");
        self.expect_agreement(world, "a power cut between route and link");
        rig.not_again();
    }

    fn wanted_at_boot(&self, world: &World) {
        let proxy = self.proxy.map_or("", |(unit, _)| unit);
        wanted_at_boot(world, &format!("web.service {proxy}"));
    }
}

/// What is wrong where signals decide: who doesn't take connections now, or wouldn't after a restart.
fn wrong_by_signal(world: &World, instances: &[String]) -> Option<String> {
    let ask = |instance: &String| {
        world.host.ok(&format!(
            "systemctl show -P StatusText web@{instance}.service; \
             grep -c 'SLOTD_ACCEPT=\"now\"' /var/lib/slotd/apps/web/instances/{instance}/env || true"
        ))
    };
    let said: Vec<String> = instances.iter().map(ask).collect();
    (!said.iter().all(|it| it == "accepting\n1")).then(|| format!("{said:?}"))
}

/// What is wrong where each instance has a port: not both have users.
fn wrong_by_port(answers: &str) -> Option<String> {
    let processes: BTreeSet<&str> = answers.lines().filter_map(|line| line.split(" pid ").nth(1)).collect();
    (processes.len() != INSTANCES as usize).then(|| format!("answered by the processes {processes:?}"))
}

impl Rig {
    /// What was undone isn't tried again by itself, which would be in the way of the next death.
    #[track_caller]
    fn not_again(&self) {
        // Nothing to cancel is fine: it went forward.
        self.world.slotctl("cancel web");
        self.world.expect_idle("web");
    }
}

/// Three deaths, each at another kind of moment, and a power cut: on this route.
fn killed_thrice(route: &Route) {
    let (rig, log) = route.boot();
    let deaths = ["before:route", "after:switch", "before:drain"].map(|point| (point.to_owned(), 1));
    let requests = route.die_at(&rig, Scenario::Good, &deaths);
    route.cut_between_route_and_link(&rig, &log);
    tell(&format!("killed on {}: points=3 fired=3 requests={requests} failed=0", route.name));
}

#[test]
fn killed_thrice_on_a_shared_socket_by_signal() {
    killed_thrice(&SIGNAL);
}

#[test]
fn killed_thrice_on_nftables() {
    killed_thrice(&NFTABLES);
}

#[test]
fn killed_thrice_on_haproxy() {
    killed_thrice(&HAPROXY);
}

#[test]
fn killed_thrice_on_nginx() {
    killed_thrice(&NGINX);
}

/// Every passing of every point, of a release that does well and of one that fails. Two hosts take turns: most of a death
/// is waiting.
fn killed_everywhere(route: &Route) {
    let half = |half: usize| {
        let (rig, _) = route.boot();
        let (mut points, mut fired, mut requests) = (0, 0, 0);
        for scenario in [Scenario::Good, Scenario::ProbeFails] {
            let all = passings(&rig.record(scenario));
            let mine: Vec<_> = all.iter().skip(half).step_by(2).cloned().collect();
            requests += route.die_at(&rig, scenario, &mine);
            points += all.len();
            fired += mine.len();
        }
        (points, fired, requests)
    };
    let halves = std::thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(move || half(number)));
        threads.map(|thread| thread.join().expect("a failure is told above"))
    });
    let [(points, one, by_one), (others, other, by_other)] = halves;
    assert_eq!((points, one + other), (others, points), "both hosts pass the same points");
    let requests = by_one + by_other;
    tell(&format!("killed on {}: points={points} fired={points} requests={requests} failed=0", route.name));
}

#[test]
#[ignore = "some two hundred deaths take a quarter of an hour: make check-all"]
fn killed_everywhere_on_a_shared_socket_by_signal() {
    killed_everywhere(&SIGNAL);
}

#[test]
#[ignore = "some two hundred deaths take a quarter of an hour: make check-all"]
fn killed_everywhere_on_nftables() {
    killed_everywhere(&NFTABLES);
}

#[test]
#[ignore = "some two hundred deaths take a quarter of an hour: make check-all"]
fn killed_everywhere_on_haproxy() {
    killed_everywhere(&HAPROXY);
}

#[test]
#[ignore = "some two hundred deaths take a quarter of an hour: make check-all"]
fn killed_everywhere_on_nginx() {
    killed_everywhere(&NGINX);
}

#[test]
#[ignore = "a boot for each step takes a quarter of an hour: make check-all"]
fn a_power_cut_behind_each_step_comes_up_on_one_whole_slot() {
    let (rig, _) = NFTABLES.boot();
    NFTABLES.wanted_at_boot(&rig.world);
    wanted_at_boot(&rig.world, "slotd.service");
    // What is before a step is what is after the one before it.
    let deaths = passings(&rig.record(Scenario::Good));
    let deaths = deaths.iter().filter(|(point, _)| point.starts_with("after:") || point == "before:queue");
    let (mut cuts, mut undone) = (0, 0);
    for (point, passing) in deaths {
        let ends = rig.die_for_good_at(Scenario::Good, point, *passing);
        rig.world.host.crash();
        let story = format!("a power cut at {point} {passing}");
        let outcome = rig.expect_one_of(&ends).outcome.clone();
        eprintln!("{story}: {outcome}");
        NFTABLES.expect_agreement(&rig.world, &story);
        rig.not_again();
        cuts += 1;
        undone += u32::from(outcome != "done");
    }
    assert!(undone > 0 && undone < cuts, "{undone} of {cuts} were undone");
    tell(&format!("cut off on nftables: points={cuts} fired={cuts} undone={undone}"));
}
