//! Stories on real folders, as root or as an ordinary user. Here: the world that they play in.

mod breaks;
mod clean_up;
mod cut_off;
mod links;
mod marks;
mod ports;
mod publish;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::durable;
use crate::model::release::Release;
use crate::model::slot::{Origin, Pin, SlotRecord, UnitCount};
use crate::model::{Code, Digest, Fault, Layout, Link, Retention, SlotName, Timestamp, VersionOrder};

fn slot(text: &str) -> SlotName {
    text.parse().expect("a slot")
}

fn origin() -> Origin {
    Origin { file: "web.tar".into(), bytes: 3, by: "ann".into(), message: None }
}

fn keeping(keep: u32) -> Retention {
    Retention { keep, ..Retention::default() }
}

fn pin() -> Pin {
    Pin { by: "ann".into(), at: Timestamp::from_unix_millis(1), message: None }
}

/// The tree's one file must be the manifest's bytes.
fn verify(tree: &Path, manifest: &[u8]) -> Result<(), Box<Fault>> {
    match std::fs::read(tree.join("bin/web")) {
        Ok(bytes) if bytes == manifest => Ok(()),
        _ => Err(Box::new(Fault::new(Code::SlotTampered, "bin/web isn't what it was"))),
    }
}

/// An app's state in a folder of its own.
struct World {
    base: tempfile::TempDir,
    store: SlotStore,
}

impl World {
    fn new() -> World {
        // Memory where there is some: these stories flush a lot.
        let base = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let store = World::open(base.path());
        World { base, store }
    }

    fn open(base: &Path) -> SlotStore {
        let layout = Layout::new(base.join("state"), base.join("run"), "web".parse().expect("a name"));
        let (store, warnings) = SlotStore::open_below(base, layout).expect("opened");
        assert!(warnings.is_empty(), "{warnings:?}");
        store
    }

    /// As after a kill: what was in memory is gone, the start's sweep has run.
    fn restart(&mut self) {
        self.store = World::open(self.base.path());
    }

    fn layout(&self) -> &Layout {
        self.store.layout()
    }

    /// An artifact, unpacked and spooled, whose bytes are `content`.
    fn unpacked<'a>(&self, name: &str, content: &'a str) -> NewSlot<'a> {
        let staging = self.layout().staging().join(format!("unpack-{name}"));
        let packed = self.layout().spool().join(format!("spool-{name}"));
        std::fs::create_dir_all(staging.join("bin")).expect("folders");
        std::fs::write(staging.join("bin/web"), content).expect("file");
        std::fs::set_permissions(staging.join("bin"), std::fs::Permissions::from_mode(0o555)).expect("frozen");
        std::fs::write(&packed, content).expect("file");
        let mut digest = [0; 32];
        digest[..content.len()].copy_from_slice(content.as_bytes());
        NewSlot {
            slot: slot(name),
            artifact: Digest::from_bytes(digest),
            units: vec![UnitCount { name: "web@".parse().expect("a template"), instances: 1 }],
            release: Release::default(),
            origin: origin(),
            env: BTreeMap::from([("GREETING".into(), "say \"hi\"".into())]),
            staging: Some(staging),
            manifest: content.as_bytes(),
            tree_bytes: content.len() as u64,
            build: None,
            log: None,
            packed: Some(packed),
        }
    }

    fn drop_in(&self, name: &str, content: &str) -> Result<Published, SlotError> {
        self.store.publish(&self.unpacked(name, content), &verify)
    }

    fn publish(&self, name: &str) -> SlotRecord {
        match self.drop_in(name, name).expect("published") {
            Published::New(record) | Published::Known(record) => record,
        }
    }

    /// Publishes each and makes it current, the one before it the fallback.
    fn deploy(&self, name: &str) {
        self.publish(name);
        self.store.link_next(&slot(name)).expect("next");
        self.store.ensure_current(&slot(name)).expect("current");
        self.store.retire_next().expect("fallback");
    }

    fn link(&self, link: Link) -> String {
        match self.store.link(link).expect("readable") {
            LinkState::Absent => "-".into(),
            LinkState::Dangling(text) => format!("dangling {text}"),
            LinkState::Slot(slot) => slot.to_string(),
        }
    }

    fn links(&self) -> [String; 3] {
        [Link::Current, Link::Fallback, Link::Next].map(|link| self.link(link))
    }

    fn names(&self) -> Vec<String> {
        self.store.slots().expect("slots").iter().map(|entry| entry.name.to_string()).collect()
    }

    fn prune(&self, keep: u32) -> Pruned {
        self.store.prune(|| self.store.keep_inputs(keeping(keep), VersionOrder::Uapi)).expect("pruned")
    }

    fn files(&self, folder: PathBuf) -> Vec<String> {
        let mut names: Vec<String> = durable::names(&folder)
            .expect("names")
            .into_iter()
            .map(|name| name.into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    /// What promise 4 says of `current`.
    fn assert_current_is_whole(&self) {
        match self.store.link(Link::Current).expect("readable") {
            LinkState::Absent => {}
            LinkState::Slot(slot) => self.store.verify(&slot, &verify).expect("whole"),
            LinkState::Dangling(text) => panic!("current dangles: {text}"),
        }
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}

fn fault(code: Code) -> Fault {
    Fault::new(code, "it died").with(crate::model::Evidence { entry: Some("bin/web".into()), ..Default::default() })
}
