//! A disk that is full at each step, on a real systemd: /var/lib/slotd is a small ext4, filled to the last block. Nothing
//! is lost, the live version serves, going back works, and what had no room is taken when there is some.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use support::host::{Root, shown};
use support::wait_until;
use support::world::{Artifact, PATIENCE, World};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// What slotd leaves free before it takes anything in (`artifact::Reserve`).
const RESERVE: u64 = 64 * MIB;

/// A small file system for /var/lib/slotd. Declared before the host that has it, so that it is unmounted after it.
struct Disk {
    mount: PathBuf,
    home: TempDir,
}

impl Disk {
    fn new() -> Disk {
        let home = tempfile::tempdir().expect("a folder");
        let (image, mount) = (home.path().join("image"), home.path().join("mount"));
        std::fs::create_dir(&mount).expect("a mount point");
        File::create(&image).and_then(|file| file.set_len(1024 * MIB)).expect("an image");
        // No blocks that only root may use: root fills it, slotd is another user.
        run("mkfs.ext4", &["-q", "-m", "0", text(&image)]);
        run("mount", &["-o", "loop", text(&image), text(&mount)]);
        Disk { mount, home }
    }

    fn boot(&self, hint: &str) -> World {
        let world = World::boot_with(hint, Root::Own, &["--bind", &format!("{}:/var/lib/slotd", text(&self.mount))]);
        // Stopped while the disk is filled, which may take longer than the watchdog has patience.
        world.host.write("/etc/systemd/system/slotd.service.d/story.conf", "[Service]\nWatchdogSec=0\n");
        world.host.ok("systemctl daemon-reload && systemctl restart slotd.service");
        world
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Files for the last blocks.
    fn last(&self, n: u32) -> PathBuf {
        self.mount.join(format!("filler-{n}"))
    }

    /// Takes every block that is free.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("a file");
        let mut length = file.metadata().expect("its length").len();
        for step in [64 * MIB, MIB, 64 << 10, 4096] {
            loop {
                match rustix::fs::fallocate(&file, FallocateFlags::empty(), length, step) {
                    Ok(()) => length += step,
                    Err(Errno::NOSPC) => break,
                    Err(error) => panic!("can't fill the disk: {error}"),
                }
            }
        }
        // The journal gives blocks back a moment later than the files that had them.
        while file.write_all(&[0; 4096]).and_then(|()| file.sync_all()).is_ok() {}
        // A large file may need a block more for its map than is left: small ones take those last, and what the journal
        // gives back when it is made to.
        let small = |n: u32| {
            File::create(self.last(n)).and_then(|mut file| file.write_all(&[0; 4096]).and_then(|()| file.sync_all()))
        };
        let (mut next, mut before) = (0, None);
        while before != Some(next) {
            before = Some(next);
            while small(next).is_ok() {
                next += 1;
            }
            run("sync", &["-f", text(&self.mount)]);
        }
        let proof = std::fs::write(self.mount.join("proof"), [0; 8192]);
        assert!(proof.is_err(), "the disk isn't full");
        let _ = std::fs::remove_file(self.mount.join("proof"));
    }

