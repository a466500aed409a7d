//! The unpack worker as a process: its answer, its death, and who dies with whom. The worker is the shipped daemon.

mod artifact_support;

use std::fs;
use std::future::pending;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use artifact_support::{Header, Tar, World};
use slotd::artifact::worker::{self, run_in_child};
use slotd::artifact::{ArtifactError, Format, Manifest};
use slotd::model::Code;

/// The program that is the worker.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_slotd"))
}

fn tar() -> Vec<u8> {
    Tar::new().file("bin/web", "x").symlink("web", "bin/web").end()
}

async fn run(world: &World, program: &Path) -> Result<Manifest, ArtifactError> {
    run_in_child(program, &world.job, |_| {}, pending()).await
}

/// A program in the worker's place. It is a script, so the environment that it doesn't get isn't needed.
fn script(world: &World, text: &str) -> PathBuf {
    let path = world.dir.path().join("packed.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("script");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_comes_back_with_its_manifest() {
    let world = World::new(Format::Tar, &tar());
    let manifest = run(&world, program()).await.expect("unpacked");
    assert_eq!((manifest.files, manifest.entries.len()), (1, 3));
    manifest.verify(world.dest()).expect("verifies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_comes_back_whole() {
    let world = World::new(Format::Tar, &Tar::new().file("a", "x").header(Header::new(b'6', "pipe")).end());
    let fault = run(&world, program()).await.expect_err("refused").fault();
    assert_eq!((fault.code, fault.evidence.entry.as_deref()), (Code::ArchiveSpecialFile, Some("pipe")));
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_is_told_as_it_died() {
    let world = World::new(Format::Tar, &tar());
    let dest = world.dest().display().to_string();
    for (text, code, words) in [
        ("kill -KILL $$", Code::ArchiveLimit, "was killed by SIGKILL (out of memory?)"),
        ("kill -SEGV $$", Code::Internal, "was killed by signal 11"),
        ("echo no luck >&2; exit 3", Code::Internal, "exit status: 3; it said: no luck"),
        ("exit 0", Code::Internal, "ended without an answer"),
    ] {
        let program = script(&world, &format!("read request; /bin/mkdir -p {dest}/half/made; {text}"));
        let fault = run(&world, &program).await.expect_err("died").fault();
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.message.contains(words), "{fault}");
        fs::remove_file(&program).expect("script");
        world.assert_nothing_left();
    }
    let error = run(&world, Path::new("/nonexistent")).await.expect_err("no program");
    assert_eq!(error.code(), Code::FsIo);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_for_an_answer_is_told() {
    let world = World::new(Format::Tar, &tar());
    for text in ["echo hello", "/usr/bin/yes | /usr/bin/tr -d '\\n'", "echo '{\"entry\":{}}'"] {
        let program = script(&world, &format!("read request; {text}; /bin/sleep 600"));
        let error = run(&world, &program).await.expect_err("nonsense");
        assert!(matches!(error, ArtifactError::WorkerAnswer(_)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_kills_the_worker_and_leaves_nothing() {
    let world = World::new(Format::Tar, &tar());
    let mark = world.dest().join("half");
    let program = script(&world, &format!("read request; /bin/mkdir {}; exec /bin/sleep 600", mark.display()));
    let is_there = async { wait_for("the worker's folder", || mark.exists()).await };
    let error = run_in_child(&program, &world.job, |_| {}, is_there).await.expect_err("cancelled");
    assert_eq!(error.code(), Code::Cancelled);
    fs::remove_file(&program).expect("script");
    world.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_over_its_time_is_killed() {
    // The worker keeps the limit itself; the parent's own clock is longer, and isn't waited for here.
    let mut world = World::new(Format::Tar, &tar());
    world.job.limits.time = Duration::ZERO;
    let error = run(&world, program()).await.expect_err("too long");
    assert_eq!(error.code(), Code::ArchiveLimit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_wait_kills_the_worker() {
    let world = World::new(Format::Tar, &tar());
    let pid_file = world.dir.path().join("pid");
    let program = script(&world, &format!("echo $$ > {}; exec /bin/sleep 600", pid_file.display()));
    let is_there = wait_for("the worker's pid", || pid_of(&pid_file).is_some());
    tokio::select! {
        done = run(&world, &program) => panic!("it ended: {done:?}"),
        () = is_there => {}
    }
    let pid = pid_of(&pid_file).expect("pid");
    wait_for("the worker's end", || !is_alive(pid)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_gives_way_and_dies_with_its_parent() {
    // A worker whose archive is a FIFO that nobody writes to can only be ended from outside.
    let world = World::new(Format::Tar, &tar());
    let fifo = world.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
    let mut job = world.job.clone();
    job.packed = fifo;
    let mut child = std::process::Command::new(program())
        .arg(worker::ARGUMENT)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("worker");
    let mut stdin = child.stdin.take().expect("stdin");
    let request = serde_json::to_string(&job).expect("JSON");
    std::io::Write::write_all(&mut stdin, format!("{request}\n").as_bytes()).expect("request");
    assert!(child.try_wait().expect("alive").is_none());
    let stat = format!("/proc/{}/stat", child.id());
    // proc_pid_stat(5): the 19th field; the second ends with the last bracket.
    let nice = || fs::read_to_string(&stat).ok()?.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok();
    wait_for("a worker of low priority", || nice() == Some(10)).await;
    drop(stdin);
    wait_for("the worker's end", || child.try_wait().expect("wait").is_some()).await;
}

fn pid_of(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether a process runs; one that ended and wasn't waited for doesn't.
fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what} didn't come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
