//! Small releases, made on the host itself. The program in them only starts the sample server that lies on the host
//! once, so that making, sending and unpacking one takes no time.

use std::fmt::Write as _;
use std::process::Output;

use super::wait_until;
use super::world::{PATIENCE, World};

/// Where the sample server lies on the host.
const SERVER: &str = "/usr/local/lib/sample-server";

impl World {
    /// Puts the sample server onto the host, for all releases that are made there.
    #[track_caller]
    pub fn supply_server(&self) {
        self.host.push(self.server(), SERVER);
    }

    /// The files of a release as a folder of the host; `files` come beside the program. Returns its path.
    #[track_caller]
    pub fn tree(&self, name: &str, files: &[(&str, &str)]) -> String {
        let path = format!("/root/trees/{name}");
        let mut line = format!("rm -rf '{path}' && mkdir -p '{path}/bin' '{path}/.slotd' && cd '{path}'");
        let program = format!("#!/bin/sh\nexec {SERVER} \"$@\"\n");
        for (file, text) in [("bin/web", program.as_str())].iter().chain(files) {
            assert!(!text.contains('\''), "{text}");
            write!(line, " && printf %s '{text}' >'{file}'").expect("a string");
        }
        self.host.ok(&format!("{line} && chmod 755 bin/web && rmdir --ignore-fail-on-non-empty .slotd"));
        path
    }

    /// A packed release of the app, which says its version and behaves as told; empty: well. Returns its path on the
    /// host.
    #[track_caller]
    pub fn make(&self, app: &str, version: &str, behaviour: &str) -> String {
        let behaviour = [("BEHAVIOUR", behaviour)];
        self.make_with(app, version, if behaviour[0].1.is_empty() { &[] } else { &behaviour })
    }

    /// The same, with these files beside the program and VERSION.
    #[track_caller]
    pub fn make_with(&self, app: &str, version: &str, files: &[(&str, &str)]) -> String {
        let files: Vec<_> = [("VERSION", version)].into_iter().chain(files.iter().copied()).collect();
        let tree = self.tree(&format!("{app}-{version}"), &files);
        self.pack(&tree, &format!("{app}-{version}.tar.zst"))
    }

    /// Packs a folder of the host into /root/FILE, in the format of its ending. Returns its path.
    #[track_caller]
    pub fn pack(&self, tree: &str, file: &str) -> String {
        self.ok(&format!("pack --force -o '/root/{file}' '{tree}'"));
        format!("/root/{file}")
    }

    /// Renames a copy of a file or folder of the host into the app's inbox, as somebody of the group that deploys.
    #[track_caller]
    pub fn drop_in(&self, app: &str, path: &str) {
        let (inbox, name) = (format!("/var/lib/slotd/inbox/{app}"), path.rsplit('/').next().expect("a name"));
        self.host.ok(&format!(
            "cp -a '{path}' '{inbox}/.{name}' && chgrp -R slotd-deploy '{inbox}/.{name}' && chmod -R g+w '{inbox}/.{name}' \
             && mv '{inbox}/.{name}' '{inbox}/{name}'"
        ));
    }

    /// Sends a file of the host over the control socket, and waits for what comes of it.
    #[track_caller]
    pub fn send(&self, app: &str, path: &str) -> Output {
        self.slotctl(&format!("deploy '{path}' --app {app}"))
    }

    /// A well-behaved release that goes live because it was sent.
    #[track_caller]
    pub fn send_live(&self, app: &str, version: &str) {
        expect_exit(&self.send(app, &self.make(app, version, "")), 0);
    }

    /// Begins `slotctl WORDS` without waiting for it; its end is told by [`World::exit_of`].
    #[track_caller]
    pub fn begin(&self, name: &str, words: &str) {
        let line = format!("slotctl {words} >/root/{name}.out 2>&1; echo $? >/root/{name}.exit");
        self.host.ok(&format!("rm -f /root/{name}.exit; ({line}) </dev/null >/dev/null 2>&1 &"));
    }

    /// Waits for what was begun as `name`, and returns its exit status and what it said.
    #[track_caller]
    pub fn exit_of(&self, name: &str) -> (i32, String) {
        let said = |suffix: &str| self.host.ok(&format!("cat /root/{name}.{suffix} 2>/dev/null || true"));
        let exit = wait_until(&format!("the end of {name}"), PATIENCE, || {
            said("exit").parse().map_err(|_| format!("{}; {}", said("out"), self.json("status")))
        });
        (exit, said("out"))
    }
}

/// Sees that a command ended with this status; shows what it said otherwise.
#[track_caller]
pub fn expect_exit(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{}", super::host::shown(output));
}

/// Sees that `text` has all these parts.
#[track_caller]
pub fn expect_parts(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}