    /// Takes all but `bytes`.
    fn fill_but(&self, bytes: u64) {
        self.fill();
        let file = File::options().write(true).open(self.filler()).expect("the filler");
        let length = file.metadata().expect("its length").len();
        file.set_len(length.checked_sub(bytes).expect("a larger filler")).and_then(|()| file.sync_all()).expect("cut");
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).expect("removed");
        (0..).take_while(|n| std::fs::remove_file(self.last(*n)).is_ok()).for_each(drop);
        run("sync", &["-f", text(&self.mount)]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let umount = || Command::new("umount").arg(&self.mount).output().expect("umount");
        if std::thread::panicking() {
            // What the test says counts; a host that is kept keeps its disk.
            let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
            return;
        }
        wait_until(&format!("{} to be unmounted", self.home.path().display()), PATIENCE, || {
            let output = umount();
            if output.status.success() { Ok(()) } else { Err(shown(&output)) }
        });
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().expect(program);
    assert!(done.status.success(), "{program} {arguments:?}: {}", shown(&done));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// It ended with `disk.full`, exit status 22, and says what to do.
#[track_caller]
fn expect_full(output: &Output) {
    assert_eq!(output.status.code(), Some(22), "{}", shown(output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("(disk.full)") && said.contains("next: "), "{said}");
}

/// Puts files into the inbox without slotd's seeing them come, and runs `fill` before it is started again.
fn drop_unseen(world: &World, artifact: &Artifact, fill: impl FnOnce()) {
    world.fetch(artifact);
    world.host.ok("systemctl stop slotd.service slotd.socket");
    world.host.ok(&format!("cp /root/{0} /var/lib/slotd/inbox/web/{0}", artifact.file));
    fill();
    world.host.ok("systemctl start slotd.socket slotd.service");
}

/// `file` waits in the inbox for room; `words` say what for.
#[track_caller]
fn expect_waiting(world: &World, file: &str, words: &str) {
    let status = world.expect_status("web", &format!("{file} waits for room"), |status| {
        let items = status["waiting"].as_array().cloned().unwrap_or_default();
        let is_it = |item: &serde_json::Value| {
            item["what"] == file && item["reason"].as_str().is_some_and(|it| it.contains("(disk.full)"))
        };
        items.iter().any(is_it)
    });
    assert!(status["waiting"].to_string().contains(words), "{words:?}: {}", status["waiting"]);
    assert_eq!(status["refused"].as_array().map(Vec::len), Some(0), "{status}");
    world.host.ok(&format!("test -e /var/lib/slotd/inbox/web/{file}"));
}

/// Nothing is left in the folders where things are made.
#[track_caller]
fn expect_nothing_left(world: &World) {
    for folder in ["spool", "staging"] {
        assert_eq!(world.host.ok(&format!("ls -A /var/lib/slotd/apps/web/{folder}")), "", "left in {folder}");
    }
}

#[test]
fn what_has_no_room_waits_and_is_taken_by_itself_when_there_is_room() {
    let disk = Disk::new();
    let world = disk.boot("full-intake");
    world.live("web", 8080, "1.0.0");

    // Before the spool: sent, and dropped. slotd starts on the full disk, too.
    let two = world.artifact("web", "2.0.0", "");
    drop_unseen(&world, &two, || disk.fill());
    expect_waiting(&world, &two.file, "bytes free");
    expect_full(&world.deploy("web", &world.artifact("web", "2.1.0", "")));
    expect_nothing_left(&world);
    assert_eq!(world.slots("web"), ["1.0.0 active"]);
    world.expect_serving(8080, "1.0.0");
    disk.free();
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");

    // While it is sent: refused with room left for all else, whether its length is known before or not.
    let sent = large(&world, "2.5.0");
    world.fetch(&sent);
    disk.fill_but(RESERVE + LARGE / 2);
    for words in ["/root/web-2.5.0.tar", "--version 2.5.0 - </root/web-2.5.0.tar"] {
        let deployed = world.slotctl(&format!("deploy --app web {words}"));
        expect_full(&deployed);
        // Not only once it was there whole.
        assert!(shown(&deployed).contains("apps/web/spool has "), "{}", shown(&deployed));
        expect_nothing_left(&world);
    }
    disk.free();

    // Between spool and unpacking: room for the packed bytes, and none for as many again.
    let three = large(&world, "3.0.0");
    drop_unseen(&world, &three, || disk.fill_but(RESERVE + LARGE + 24 * MIB));
    expect_waiting(&world, &three.file, "bytes free");
    expect_nothing_left(&world);
    world.expect_serving(8080, "2.0.0");
    disk.free();
    world.expect_serving(8080, "3.0.0");
    world.expect_idle("web");
    assert_eq!(world.slots("web"), ["3.0.0 active", "2.0.0 ready", "1.0.0 ready"]);

    // Between unpacking and publishing: slotd stands still while the last block goes. Not before the worker has written
    // something: until then it may still wait for slotd to tell it what to do.
    let four = large(&world, "4.0.0");
    world.fetch(&four);
    let pid = world.host.ok("systemctl show -P MainPID slotd.service");
    world.host.ok(&format!("cp /root/{0} /var/lib/slotd/inbox/web/.{0}", four.file));
    world.host.ok(&format!(
        "cd /var/lib/slotd && mv inbox/web/.{0} inbox/web/{0} && \
         until find apps/web/staging -name large 2>/dev/null | grep -q .; do :; done; kill -STOP {pid}",
        four.file
    ));
    wait_until("the end of the unpack worker", PATIENCE, || {
        let left = world.host.sh(&format!("ps -o stat= --ppid {pid} | grep -v ^Z"));
        if left.stdout.is_empty() { Ok(()) } else { Err(shown(&left)) }
    });
    disk.fill();
    world.host.ok(&format!("kill -CONT {pid}"));
    expect_waiting(&world, &four.file, "can't publish slot 4.0.0");
    expect_nothing_left(&world);
    world.expect_serving(8080, "3.0.0");
    disk.free();
    world.expect_serving(8080, "4.0.0");
    world.expect_idle("web");
    world.host.ok("test ! -e /var/lib/slotd/inbox/web/web-4.0.0.tar");
}

/// So large that the tree and the packed bytes don't both fit where one does.
const LARGE: u64 = 80 * MIB;

/// A release of [`LARGE`] bytes, packed without compression.
fn large(world: &World, version: &str) -> Artifact {
    world.artifact_with("web", version, ".tar", |tree| {
        File::create(tree.join("large"))
            .and_then(|mut file| file.write_all(&vec![b'x'; LARGE as usize]))
            .expect("written");
    })
}

#[test]
fn on_a_full_disk_nothing_new_goes_live_and_going_back_works() {
    let disk = Disk::new();
    let world = disk.boot("full-back");
    // The one to go back to takes its time, so that slotd can be killed on the way.
    world.mv("web", &world.artifact("web", "1.0.0", "slow-start 2000"));
    world.expect_serving(8080, "1.0.0");
    world.expect_idle("web");
    world.live("web", 8080, "2.0.0");
    let lower = world.artifact("web", "1.5.0", "");
    assert_eq!(world.deploy("web", &lower).status.code(), Some(20));
    let higher = world.artifact("web", "3.0.0", "");
    world.host.ok("sed -i 's/^deploy = .*/deploy = \"manual\"/' /etc/slotd/apps/web.toml");
    world.expect_status("web", "deployments by hand", |status| status["deploy"] == "manual");
    assert_eq!(world.deploy("web", &higher).status.code(), Some(20));
    // The history takes events beside all else, and gives back the blocks of its journal.
    wait_until("the last event in the history", PATIENCE, || match world.json("events web -n 100").to_string() {
        events if events.contains("3.0.0 is ready") => Ok(()),
        events => Err(events),
    });
    disk.fill();

    // The mark of what was tried, and an instance's environment: no room, no effect.
    for slot in ["3.0.0", "1.5.0"] {
        expect_full(&world.slotctl(&format!("activate web {slot}")));
        world.expect_serving(8080, "2.0.0");
        assert!(world.slots("web").contains(&format!("{slot} ready")), "not its fault: {:?}", world.slots("web"));
    }

    // Back, and forth, and back: announced, closed and told on the full disk.
    for (number, slot) in ["1.0.0", "2.0.0", "1.0.0", "2.0.0"].into_iter().enumerate() {
        let back = world.slotctl("rollback web -m full");
        assert_eq!(back.status.code(), Some(0), "{number}: {}", shown(&back));
        world.expect_serving(8080, slot);
        let status = world.expect_idle_but_staged("web");
        assert_eq!((&status["current"], &status["last"]["to"]), (&slot.into(), &slot.into()), "{status}");
        world.host.ok("test ! -e /var/lib/slotd/apps/web/intent.json");
    }

    // Killed on the way: the next slotd ends what was begun, without a free block.
    let begun = world.slotctl("rollback web --no-wait");
    assert!(begun.status.success(), "{}", shown(&begun));
    world.expect_status("web", "the way back", |status| status["deployment"]["state"] == "starting");
    world.host.ok("systemctl kill -s KILL slotd.service");
    world.expect_serving(8080, "1.0.0");
    let status = wait_until("slotd after the kill", PATIENCE, || {
        let output = world.slotctl("status web --json");
        if output.status.code() == Some(8) { Err(shown(&output)) } else { Ok(world.expect_idle_but_staged("web")) }
    });
    assert_eq!(status["current"], "1.0.0", "{status}");
    assert_eq!(world.host.ok("systemctl is-active web@1.0.0.service web@2.0.0.service || true"), "active\ninactive");

    // Without the room that is kept for it, a deployment can't be announced: it fails before any effect.
    world.host.ok("rm /var/lib/slotd/apps/web/.intent.json.spare* /var/lib/slotd/apps/web/last.json");
    disk.fill();
    expect_full(&world.slotctl("rollback web"));
    world.expect_serving(8080, "1.0.0");

    disk.free();
    world.ok("activate web 3.0.0");
    world.expect_serving(8080, "3.0.0");
    wait_until("a status without complaints", PATIENCE, || {
        let status = world.slotctl("status");
        if status.status.success() { Ok(()) } else { Err(shown(&status)) }
    });
    let history = world.ok("history web");
    assert!(history.contains("3.0.0"), "{history}");
}
