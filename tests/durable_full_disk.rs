//! What still works when the disk is full: records with ballast and exchanges of links, on file systems that are
//! really full, of blocks or of inodes.
//!
//! Needs root, to mount them; where that can't be done the tests fail and say what mount said.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use slotd::durable::{Ballast, exchange, read_json, symlink_atomic, write_json};
use slotd::model::Code;

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
            run("mkfs.ext4", &["-q", "-m", "0", "-N", "64", text(&image)]);
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
        for size in [64 * 1024, 4096] {
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

    /// Makes files until there is no inode left.
    fn fill_inodes(&self) {
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
    disk.fill();
    disk.fill_inodes();
    let error = symlink_atomic(Path::new("slots/3"), &disk.path("next")).expect_err("no inode");
    assert_eq!(error.code(), Code::DiskFull);
    exchange(&current, &fallback).expect("a rollback needs no room");
    let read = |path: &Path| std::fs::read_link(path).expect("a link");
    assert_eq!((read(&current), read(&fallback)), ("slots/1".into(), "slots/2".into()));
}
