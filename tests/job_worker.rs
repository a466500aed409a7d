//! The worker that queue tests move (examples/job-worker) does each job once, and what its log is held against finds what
//! is wrong.

#[path = "handover/jobs.rs"]
mod jobs;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use jobs::Done;
use support::wait_until;

/// For anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn jobs_are_done_once_by_one_worker_after_the_other() {
    let queue = Queue::new();
    for (slot, jobs) in [("1.0.0", 1..=200_u64), ("2.0.0", 201..=400)] {
        queue.add(jobs.clone());
        let mut worker = queue.start(slot, &[]);
        queue.until(&format!("{} jobs", jobs.end()), |done| done.count() >= jobs.end() - 50);
        terminate(&worker);
        assert!(worker.wait().expect("ended").success());
    }
    let mut last = queue.start("3.0.0", &[]);
    queue.until("all jobs", |done| done.count() == 400);
    terminate(&last);
    assert!(last.wait().expect("ended").success());
    let done = queue.done();
    assert_eq!(done.faults(1..=400), Vec::<String>::new());
    assert_eq!(done.starts, 3);
    assert!(done.by_slot["1.0.0"] >= 150 && done.by_slot["2.0.0"] >= 150, "{:?}", done.by_slot);
    assert_eq!(fs::read_dir(queue.folder.path().join("jobs")).expect("folder").count(), 0);
}

#[test]
fn a_stop_waits_for_the_job_in_hand() {
    let queue = Queue::new();
    queue.add(1..=3);
    let mut worker = queue.start("1.0.0", &["--work", "300ms"]);
    queue.until("a start", |done| done.starts > 0);
    terminate(&worker);
    assert!(worker.wait().expect("ended").success());
    assert_eq!(queue.done().faults([1]), Vec::<String>::new());
}

#[test]
fn a_second_worker_waits_for_the_lock_and_says_so() {
    let queue = Queue::new();
    queue.add(1..=1000);
    let mut first = queue.start("1.0.0", &[]);
    queue.until("a job", |done| done.count() > 0);
    let mut second = queue.start("2.0.0", &[]);
    queue.until("the overlap", |done| !done.wrong.is_empty());
    terminate(&first);
    assert!(first.wait().expect("ended").success());
    queue.until("all jobs", |done| done.count() == 1000);
    terminate(&second);
    assert!(second.wait().expect("ended").success());
    assert_eq!(queue.done().faults(1..=1000), ["2.0.0 found the lock held by another"]);
}

#[test]
fn what_is_wrong_in_a_log_is_found() {
    let faults = |log: &str| Done::read(log).faults([1, 2]);
    assert_eq!(faults("start a\ndone 1 a\nend a\nstart b\ndone 2 b\nend b\n"), Vec::<String>::new());
    assert_eq!(faults("start a\ndone 1 a\ndone 1 a\nend a\n"), ["job 1 was done 2 times", "job 2 was not done"]);
    assert_eq!(faults("start a\ndone 1 a\nstart b\ndone 2 b\nend b\n"), ["b started before a had ended"]);
    assert_eq!(
        faults("start a\ndone 1 a\ndone 2 b\nend a\ndone 3 a\n"),
        ["b did job 2 while Some(\"a\") worked", "a did job 3 while None worked", "job 3 was never given"]
    );
    assert_eq!(faults("start a\ndone 1 a\ndone 2 a\nend b\n"), ["b ended without having started"]);
    assert_eq!(faults("start a\ndone 1 a\ndone 2 a\ndon"), ["what is \"don\"?"]);
}

/// A folder with a queue.
struct Queue {
    folder: TempDir,
}

impl Queue {
    fn new() -> Queue {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("jobs")).expect("made");
        Queue { folder }
    }

    fn add(&self, jobs: impl IntoIterator<Item = u64>) {
        for job in jobs {
            fs::write(self.folder.path().join("jobs").join(job.to_string()), "").expect("written");
        }
    }

    fn start(&self, slot: &str, arguments: &[&str]) -> Ended {
        let worker = Command::new(program()).arg(self.folder.path()).args(arguments).env("SLOTD_SLOT", slot).spawn();
        Ended(worker.expect("started"))
    }

    fn done(&self) -> Done {
        Done::read(&fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
    }

    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Done) -> bool) {
        wait_until(what, PATIENCE, || {
            let done = self.done();
            if is(&done) { Ok(()) } else { Err(format!("{done:?}")) }
        });
    }
}

/// A worker; killed when dropped.
struct Ended(Child);

impl std::ops::Deref for Ended {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Ended {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended; either way it must not be left behind.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(worker: &Child) {
    kill(Pid::from_raw(worker.id().try_into().expect("a pid")), Signal::SIGTERM).expect("sent");
}

/// Cargo builds examples beside the tests and doesn't say where.
fn program() -> PathBuf {
    let here = std::env::current_exe().expect("known");
    let target: &Path = here.ancestors().nth(2).expect("target/debug/deps/TEST");
    let program = target.join("examples/job-worker");
    assert!(program.exists(), "{} is missing: cargo build --example job-worker", program.display());
    program
}
