//! What still works when the disk is full: records with ballast, exchanges of links, a rollback and a clean-up, on
//! file systems that are really full, of blocks or of inodes. And that a removal stays on its own file system.
//!
//! Needs root, to mount them; where that can't be done the tests fail and say what mount said.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use slotd::durable::{Ballast, exchange, read_json, remove_tree, symlink_atomic, write_json};
use slotd::model::release::Release;
use slotd::model::route::AcceptAt;
use slotd::model::slot::{Origin, UnitCount};
use slotd::model::{Code, Digest, Fault, Layout, Retention, SlotName, VersionOrder};
use slotd::slots::{LinkState, NewSlot, Published, SlotError, SlotStore};

const SPARE_BYTES: usize = 64 * 1024;

/// A small file system, unmounted at the end.
struct Disk {
    mount: PathBuf,
    _home: tempfile::TempDir,
}

impl Disk {
    fn tmpfs() -> Disk {
        Disk::mounted(|_, mount| run("mount", &["-t", "tmpfs", "-o", "size=2m", "none", text(mount)]))
    }

    fn ext4() -> Disk {
        Disk::mounted(|home, mount| {
            let image = home.join("image");
            File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("an image");
            run("mkfs.ext4", &["-q", "-m", "0", "-N", "256", text(&image)]);
            run("mount", &["-o", "loop", text(&image), text(mount)]);
        })
    }

