//! A booted host with systemd, D-Bus and polkit, for one test: `tests/host/host` as a value.
//!
//! Needs root; where no host can be booted the test fails and says why. Test binaries that use it are
//! named `host_…` and need the feature `host-tests`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Which system is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// That of the machine the tests run on.
    Own,
    /// Debian 13, systemd 257.
    Trixie,
}

/// A booted host; killed when dropped, unless the environment has `SLOTD_KEEP=1`.
#[derive(Debug)]
pub struct Host {
    name: String,
}

impl Host {
    /// Boots a host of its own. `hint` says in listings whose it is: a-z, 0-9 and `-`, begins with a
    /// letter, at most 20 characters.
    #[track_caller]
    pub fn boot(hint: &str, root: Root) -> Host {
        Host::boot_with(hint, root, &[])
    }

    /// The same, with further arguments of `host boot`: `--bind SRC:DST`.
    #[track_caller]
    pub fn boot_with(hint: &str, root: Root, arguments: &[&str]) -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let pid = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{hint}-{pid}-{count}");
        let root = match root {
            Root::Own => "self",
            Root::Trixie => "trixie",
        };

        let mut command = script(["boot", &name, "--root", root]);
        // A runner that kills this process leaves the host behind; `host reap` finds it by its owner.
        if !is_kept() {
            command.args(["--owner", &pid.to_string()]);
        }
        expect_success(command.args(arguments), b"");
        Host { name }
    }

    /// Its name, for `tests/host/host`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a line of shell as root in `/`, outside of any unit, and returns what came of it.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Output {
        output(&mut script(["exec", &self.name, "--", "sh", "-c", line]), b"")
    }

    /// Runs a line of shell that has to succeed, and returns its standard output without the last newline.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        text(&expect_success(&mut script(["exec", &self.name, "--", "sh", "-c", line]), b""))
    }

    /// Runs a command as a transient unit, with options of `systemd-run` such as `-p User=web`: under the
    /// host's system call filter and in a cgroup of its own, as `sh` is not.
    #[track_caller]
    pub fn run_unit(&self, options: &[&str], command: &[&str]) -> Output {
        output(script(["run", &self.name]).args(options).arg("--").args(command), b"")
    }

    /// Copies a file or folder into the host, owned by root; it is renamed into place.
    #[track_caller]
    pub fn push(&self, from: impl AsRef<Path>, to: &str) {
        expect_success(script(["push", &self.name]).arg(from.as_ref()).arg(to), b"");
    }

    /// Copies a file or folder out of the host.
    #[track_caller]
    pub fn pull(&self, from: &str, to: impl AsRef<Path>) {
        expect_success(script(["pull", &self.name, from]).arg(to.as_ref()), b"");
    }

    /// Writes a file, and makes the folders above it.
    #[track_caller]
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let line = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        expect_success(&mut script(["exec", &self.name, "--", "sh", "-c", line, "sh", path]), bytes.as_ref());
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        expect_success(&mut script(["exec", &self.name, "--", "cat", "--", path]), b"").stdout
    }

    /// Which boot this is.
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.ok("cat /proc/sys/kernel/random/boot_id")
    }

    /// An orderly reboot; returns when the host is up again.
    #[track_caller]
    pub fn reboot(&self) {
        expect_success(&mut script(["reboot", &self.name]), b"");
    }

    /// All processes end at once, then the host boots again. What was written is there, flushed or not.
    #[track_caller]
    pub fn crash(&self) {
        expect_success(&mut script(["crash", &self.name]), b"");
    }

    /// Ends it now, and shows a failure to.
    #[track_caller]
    pub fn kill(self) {
        expect_success(&mut script(["kill", &self.name]), b"");
        std::mem::forget(self);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if is_kept() {
            eprintln!("kept: tests/host/host enter {}", self.name);
            return;
        }
        let killed = output(&mut script(["kill", &self.name]), b"");
        if !killed.status.success() {
            // The test may be failing already, for a reason of its own.
            eprintln!("{} is left: {}", self.name, shown(&killed));
        }
    }
}

fn is_kept() -> bool {
    std::env::var_os("SLOTD_KEEP").is_some_and(|value| value == "1")
}

fn script<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/host"));
    command.args(arguments);
    command
}

#[track_caller]
fn output(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/host/host starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    std::thread::scope(|scope| {
        // One that doesn't read its input closes the pipe, and says in its status what it thought of it.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().expect("its output can be read")
    })
}

#[track_caller]
fn expect_success(command: &mut Command, input: &[u8]) -> Output {
    let output = output(command, input);
    assert!(output.status.success(), "{command:?}: {}", shown(&output));
    output
}

/// Standard output without the last newline.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
}

/// Status and both outputs, for a message.
pub fn shown(output: &Output) -> String {
    let mut shown = output.status.to_string();
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let bytes = String::from_utf8_lossy(bytes);
        if !bytes.is_empty() {
            let _ = write!(shown, "\n--- {name}\n{}", bytes.trim_end());
        }
    }
    shown
}
