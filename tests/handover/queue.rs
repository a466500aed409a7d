//! A queue beside the web app: its worker (examples/job-worker) moves at the same time, as an app of its own or as a second
//! unit of the web app, and each job is done once.

use std::path::Path;
use std::time::Duration;

use super::jobs::Done;
use super::program::{SAMPLE, SAMPLE_WITH_WORKER};
use super::{Moved, Route, VERSIONS, app_on, app_without_release, moved};
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, PROOF, World};

/// 20,000 over fifty moves.
const JOBS_A_MOVE: u64 = 400;

/// Beside a queue more moves show nothing more.
const MOST: u32 = 50;

/// For all of the jobs: several times what they take.
const DEADLINE: Duration = Duration::from_secs(200);

/// Where the queue lies on the host.
const FOLDER: &str = "/var/lib/jobs";

/// How a release starts the worker.
pub const START: &str = "#!/bin/sh\nexec /usr/local/lib/job-worker \"$@\"\n";

/// One that ends before it has begun.
const FAILS: &str = "#!/bin/sh\necho no queue for me >&2\nexit 3\n";

/// A row of counts: the app `web` and the app `worker` move at once while jobs come in.
#[track_caller]
pub fn jobs_are_done_once(route: &Route) {
    let world = app_on(route, &SAMPLE);
    let queue = Queue::open(&world);
    queue.own_app();
    let route = &Route { most: route.most.min(MOST), ..*route };
    let moved = moved(&world, route, &SAMPLE, |round, version| {
        // One deployment an app: the last one's end first.
        if round > 1 {
            queue.moved();
        }
        queue.feed(round);
        world.begin("worker", &format!("activate worker {version}"));
    });
    queue.moved();
    queue.expect_done(&format!("queue-{}", route.name), route, &moved, "worker");
}

/// A row of counts: web and worker are units of one app, the one moved as its route can, the other by stop-start.
#[track_caller]
pub fn jobs_of_one_app_are_done_once(route: &Route) {
    let world = app_without_release(route, &SAMPLE);
    let queue = Queue::open(&world);
    queue.unit_of_web();
    expect_exit(&world.send("web", &SAMPLE_WITH_WORKER.release(&world, VERSIONS[0])), 0);
    let route = &Route { most: route.most.min(MOST), ..*route };
    let moved = moved(&world, route, &SAMPLE_WITH_WORKER, |round, _| queue.feed(round));
    queue.expect_done(&format!("queue-in-one-app-{}", route.name), route, &moved, "web");
}

/// A release whose worker fails: the old one works on, users notice nothing, and the history tells for how long nobody
/// worked.
#[track_caller]
pub fn a_worker_that_fails_is_undone(route: &Route) {
    let world = app_without_release(route, &SAMPLE);
    let queue = Queue::open(&world);
    queue.unit_of_web();
    expect_exit(&world.send("web", &SAMPLE_WITH_WORKER.release(&world, VERSIONS[0])), 0);
    let web = world.host.ok("systemctl show -P InvocationID web@1.0.0.service");
    let tree = world.tree("web-2.0.0", &[("VERSION", VERSIONS[1]), ("bin/worker", FAILS)]);
    world.host.ok(&format!("chmod 755 {tree}/bin/worker"));
    let artifact = world.pack(&tree, "web-2.0.0.tar.zst");
    let load = super::load::Load::start(&world, 8080, "");
    queue.feed(1);
    let sent = world.send("web", &artifact);
    queue.feed(2);
    let counted = load.end();
    expect_exit(&sent, 10);

    let last = world.json("history web -n 1")[0].clone();
    let ended = &last["ended"];
    assert_eq!((&last["to"], &ended["outcome"]), (&VERSIONS[1].into(), &"rolled-back".into()), "{last}");
    assert_eq!((&ended["fault"]["code"], &ended["blame"]), (&"unit.exited".into(), &"release".into()), "{last}");
    expect_parts(&world.ok("why web"), &["start jobs@2.0.0.service", "exited with status 3", "no queue for me"]);
    assert_eq!((counted.count("failed"), counted.wrk_failed()), (0, 0), "{} {}", counted.client, counted.wrk);
    assert_eq!(counted.answers(VERSIONS[1]), 0, "{}", counted.client);
    assert_eq!(world.host.ok("systemctl show -P InvocationID web@1.0.0.service"), web, "web@1.0.0 was to run on");
    let done = queue.until_done(2 * JOBS_A_MOVE);
    let faults = done.faults(1..=2 * JOBS_A_MOVE);
    // The history has it: for how long no instance of it was up.
    let gap = last["measured"]["down_ms"].as_u64().unwrap_or_else(|| panic!("{last}"));
    println!(
        "handover queue-undone-{} jobs={} wrong={} requests={} failed=0 gap_ms={gap}",
        route.name,
        2 * JOBS_A_MOVE,
        faults.len(),
        counted.count("requests"),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(done.starts, 2, "1.0.0 has worked twice, and nobody else: {:?}", done.by_slot);
}

/// The queue on a host, and who works on it.
struct Queue<'a> {
    world: &'a World,
}