    fn mounted(mount: impl FnOnce(&Path, &Path)) -> Disk {
        let home = tempfile::tempdir().expect("a folder");
        let point = home.path().join("mount");
        std::fs::create_dir(&point).expect("a mount point");
        mount(home.path(), &point);
        Disk { mount: point, _home: home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    /// Writes until not a block more fits.
    fn fill(&self) {
        let mut file = File::create(self.path("filler")).expect("a file");
        // The last step is a block of a small ext4.
        for size in [64 * 1024, 4096, 1024] {
            let block = vec![b'x'; size];
            let error = loop {
                if let Err(error) = file.write_all(&block).and_then(|()| file.sync_all()) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
        let error = write_json(&self.path("proof"), &"x".repeat(8192)).expect_err("the disk is full");
        assert_eq!(error.code(), Code::DiskFull);
    }

    /// Makes files until there is no inode left. To be called while there are blocks: on a full disk it may be a folder
    /// that can't grow. The file that [`Disk::fill`] writes to is among them.
    fn fill_inodes(&self) {
        File::create(self.path("filler")).expect("a file");
        let error = (0..).find_map(|number| File::create(self.path(&format!("filler{number}"))).err());
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::StorageFull));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &[text(&self.mount)]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?} (as root?): {said}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Several deployments, one after the other, none of which finds a free block.
fn records_go_on(disk: &Disk) {
    let (path, last) = (disk.path("intent.json"), disk.path("last.json"));
    let ballast = Ballast::new(path.clone(), SPARE_BYTES);
    ballast.refill().expect("filled while there was room");
    disk.fill();
    for deployment in 1..=3 {
        for state in ["preparing", "starting", "proving", "switching", "draining"] {
            let record = format!("{deployment} {state} {}", "y".repeat(20_000));
            ballast.write(&record).expect("written on a full disk");
            assert_eq!(read_json::<String>(&path).expect("whole"), Some(record));
        }
        assert!(ballast.retire(&last).expect("closed on a full disk"));
        let closed = read_json::<String>(&last).expect("whole").expect("there");
        assert!(closed.starts_with(&format!("{deployment} draining")), "{closed:.20}");
    }
}

fn slot(text: &str) -> SlotName {
    text.parse().expect("a slot")
}

/// Where a release is unpacked and spooled.
fn aside(store: &SlotStore) -> (PathBuf, PathBuf) {
    (store.layout().staging().join("unpack"), store.layout().spool().join("packed"))
}

/// Unpacks and spools a release of some blocks.
fn unpack(store: &SlotStore, version: &str) {
    let (staging, packed) = aside(store);
    std::fs::create_dir(&staging).expect("a folder");
    std::fs::write(staging.join("web"), version.repeat(8192)).expect("unpacked");
    std::fs::write(&packed, version.repeat(8192)).expect("spooled");
}

fn publish(store: &SlotStore, version: &str) -> Result<Published, SlotError> {
    let (staging, packed) = aside(store);
    let mut digest = [0; 32];
    digest[..version.len()].copy_from_slice(version.as_bytes());
    let new = NewSlot {
        slot: slot(version),
        artifact: Digest::from_bytes(digest),
        units: vec![UnitCount { name: "web@".parse().expect("a template"), instances: 1 }],
        release: Release::default(),
        origin: Origin { file: "web.tar".into(), bytes: 1, by: "ann".into(), message: None },
        env: Default::default(),
        staging: Some(staging),
        manifest: b"{}",
        tree_bytes: 2,
        build: None,
        log: None,
        packed: Some(packed),
    };
    store.publish(&new, &|_, _| Ok::<(), Box<Fault>>(()))
}

/// Two releases live, the disk runs full, a third can't come in; back it goes, a clean-up makes room, and the third
/// comes in.
fn life_goes_on(disk: &Disk) {
    let layout = Layout::new(disk.path("state"), disk.path("run"), "web".parse().expect("a name"));
    let (store, _) = SlotStore::open_below(&disk.mount, layout).expect("opened");
    for version in ["0.9", "1", "2"] {
        unpack(&store, version);
        publish(&store, version).expect("published");
        store.publish_instance(&slot(version).instance(1), &[AcceptAt::Signal.variable()]).expect("an instance");
        store.link_next(&slot(version)).expect("next");
        store.ensure_current(&slot(version)).expect("current");
        store.retire_next().expect("fallback");
    }
    unpack(&store, "3");
    disk.fill();
    let error = publish(&store, "3").expect_err("no room for its records");
    assert_eq!(error.code(), Code::DiskFull, "{}", error.fault());
    assert!(store.slot(&slot("3")).is_none());
    let (staging, packed) = aside(&store);
    assert!(remove_tree(&staging).and_then(|_| remove_tree(&packed)).is_ok(), "thrown away");

    disk.fill();
    assert!(!store.publish_instance(&slot("1").instance(1), &[AcceptAt::Signal.variable()]).expect("it is there"));
    let told = store.publish_instance(&slot("1").instance(1), &[AcceptAt::Now.variable()]);
    assert!(told.expect("to be told to accept needs no room"));
    store.ensure_current(&slot("1")).expect("a rollback needs no room");
    let links = store.links().expect("links");
    assert_eq!([&links.current, &links.fallback], [&LinkState::Slot(slot("1")), &LinkState::Slot(slot("2"))]);

    let pruned = store
        .prune(|| store.keep_inputs(Retention { keep: 0, ..Retention::default() }, VersionOrder::Uapi))
        .expect("pruned");
    assert_eq!(pruned.removed, [slot("0.9")]);
    assert!(pruned.warnings.is_empty(), "{:?}", pruned.warnings);
    unpack(&store, "3");
    publish(&store, "3").expect("there is room again");
}

#[test]
fn a_release_without_room_is_refused_and_what_lives_goes_on_on_tmpfs() {
    life_goes_on(&Disk::tmpfs());
}

#[test]
fn a_release_without_room_is_refused_and_what_lives_goes_on_on_ext4() {
    life_goes_on(&Disk::ext4());
}

#[test]
fn a_removal_stays_on_its_own_file_system() {
    let disk = Disk::tmpfs();
    std::fs::write(disk.path("precious"), "").expect("a file");
    let tree = disk.mount.parent().expect("a folder").join("tree");
    std::fs::create_dir_all(tree.join("mounted")).expect("folders");
    run("mount", &["--bind", text(&disk.mount), text(&tree.join("mounted"))]);
    let removed = remove_tree(&tree).map_err(|error| error.fault().message);
    let aside = std::fs::read_dir(tree.parent().expect("a folder")).expect("list");
    let aside = aside.map(|entry| entry.expect("entry").path()).find(|path| path.join("mounted").exists());
    run("umount", &[text(&aside.expect("moved aside, not emptied").join("mounted"))]);
    assert!(removed.expect_err("another file system").contains("cross-device"), "told as such");
    assert!(disk.path("precious").exists());
}

#[test]
fn an_intent_is_written_and_closed_on_a_full_tmpfs() {
    records_go_on(&Disk::tmpfs());
}

#[test]
fn an_intent_is_written_and_closed_on_a_full_ext4() {
    records_go_on(&Disk::ext4());
}

#[test]
fn links_are_exchanged_where_not_even_a_symlink_can_be_made() {
    let disk = Disk::ext4();
    let (current, fallback) = (disk.path("current"), disk.path("fallback"));
    symlink_atomic(Path::new("slots/2"), &current).expect("made");
    symlink_atomic(Path::new("slots/1"), &fallback).expect("made");
    disk.fill_inodes();
    disk.fill();
    let error = symlink_atomic(Path::new("slots/3"), &disk.path("next")).expect_err("no inode");
    assert_eq!(error.code(), Code::DiskFull);
    exchange(&current, &fallback).expect("a rollback needs no room");
    let read = |path: &Path| std::fs::read_link(path).expect("a link");
    assert_eq!((read(&current), read(&fallback)), ("slots/1".into(), "slots/2".into()));
}
