//! A queue worker that can be moved from one version to the next without losing a job or doing one twice: a model for an
//! app's own worker, and what the tests of queues move.
//!
//! The queue is a folder: a job is a file whose name is its number, and is done in their order. What a worker has to do:
//!
//! 1. hold a lock that the system takes away with the process (flock), for as long as it works: whatever starts two at
//!    once, one works;
//! 2. say `READY=1` when it holds the lock;
//! 3. on SIGTERM finish the job in hand, and end.
//!
//! It writes a log for the tests, one line each: `start SLOT`, `done NUMBER SLOT`, `end SLOT`, and `overlap SLOT` if
//! somebody else holds the lock when it starts, which under slotd with `overlap = false` never happens. A job is taken out
//! of the queue after its line is written, so one that is cut by a SIGKILL between the two is done twice: this is at least
//! once, as queues are, and exactly once when nothing is killed.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::fcntl::{Flock, FlockArg};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two looks at an empty queue, or at a lock that another holds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How it was called.
#[derive(Debug, Parser)]
#[command(name = "job-worker", about = "Does the jobs of a folder, one after the other")]
struct Settings {
    /// The folder: `jobs/`, `lock` and `log` in it
    folder: PathBuf,
    /// How long a job takes ("1ms")
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration)]
    work: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Settings::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("job-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: &Settings) -> io::Result<()> {
    let mut stop = stop()?;
    let slot = std::env::var("SLOTD_SLOT").unwrap_or_else(|_| "-".to_owned());
    let mut log = Log { file: OpenOptions::new().append(true).create(true).open(settings.folder.join("log"))?, slot };
    let Some(_lock) = lock(&settings.folder.join("lock"), &mut log, &mut stop).await? else { return Ok(()) };
    log.line("start")?;
    sd_notify::notify(false, &[NotifyState::Ready])?;

    let queue = settings.folder.join("jobs");
    let mut jobs = VecDeque::new();
    while !*stop.borrow() {
        let Some(job) = jobs.pop_front() else {
            jobs = look(&queue)?;
            if jobs.is_empty() {
                pause(LOOK_EVERY, &mut stop).await;
            }
            continue;
        };
        // A stop waits for it; one without work still lets a stop be heard.
        sleep(settings.work).await;
        tokio::task::yield_now().await;
        log.line(&format!("done {job}"))?;
        fs::remove_file(queue.join(job.to_string()))?;
    }
    // While the lock is held, so that it stands before the next one's `start`.
    log.line("end")
}

/// The lock, or nothing if a stop came first.
async fn lock(path: &Path, log: &mut Log, stop: &mut watch::Receiver<bool>) -> io::Result<Option<Flock<File>>> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let mut told = false;
    while !*stop.borrow() {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        if !told {
            log.line("overlap")?;
            told = true;
        }
        pause(LOOK_EVERY, stop).await;
    }
    Ok(None)
}

/// The numbers of the jobs that are there, lowest first.
fn look(queue: &Path) -> io::Result<VecDeque<u64>> {
    let mut jobs: Vec<u64> = fs::read_dir(queue)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()))
        .filter_map(io::Result::transpose)
        .collect::<io::Result<_>>()?;
    jobs.sort_unstable();
    Ok(jobs.into())
}

/// Becomes true at SIGTERM.
fn stop() -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (tell, stop) = watch::channel(false);
    tokio::spawn(async move {
        terminate.recv().await;
        // Nobody listens when the worker ends by itself.
        let _ = tell.send(true);
    });
    Ok(stop)
}

/// Waits, and not for longer than until SIGTERM.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = sleep(time) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// The log; a line is one write, so that those of two workers don't mix.
struct Log {
    file: File,
    slot: String,
}

impl Log {
    fn line(&mut self, what: &str) -> io::Result<()> {
        self.file.write_all(format!("{what} {}\n", self.slot).as_bytes())
    }
}
