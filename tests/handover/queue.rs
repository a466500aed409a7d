//! A queue beside the web app: the app `worker` (examples/job-worker) moves at the same time, and each job is done once.

use std::path::Path;
use std::time::Duration;

use super::jobs::Done;
use super::program::SAMPLE;
use super::{Route, VERSIONS, app_on, deployments, moved};
use crate::support::wait_until;
use crate::support::workshop::expect_exit;
use crate::support::world::{PROOF, World};

/// Over all moves.
const JOBS: u64 = 20_000;

/// For all of them: several times what they take.
const DEADLINE: Duration = Duration::from_millis(10 * JOBS);

/// Where the queue lies on the host.
const FOLDER: &str = "/var/lib/jobs";

/// A row of counts: web app and worker move at once, as often as HANDOVER_DEPLOYMENTS says, while jobs come in.
#[track_caller]
pub fn jobs_are_done_once(route: &Route) {
    let world = app_on(route, &SAMPLE);
    let queue = Queue::open(&world);
    let portions = u64::from(deployments(route.most));
    let moved = moved(&world, route, &SAMPLE, |round, version| {
        // One deployment an app: the last one's end first.
        if round > 1 {
            queue.moved();
        }
        let round = u64::from(round);
        queue.feed((round - 1) * JOBS / portions + 1, round * JOBS / portions);
        world.begin("worker", &format!("activate worker {version}"));
    });
    queue.moved();
    let done = queue.until_done(JOBS);
    let faults = done.faults(1..=JOBS);

    let (counted, by_slot) = (&moved.counted, &done.by_slot);
    println!(
        "handover queue-{} deployments={} jobs={JOBS} wrong={} requests={} failed={}",
        route.name,
        moved.deployments,
        faults.len(),
        counted.count("requests"),
        counted.count("failed"),
    );
    moved.expect(route);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(done.starts, moved.deployments + 1, "each move starts one worker: {by_slot:?}");
    assert!(VERSIONS.iter().all(|version| by_slot.contains_key(*version)), "{by_slot:?}");
}

/// The queue on a host, and the app that works on it.
struct Queue<'a> {
    world: &'a World,
}

impl<'a> Queue<'a> {
    /// The app with both versions ready and the first one live, and no jobs yet.
    #[track_caller]
    fn open(world: &'a World) -> Queue<'a> {
        let program = Path::new(env!("CARGO_BIN_EXE_slotd")).with_file_name("examples/job-worker");
        world.host.push(program, "/usr/local/lib/job-worker");
        world.ok(&format!("new worker --exec '/srv/worker/bin/worker {FOLDER}' --write"));
        world
            .host
            .write("/etc/systemd/system/worker@.service.d/queue.conf", format!("[Service]\nReadWritePaths={FOLDER}\n"));
        world.host.ok(&format!("systemctl daemon-reload && install -d -o worker -g worker {FOLDER} {FOLDER}/jobs"));
        let alone = "[[unit]]\nname = \"worker@\"\noverlap = false\n";
        world.settings("worker", &format!("deploy = \"manual\"\n{alone}{PROOF}"));
        for version in VERSIONS {
            let start = "#!/bin/sh\nexec /usr/local/lib/job-worker \"$@\"\n";
            let tree = world.tree(&format!("worker-{version}"), &[("VERSION", version), ("bin/worker", start)]);
            world.host.ok(&format!("chmod 755 {tree}/bin/worker"));
            // Ready, and not live.
            expect_exit(&world.send("worker", &world.pack(&tree, &format!("worker-{version}.tar.zst"))), 20);
        }
        world.ok(&format!("activate worker {}", VERSIONS[0]));
        Queue { world }
    }

    /// Adds the jobs with these numbers.
    #[track_caller]
    fn feed(&self, first: u64, last: u64) {
        self.world.host.ok(&format!("cd {FOLDER}/jobs && seq {first} {last} | xargs touch"));
    }

    /// Waits for the end of the worker's deployment.
    #[track_caller]
    fn moved(&self) {
        let (exit, said) = self.world.exit_of("worker");
        assert_eq!(exit, 0, "{said}");
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
        self.world.host.ok("systemctl stop worker.service");
        self.done()
    }

    fn done(&self) -> Done {
        Done::read(&String::from_utf8(self.world.host.read(&format!("{FOLDER}/log"))).expect("text"))
    }
}
