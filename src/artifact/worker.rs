//! Unpacking in a process of its own: what a hostile archive may break there isn't slotd.
//!
//! The request is one line of JSON on the worker's standard input, which then stays open: its end tells the worker
//! that its parent is gone, whichever thread had started it (PR_SET_PDEATHSIG follows the thread, and threads of a
//! runtime come and go). The answer is lines of JSON on standard output.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setpriority_process, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::model::{Fault, evidence};

use super::error::ArtifactError;
use super::limits::LimitError;
use super::manifest::{Entry, Manifest};
use super::tree::{self, Tree};
use super::unpack::{Job, Progress, unpack};

/// The first argument that makes slotd a worker.
pub const ARGUMENT: &str = "unpack-worker";
/// What a running slotd re-executes; it is the same program even after an upgrade.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long the worker may go on past the limit on time, which it keeps itself, before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Longest line of the answer: two paths of 4,096 bytes, each byte escaped as six.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Longest request.
const MAX_REQUEST_BYTES: u64 = 64 << 10;
/// What is kept of standard error.
const MAX_STDERR_BYTES: u64 = 4096;
/// Open files: three standard ones, the archive, the tree, and some for a path.
const MAX_FILES: u64 = 64;

/// How much the worker gives way to others: nice(1)'s own default.
const NICE: i32 = 10;

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Progress(Progress),
    Entry(Entry),
    /// All entries were given.
    Done,
    Failed(Box<Fault>),
}

/// Unpacks in a child process: `program`, usually [`THIS_PROGRAM`], with [`ARGUMENT`]. Ends with
/// [`ArtifactError::Cancelled`] as soon as `cancel` does.
///
/// # Errors
/// As [`unpack`]; `archive.limit` or `internal` if the worker dies. The folder is empty then. If the future is
/// dropped the worker is killed, and the folder is left to the sweep of staging.
pub async fn run_in_child(
    program: &Path,
    job: &Job,
    progress: impl FnMut(Progress),
    cancel: impl Future<Output = ()>,
) -> Result<Manifest, ArtifactError> {
    // Looked at here too: what lies in the folder at the end is removed, so it must have been empty.
    drop(Tree::open(&job.dest)?);
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(ArtifactError::io("start the unpack worker", program))?;
    let done = tokio::select! {
        done = converse(&mut child, job, progress) => done,
        () = cancel => Err(ArtifactError::Cancelled),
        () = tokio::time::sleep(job.limits.time.saturating_add(GRACE)) => Err(LimitError::Time(job.limits.time).into()),
    };
    let Err(error) = done else { return done };
    // Only a worker that is gone leaves the folder alone.
    child.kill().await.unwrap_or_default();
    let dest = job.dest.clone();
    // The refusal matters more than a failed sweep, and staging is swept at every start.
    tokio::task::spawn_blocking(move || tree::empty(&dest).unwrap_or_default()).await.unwrap_or_default();
    Err(error)
}

/// The worker: what `main` does when it is called with [`ARGUMENT`].
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> std::io::Result<()> {
    let job = request()?;
    confine();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut told = Instant::now();
    let mut tell = |progress| {
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            // A parent that doesn't listen any more is noticed on standard input.
            write_line(&mut out, &Line::Progress(progress)).and_then(|()| out.flush()).unwrap_or_default();
        }
    };
    match unpack(&job, &mut tell) {
        Ok(manifest) => {
            for entry in manifest.entries {
                write_line(&mut out, &Line::Entry(entry))?;
            }
            write_line(&mut out, &Line::Done)?;
        }
        Err(error) => write_line(&mut out, &Line::Failed(Box::new(error.fault())))?,
    }
    out.flush()
}

/// Reads the request, and leaves a thread behind that ends the process when its parent goes.
fn request() -> std::io::Result<Job> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    (&mut input).take(MAX_REQUEST_BYTES).read_line(&mut line)?;
    let job = serde_json::from_str(&line)?;
    std::thread::spawn(move || {
        input.read(&mut [0]).unwrap_or_default();
        kill_process(getpid(), Signal::KILL)
    });
    Ok(job)
}