impl<'a> Queue<'a> {
    /// An empty one.
    #[track_caller]
    fn open(world: &'a World) -> Queue<'a> {
        let program = Path::new(env!("CARGO_BIN_EXE_slotd")).with_file_name("examples/job-worker");
        world.host.push(program, "/usr/local/lib/job-worker");
        Queue { world }
    }

    /// An app of its own, `worker`, with both versions ready and the first one live.
    #[track_caller]
    fn own_app(&self) {
        let world = self.world;
        world.ok(&format!("new worker --exec '/srv/worker/bin/worker {FOLDER}' --write"));
        self.is_for("worker", "worker");
        let alone = "[[unit]]\nname = \"worker@\"\noverlap = false\n";
        world.settings("worker", &format!("deploy = \"manual\"\n{alone}{PROOF}"));
        for version in VERSIONS {
            let tree = world.tree(&format!("worker-{version}"), &[("VERSION", version), ("bin/worker", START)]);
            world.host.ok(&format!("chmod 755 {tree}/bin/worker"));
            // Ready, and not live.
            expect_exit(&world.send("worker", &world.pack(&tree, &format!("worker-{version}.tar.zst"))), 20);
        }
        world.ok(&format!("activate worker {}", VERSIONS[0]));
    }

    /// A second unit of the app `web`, `jobs@`, as an administrator adds one.
    #[track_caller]
    fn unit_of_web(&self) {
        let world = self.world;
        world.host.ok(&format!(
            "cd /etc/systemd/system && sed -e 's|^ExecStart=.*|ExecStart=/srv/web/bin/worker {FOLDER}|' \
             -e '/^Sockets=/d' -e '/web.socket/d' -e 's|^RuntimeDirectory=.*|RuntimeDirectory=slots/jobs/%i|' \
             web@.service >jobs@.service && sed -i 's|web web@$|web web@ jobs@|' web.service && \
             sed -i 's/\\^web(@/^(web|jobs)(@/' /etc/polkit-1/rules.d/50-slotd-web.rules"
        ));
        self.is_for("jobs", "web");
        let settings = String::from_utf8(world.host.read("/etc/slotd/apps/web.toml")).expect("text");
        let jobs = "\n[[unit]]\nname = \"jobs@\"\noverlap = false\n";
        world.host.write("/etc/slotd/apps/web.toml", format!("{settings}{jobs}"));
        world.host.ok("systemctl reload slotd.service");
        world.ok("check web");
    }

    /// Makes the folder that the template may write to, for this user.
    #[track_caller]
    fn is_for(&self, template: &str, user: &str) {
        self.world.host.write(
            &format!("/etc/systemd/system/{template}@.service.d/queue.conf"),
            format!("[Service]\nReadWritePaths={FOLDER}\n"),
        );
        let folders = format!("install -d -o {user} -g {user} {FOLDER} {FOLDER}/jobs");
        self.world.host.ok(&format!("systemctl daemon-reload && {folders}"));
    }

    /// Adds the jobs of the n-th move, from 1 on.
    #[track_caller]
    fn feed(&self, round: u32) {
        let last = u64::from(round) * JOBS_A_MOVE;
        let first = last - JOBS_A_MOVE + 1;
        self.world.host.ok(&format!("cd {FOLDER}/jobs && seq {first} {last} | xargs touch"));
    }

    /// Waits for the end of the worker's deployment.
    #[track_caller]
    fn moved(&self) {
        let (exit, said) = self.world.exit_of("worker");
        assert_eq!(exit, 0, "{said}");
    }

    /// Prints the row, and sees that all is as it has to be.
    #[track_caller]
    fn expect_done(&self, name: &str, route: &Route, moved: &Moved, app: &str) {
        let jobs = u64::from(moved.deployments) * JOBS_A_MOVE;
        let done = self.until_done(jobs);
        let faults = done.faults(1..=jobs);
        let (counted, by_slot) = (&moved.counted, &done.by_slot);
        println!(
            "handover {name} deployments={} jobs={jobs} wrong={} requests={} failed={}",
            moved.deployments,
            faults.len(),
            counted.count("requests"),
            counted.count("failed"),
        );
        moved.expect(route);
        assert!(faults.is_empty(), "{app}: {}", faults.join("\n"));
        assert_eq!(done.starts, moved.deployments + 1, "each move starts one worker: {by_slot:?}");
        assert!(VERSIONS.iter().all(|version| by_slot.contains_key(*version)), "{by_slot:?}");
    }

    /// Waits until so many jobs are done, and ends the worker.
    #[track_caller]
    fn until_done(&self, jobs: u64) -> Done {
        wait_until(&format!("{jobs} jobs"), DEADLINE, || {
            let done = self.done();
            if done.count() >= jobs {
                Ok(())
            } else {
                Err(format!("{} are done; wrong: {:?}", done.count(), done.wrong))
            }
        });
        self.world.host.ok("systemctl stop worker.service web.service 2>/dev/null || true");
        wait_until("the worker's end", PATIENCE, || {
            let left =
                self.world.host.ok("systemctl list-units --plain --no-legend --state=active 'jobs@*' 'worker@*'");
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        self.done()
    }

    fn done(&self) -> Done {
        Done::read(&String::from_utf8(self.world.host.read(&format!("{FOLDER}/log"))).expect("text"))
    }
}
