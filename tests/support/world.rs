//! A booted host on which slotd is installed as `make install` does it, with one app made by `slotctl new`: what the
//! stories are told in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::host::{Host, Root, shown, text};
use super::wait_until;

/// For anything that a story waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Proofs short enough for tests, and long enough for a loaded machine. A release that fails its probe takes the whole
/// deadline, which begins once its unit is up: a good one answers within some tenths of a second, beside other hosts too.
pub const PROOF: &str =
    "[proof]\ninterval = \"100ms\"\ntimeout = \"2s\"\nsuccesses = 2\ndeadline = \"8s\"\nstable_for = \"500ms\"\n";

/// The host with slotd.
pub struct World {
    pub host: Host,
    staged: TempDir,
    /// What runs on the host, as [`lean`] makes it.
    lean: TempDir,
}

/// A packed artifact outside of the host.
pub struct Artifact {
    pub file: String,
    path: PathBuf,
}

impl World {
    /// slotd as user `slotd`, and the app `web` behind a shared socket on port 8080 with an HTTP probe.
    #[track_caller]
    pub fn boot(hint: &str, root: Root) -> World {
        World::boot_with(hint, root, &[])
    }

    /// The same, with further arguments of `host boot`: `--bind SRC:DST`.
    #[track_caller]
    pub fn boot_with(hint: &str, root: Root, arguments: &[&str]) -> World {
        let world = World::installed_with(hint, root, arguments);
        world.host.ok("systemctl enable --now slotd.socket slotd.service");
        world.add_app("web", 8080);
        world
    }

    /// slotd is installed, and not started.
    #[track_caller]
    pub fn installed(hint: &str, root: Root) -> World {
        World::installed_with(hint, root, &[])
    }

    /// The same, with further arguments of `host boot`.
    #[track_caller]
    pub fn installed_with(hint: &str, root: Root, arguments: &[&str]) -> World {
        let host = Host::boot_with(hint, root, arguments);
        let (staged, programs) = (TempDir::new().expect("folder"), TempDir::new().expect("folder"));
        for name in ["slotd", "slotctl", "slotd-gate", "examples/sample-server"] {
            lean(name, programs.path());
        }
        let install = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/install.sh"))
            .arg(staged.path())
            .env("BINARIES", programs.path())
            .output()
            .expect("install.sh");
        assert!(install.status.success(), "{}", shown(&install));
        host.push(staged.path(), "/staged");
        host.ok("cp -a /staged/. / && rm -r /staged && systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload");
        World { host, staged, lean: programs }
    }

    /// The sample server, for releases.
    pub fn server(&self) -> PathBuf {
        self.lean.path().join("sample-server")
    }

    /// An app made by `slotctl new --write`, with proofs that are short.
    #[track_caller]
    pub fn add_app(&self, app: &str, port: u16) {
        self.add_app_with(app, &format!("--port {port}"));
    }

    /// The same, with further arguments of `slotctl new`.
    #[track_caller]
    pub fn add_app_with(&self, app: &str, arguments: &str) {
        self.ok(&format!("new {app} --exec /srv/{app}/bin/web {arguments} --health /health --write"));
        self.settings(app, PROOF);
    }

    /// Adds `text` to the app's settings file, and waits until slotd goes by it. A table or a key without one that is
    /// there already is replaced by the one in `text`.
    #[track_caller]
    pub fn settings(&self, app: &str, text: &str) {
        let path = format!("/etc/slotd/apps/{app}.toml");
        let before = String::from_utf8(self.host.read(&path)).expect("text");
        // Keys without a table come first.
        let (head, tables) = match text.find("\n[") {
            _ if text.starts_with('[') => ("", text),
            Some(at) => text.split_at(at + 1),
            None => (text, ""),
        };
        let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
        let keys: Vec<String> = head.lines().filter_map(key).collect();
        let replaced: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
        let (mut kept, mut in_head, mut dropping) = (String::new(), true, false);
        for line in before.lines() {
            if line.starts_with('[') {
                in_head = false;
                dropping = replaced.contains(&line.trim());
            }
            let given = in_head && key(line).is_some_and(|key| keys.contains(&key));
            if !dropping && !given {
                kept = kept + line + "\n";
            }
        }
        self.host.write(&path, format!("{head}\n{kept}\n{tables}").as_bytes());
        self.host.ok("systemctl reload slotd.service");
    }

    /// A release of the sample server, packed. `behaviour` is what its file BEHAVIOUR says; empty: it behaves well.
    #[track_caller]
    pub fn artifact(&self, app: &str, version: &str, behaviour: &str) -> Artifact {
        self.artifact_with(app, version, ".tar.zst", |tree| {
            if !behaviour.is_empty() {
                std::fs::write(tree.join("BEHAVIOUR"), behaviour).expect("written");
            }
        })
    }

    /// The same, with another ending and with what `change` does to the tree before it is packed.
    #[track_caller]
    pub fn artifact_with(&self, app: &str, version: &str, ending: &str, change: impl FnOnce(&Path)) -> Artifact {
        let tree = self.staged.path().join(format!("tree-{app}-{version}"));
        std::fs::create_dir_all(tree.join("bin")).expect("folder");
        std::fs::copy(self.server(), tree.join("bin/web")).expect("copied");
        std::fs::write(tree.join("VERSION"), version).expect("written");
        change(&tree);
        let file = format!("{app}-{version}{ending}");
        let path = self.staged.path().join(&file);
        let packed = Command::new(env!("CARGO_BIN_EXE_slotctl"))
            .args(["pack", "--force", "-o"])
            .args([&path, &tree])
            .output()
            .expect("slotctl pack");
        assert!(packed.status.success(), "{}", shown(&packed));
        Artifact { file, path }
    }