/// Takes away what unpacking doesn't need. What fails here was forbidden by the host and is no reason not to go on.
/// A sandbox (landlock, seccomp) belongs here too, once the archive and the folder are known.
fn confine() {
    let both = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Core, both(0)).unwrap_or_default();
    setrlimit(Resource::Nofile, both(MAX_FILES)).unwrap_or_default();
    // What serves goes first. The worker is a child of slotd's, in slotd's own unit: a slice's weight wouldn't tell it apart.
    setpriority_process(None, NICE).unwrap_or_default();
    // Where memory is short, better the worker than slotd or an app.
    std::fs::write("/proc/self/oom_score_adj", "1000").unwrap_or_default();
}

fn write_line(out: &mut impl Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Sends the request and reads the answer to its end.
async fn converse(child: &mut Child, job: &Job, progress: impl FnMut(Progress)) -> Result<Manifest, ArtifactError> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(ArtifactError::WorkerAnswer("it has no pipes".into()));
    };
    let mut request = serde_json::to_vec(job).map_err(|error| ArtifactError::WorkerAnswer(error.to_string()))?;
    request.push(b'\n');
    // A worker that died before it read this is told by its status.
    stdin.write_all(&request).await.unwrap_or_default();
    let stderr = tokio::spawn(read_stderr(stderr));
    let answer = read_answer(stdout, job, progress).await?;
    if let Some(Err(error)) = answer {
        return Err(error);
    }
    let status = child.wait().await.map_err(ArtifactError::io("wait for", "the unpack worker"))?;
    drop(stdin);
    match answer {
        Some(answer) => answer,
        None => Err(died(status, stderr.await.unwrap_or_default())),
    }
}

/// The answer; `None` if it breaks off.
async fn read_answer(
    stdout: ChildStdout,
    job: &Job,
    mut progress: impl FnMut(Progress),
) -> Result<Option<Result<Manifest, ArtifactError>>, ArtifactError> {
    let mut lines = tokio::io::BufReader::new(stdout);
    let mut entries = Vec::new();
    let mut line = Vec::new();
    while read_line(&mut lines, &mut line).await? {
        let answer = serde_json::from_slice(&line).map_err(|error| ArtifactError::WorkerAnswer(error.to_string()))?;
        match answer {
            Line::Progress(at) => progress(at),
            Line::Entry(_) if entries.len() as u64 >= job.limits.entries => {
                return Err(ArtifactError::WorkerAnswer("more entries than it may unpack".into()));
            }
            Line::Entry(entry) => entries.push(entry),
            Line::Done => return Ok(Some(Ok(Manifest::new(entries)))),
            Line::Failed(fault) => return Ok(Some(Err(ArtifactError::Reported(fault)))),
        }
    }
    Ok(None)
}

/// Reads one line of a bounded length into `line`; `false` is the end, also in the middle of a line.
async fn read_line(from: &mut tokio::io::BufReader<ChildStdout>, line: &mut Vec<u8>) -> Result<bool, ArtifactError> {
    line.clear();
    let mut bounded = from.take(MAX_LINE_BYTES as u64);
    bounded.read_until(b'\n', line).await.map_err(ArtifactError::io("read the answer of", "the unpack worker"))?;
    match line.last() {
        Some(b'\n') => Ok(true),
        _ if line.len() < MAX_LINE_BYTES => Ok(false),
        _ => Err(ArtifactError::WorkerAnswer("a line without end".into())),
    }
}

/// The beginning of what it says on standard error; the rest is thrown away, so that it never waits for a reader.
async fn read_stderr(mut stderr: ChildStderr) -> String {
    let mut text = Vec::new();
    (&mut stderr).take(MAX_STDERR_BYTES).read_to_end(&mut text).await.unwrap_or_default();
    tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.unwrap_or_default();
    super::error::shown(String::from_utf8_lossy(&text).trim().as_bytes())
}

fn died(status: ExitStatus, stderr: String) -> ArtifactError {
    let stderr = evidence::cut(&stderr, evidence::MAX_TEXT_BYTES);
    let (how, by_limit) = match status.signal() {
        // slotd itself kills it only after it has another reason to give.
        Some(9) => ("was killed by SIGKILL (out of memory?)".to_owned(), true),
        Some(signal) => (format!("was killed by signal {signal}"), false),
        None => (format!("ended without an answer, {status}"), false),
    };
    ArtifactError::WorkerDied { how, by_limit, stderr }
}