    /// Copies it into the inbox, as `cp` does.
    #[track_caller]
    pub fn cp(&self, app: &str, artifact: &Artifact) {
        self.fetch(artifact);
        self.host.ok(&format!("cp /root/{0} /var/lib/slotd/inbox/{app}/{0}", artifact.file));
    }

    /// Renames it into the inbox.
    #[track_caller]
    pub fn mv(&self, app: &str, artifact: &Artifact) {
        self.fetch(artifact);
        let inbox = format!("/var/lib/slotd/inbox/{app}");
        self.host.ok(&format!("cp /root/{0} {inbox}/.{0} && mv {inbox}/.{0} {inbox}/{0}", artifact.file));
    }

    /// Sends it over the control socket and waits for what comes of it; see the exit status.
    #[track_caller]
    pub fn deploy(&self, app: &str, artifact: &Artifact) -> Output {
        self.fetch(artifact);
        self.slotctl(&format!("deploy /root/{} --app {app}", artifact.file))
    }

    /// Puts it into the host's /root.
    #[track_caller]
    pub fn fetch(&self, artifact: &Artifact) {
        self.host.push(&artifact.path, &format!("/root/{}", artifact.file));
    }

    /// A release that goes live by itself: dropped, and waited for.
    #[track_caller]
    pub fn live(&self, app: &str, port: u16, version: &str) {
        self.mv(app, &self.artifact(app, version, ""));
        self.expect_serving(port, version);
        self.expect_idle(app);
    }

    /// `slotctl` with these words.
    #[track_caller]
    pub fn slotctl(&self, words: &str) -> Output {
        self.host.sh(&format!("slotctl {words}"))
    }

    /// The same, which has to succeed.
    #[track_caller]
    pub fn ok(&self, words: &str) -> String {
        self.host.ok(&format!("slotctl {words}"))
    }

    /// The answer of `slotctl --json`: its last line that is one.
    #[track_caller]
    pub fn json(&self, words: &str) -> serde_json::Value {
        let output = self.slotctl(&format!("{words} --json"));
        let stdout = text(&output);
        let last = stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("slotctl {words}: {error}: {}", shown(&output)))
    }

    /// Waits until the port is answered by this version.
    #[track_caller]
    pub fn expect_serving(&self, port: u16, version: &str) {
        wait_until(&format!("{version} on port {port}"), PATIENCE, || {
            let answer = text(&self.host.sh(&format!("curl -s -m 5 http://127.0.0.1:{port}/")));
            match answer.starts_with(&format!("version {version} ")) {
                true => Ok(()),
                false => Err(format!("answered {answer:?}; {}", text(&self.slotctl("status")))),
            }
        });
    }

    /// Waits until the port is answered, by whatever version.
    #[track_caller]
    pub fn expect_answering(&self, port: u16) {
        wait_until(&format!("an answer on port {port}"), PATIENCE, || {
            let answer = self.host.sh(&format!("curl -sS -m 5 http://127.0.0.1:{port}/"));
            if answer.status.success() { Ok(()) } else { Err(shown(&answer)) }
        });
    }

    /// Waits until nothing of the app is under way, queued or unpacked, and returns its status.
    #[track_caller]
    pub fn expect_idle(&self, app: &str) -> serde_json::Value {
        wait_until(&format!("{app} idle"), PATIENCE, || {
            let status = self.json(&format!("status {app}"));
            let waits = status["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty());
            match status["deployment"].is_null() && !waits {
                true => Ok(status),
                false => Err(status.to_string()),
            }
        })
    }

    /// Waits until nothing of the app is under way, though something may be staged.
    #[track_caller]
    pub fn expect_idle_but_staged(&self, app: &str) -> serde_json::Value {
        self.expect_status(app, "nothing under way", |status| status["deployment"].is_null())
    }

    /// Waits until the app's status is as `is` says.
    #[track_caller]
    pub fn expect_status(&self, app: &str, what: &str, is: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        wait_until(what, PATIENCE, || {
            let status = self.json(&format!("status {app}"));
            if is(&status) { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// The slots with their states, as `list` gives them: "1.4.2 ready".
    #[track_caller]
    pub fn slots(&self, app: &str) -> Vec<String> {
        let listed = self.json(&format!("list {app}"));
        let slots = listed.as_array().cloned().unwrap_or_default();
        let line = |slot: &serde_json::Value| {
            format!("{} {}", slot["slot"].as_str().unwrap_or("?"), slot["state"].as_str().unwrap_or("?"))
        };
        slots.iter().map(line).collect()
    }

    /// slotd's own journal, for a failing story.
    pub fn journal(&self) -> String {
        text(&self.host.sh("journalctl -u slotd --no-pager -n 200"))
    }
}

/// Copies a program that was built into `folder`, without its debug information: that is most of an unoptimised one, and
/// would be packed, sent and unpacked with each release.
#[track_caller]
fn lean(name: &str, folder: &Path) {
    let built = Path::new(env!("CARGO_BIN_EXE_slotd")).with_file_name(name);
    let to = folder.join(built.file_name().expect("a name"));
    let stripped =
        Command::new("strip").arg("-o").arg(to).arg(&built).output().expect("strip, of the C compiler's package");
    assert!(stripped.status.success(), "{}: {}", built.display(), shown(&stripped));
}
