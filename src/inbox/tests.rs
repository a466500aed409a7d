//! Stories of files that are dropped, against the real kernel's events.
//!
//! Longer than other files, since all of them are played in one world.
//!
//! That something isn't given out is shown by something that is: a marker renamed in afterwards comes alone.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::task::Poll;

use tempfile::TempDir;

use super::*;
use crate::inbox::fate::Fate;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    folder: TempDir,
    hub: WatchHub,
    settings: InboxSettings,
    inbox: Inbox,
    markers: u32,
}

/// As `durable` does it.
#[expect(clippy::disallowed_methods, reason = "stands in for `durable`, and for people who rename in")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("renamed");
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_file_name(".fate.tmp");
    fs::write(&temporary, bytes)?;
    rename(&temporary, path);
    Ok(())
}

fn cannot_write(_: &Path, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::StorageFull.into())
}

impl World {
    /// An empty inbox; what is found without having been heard of is complete when quiet for a moment.
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut InboxSettings)) -> World {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("inbox")).expect("inbox");
        let mut settings = InboxSettings {
            pattern: Pattern::new("web-@v").expect("pattern"),
            versions: VersionOrder::Uapi,
            keep: false,
            grace: Duration::from_secs(3600),
            rescan: Duration::from_secs(3600),
            quiet: Quiet { file: Duration::from_millis(200), directory: Duration::from_millis(400) },
        };
        change(&mut settings);
        let hub = WatchHub::default();
        let inbox = Inbox::new(folder.path().join("inbox"), settings.clone(), hub.clone(), write);
        World { folder, hub, settings, inbox, markers: 0 }
    }

    /// The next daemon.
    fn restart(&mut self) {
        self.inbox = Inbox::new(self.path(""), self.settings.clone(), self.hub.clone(), write);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("inbox").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Renames a file in.
    fn move_in(&self, name: &str, text: &str) {
        let outside = self.folder.path().join("outside");
        fs::write(&outside, text).expect("written");
        rename(&outside, &self.path(name));
    }

    fn fate(&self, name: &str) -> Fate {
        let text = fs::read(self.path(&fate::name_of(name))).expect("a fate file");
        serde_json::from_slice(&text).expect("a fate")
    }

    async fn batch(&mut self) -> Batch {
        match tokio::time::timeout(PATIENCE, self.inbox.next()).await {
            Ok(batch) => batch,
            Err(_) => panic!("nothing came; waiting: {:?}, problem: {:?}", self.inbox.waiting(), self.inbox.problem()),
        }
    }

    /// Waits until it watches an empty folder.
    async fn started(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.inbox.watch.is_none() || self.inbox.look_at <= Instant::now() {
            assert!(Instant::now() < deadline, "not watched: {:?}", self.inbox.problem());
            let nothing = tokio::time::timeout(Duration::from_millis(10), self.inbox.next()).await;
            assert!(nothing.is_err(), "{nothing:?}");
        }
    }

    /// The next batch's names.
    async fn names(&mut self) -> Vec<String> {
        let batch = self.batch().await;
        assert!(batch.told.is_empty(), "{:?}", batch.told);
        batch.ready.into_iter().map(|candidate| candidate.seen.name).collect()
    }

    async fn one(&mut self) -> Candidate {
        let mut batch = self.batch().await;
        assert!(batch.told.is_empty() && batch.ready.len() == 1, "{batch:?}");
        batch.ready.remove(0)
    }

    /// What was refused in the next batch, with the code.
    async fn told(&mut self) -> Vec<(String, Code)> {
        let batch = self.batch().await;
        assert!(batch.ready.is_empty(), "{:?}", batch.ready);
        batch.told.into_iter().map(|(name, fault)| (name, fault.code)).collect()
    }

    /// Shows that nothing else is given out.
    async fn nothing_else(&mut self) {
        self.markers += 1;
        let marker = format!("web-99.{}.tar", self.markers);
        self.move_in(&marker, "marker");
        let candidate = self.one().await;
        assert_eq!(candidate.seen.name, marker);
        assert!(candidate.remove().expect("removed"));
        let slot = SlotName::first(candidate.version.clone().expect("a version"));
        self.inbox.accepted(&candidate, &slot, &Digest::from_bytes([9; 32])).await;
    }

    /// Waits until the one thing that waits does so for this reason; nothing is given out meanwhile.
    async fn until_waiting(&mut self, reason: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.inbox.waiting().first().is_none_or(|(_, waits)| waits != reason) {
            assert!(Instant::now() < deadline, "waiting: {:?}", self.inbox.waiting());
            let nothing = tokio::time::timeout(Duration::from_millis(10), self.inbox.next()).await;
            assert!(nothing.is_err(), "{nothing:?}");
        }
    }

    async fn refuse(&mut self, candidate: &Candidate) {
        self.inbox.refused(candidate, Fault::new(Code::ArchiveDamaged, "the archive is cut short")).await;
    }
}

#[tokio::test]
async fn what_is_renamed_in_is_taken_at_once() {
    let mut world = World::with(|settings| settings.quiet.file = PATIENCE);
    world.started().await;
    world.move_in("web-1.4.2.tar.zst", "bytes");
    let candidate = world.one().await;
    assert_eq!(
        (
            candidate.version.as_ref().map_or("", |version| version.as_str()),
            candidate.seen.kind,
            candidate.seen.stamp.size
        ),
        ("1.4.2", Kind::File, 5)
    );
    assert_eq!(candidate.seen.uid, nix::unistd::geteuid().as_raw());
}

#[tokio::test]
async fn a_half_copied_file_waits_for_its_close() {
    let mut world = World::new();
    world.nothing_else().await;
    let mut file = File::create(world.path("web-1.tar")).expect("made");
    file.write_all(b"half").expect("written");
    world.nothing_else().await;
    assert_eq!(world.inbox.waiting(), [("web-1.tar".to_owned(), "it is being written".to_owned())]);
    file.write_all(b" and half").expect("written");
    drop(file);
    assert_eq!(world.one().await.seen.stamp.size, 13);
    assert!(world.inbox.waiting().is_empty());
}

#[tokio::test]
async fn an_empty_file_waits() {
    let mut world = World::new();
    world.nothing_else().await;
    world.write("web-1.tar", "");
    world.nothing_else().await;
    assert_eq!(world.inbox.waiting()[0].1, "nothing was written to it yet");
    world.write("web-1.tar", "bytes");
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn the_first_byte_is_noticed_though_nothing_is_closed() {
    let mut world = World::new();
    world.nothing_else().await;
    let mut file = File::create(world.path("web-1.tar")).expect("made");
    world.until_waiting("nothing was written to it yet").await;
    file.write_all(b"b").expect("written");
    world.until_waiting("it is being written").await;
}

#[tokio::test]
async fn what_lay_there_before_the_start_comes_together() {
    let mut world = World::new();
    ["web-1.4.1.tar", "web-1.4.3.tar", "web-1.4.2.tar"].iter().for_each(|name| world.write(name, "bytes"));
    assert_eq!(world.names().await, ["web-1.4.1.tar", "web-1.4.2.tar", "web-1.4.3.tar"]);
}

#[tokio::test]
async fn unfinished_hidden_and_companion_names_are_passed_over() {
    let mut world = World::new();
    world.nothing_else().await;
    for name in
        [".web-1.tar", "web-1.tar.part", "web-1.tar.tmp", "web-1.tar.partial", "web-1.tar~", "web-1.tar.filepart"]
    {
        world.write(name, "bytes");
    }
    for name in ["web-1.tar.sha256", "web-1.tar.minisig", "web-1.tar.sig", "web-0.tar.slotd.json"] {
        world.write(name, "bytes");
    }
    world.nothing_else().await;
    assert!(world.inbox.waiting().is_empty() && world.inbox.refusals().is_empty());
    rename(&world.path("web-1.tar.part"), &world.path("web-1.tar"));
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn what_can_be_refused_by_its_looks_is() {
    let mut world = World::new();
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&world.path("web-1.tar"), mode).expect("a FIFO");
    std::os::unix::fs::symlink("/etc/passwd", world.path("web-2.tar")).expect("a link");
    world.move_in("api-1.tar", "bytes");
    world.move_in("web-1 2.tar", "bytes");
    let mut told = Vec::new();
    while told.len() < 4 {
        told.extend(world.told().await);
    }
    told.sort();
    let expected = [
        ("api-1.tar", Code::IngestMisnamed),
        ("web-1 2.tar", Code::ReleaseVersion),
        ("web-1.tar", Code::IngestNotRegular),
        ("web-2.tar", Code::IngestNotRegular),
    ];
    assert_eq!(told, expected.map(|(name, code)| (name.to_owned(), code)));
    world.nothing_else().await;
    assert_eq!(world.inbox.refusals().len(), 4);
    assert!(matches!(world.fate("web-2.tar").state, State::Refused { fault } if fault.code == Code::IngestNotRegular));
    fs::remove_file(world.path("web-2.tar")).expect("removed");
    world.nothing_else().await;
    assert_eq!(world.inbox.refusals().len(), 3, "what is gone is no refusal any more");
}

#[tokio::test]
async fn a_refused_file_is_tried_again_only_when_it_changes() {
    let mut world = World::new();
    world.write("web-1.tar", "cut sho");
    let candidate = world.one().await;
    world.refuse(&candidate).await;
    world.nothing_else().await;
    world.restart();
    world.nothing_else().await;
    assert_eq!(world.inbox.refusals()[0].1.code, Code::ArchiveDamaged);
    world.write("web-1.tar", "not cut short");
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn a_refused_file_is_tried_again_with_another_checksum_or_on_a_persons_word() {
    let mut world = World::new();
    world.write("web-1.tar", "bytes");
    let candidate = world.one().await;
    world.refuse(&candidate).await;
    world.nothing_else().await;
    world.write("web-1.tar.sha256", "another");
    let candidate = world.one().await;
    world.refuse(&candidate).await;
    world.nothing_else().await;
    fs::remove_file(world.path("web-1.tar.slotd.json")).expect("removed");
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn a_file_replaced_while_it_is_read_is_neither_removed_nor_lost() {
    let mut world = World::new();
    world.move_in("web-1.tar", "old");
    let candidate = world.one().await;
    world.move_in("web-1.tar", "new bytes");
    assert!(!candidate.remove().expect("looked at"));
    world.inbox.refused(&candidate, Fault::new(Code::IngestChanged, "it changed")).await;
    assert_eq!(world.one().await.seen.stamp.size, 9);
}

#[tokio::test]
async fn an_accepted_file_is_removed_and_its_fate_stays() {
    let mut world = World::new();
    world.write("web-1.tar.sha256", "sum");
    world.move_in("web-1.tar", "bytes");
    let candidate = world.one().await;
    assert!(candidate.seen.checksum.is_some());
    assert!(candidate.remove().expect("removed"));
    let (slot, digest) = (SlotName::first(candidate.version.clone().expect("a version")), Digest::from_bytes([7; 32]));
    world.inbox.accepted(&candidate, &slot, &digest).await;
    assert_eq!(world.fate("web-1.tar").state, State::Accepted { slot, digest });
    assert!(!world.path("web-1.tar").exists() && !world.path("web-1.tar.sha256").exists());
    world.nothing_else().await;
}

#[tokio::test]
async fn an_accepted_file_that_stays_is_not_taken_twice() {
    let mut world = World::with(|settings| settings.keep = true);
    world.move_in("web-1.tar", "bytes");
    let candidate = world.one().await;
    let slot = SlotName::first(candidate.version.clone().expect("a version"));
    world.inbox.accepted(&candidate, &slot, &Digest::from_bytes([7; 32])).await;
    world.nothing_else().await;
    world.restart();
    world.nothing_else().await;
    // A daemon that doesn't keep accepted files takes it, to find it known and to remove it; but not for ever.
    world.settings.keep = false;
    world.restart();
    let candidate = world.one().await;
    assert_eq!(candidate.seen.name, "web-1.tar");
    world.inbox.accepted(&candidate, &slot, &Digest::from_bytes([7; 32])).await;
    world.nothing_else().await;
}

#[tokio::test]
async fn what_could_not_be_taken_now_comes_again_later() {
    let mut world = World::with(|settings| settings.quiet.file = PATIENCE);
    world.started().await;
    world.move_in("web-1.tar", "bytes");
    let candidate = world.one().await;
    let full = Fault::new(Code::DiskFull, "the disk is full");
    world.inbox.again(&candidate, &full, Duration::from_secs(3600));
    let deadline = Instant::now() + PATIENCE;
    while world.inbox.waiting().is_empty() {
        assert!(Instant::now() < deadline, "it isn't seen to wait");
        assert!(polled_once(&mut world.inbox).await.is_none());
        tokio::task::yield_now().await;
    }
    world.nothing_else().await;
    let reason = &world.inbox.waiting()[0].1;
    assert!(reason.starts_with("the disk is full (disk.full); it is tried again within "), "{reason}");
    world.inbox.again(&candidate, &full, Duration::ZERO);
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn what_stays_incomplete_is_told_and_still_taken_when_it_is_complete() {
    let mut world = World::with(|settings| settings.grace = Duration::from_millis(300));
    world.nothing_else().await;
    let mut file = File::create(world.path("web-1.tar")).expect("made");
    file.write_all(b"half").expect("written");
    assert_eq!(world.told().await, [("web-1.tar".to_owned(), Code::IngestIncomplete)]);
    assert!(matches!(world.fate("web-1.tar").state, State::Waiting { .. }));
    assert!(world.inbox.waiting()[0].1.starts_with("it is being written, and hasn't changed for more than"));
    world.nothing_else().await;
    file.write_all(b" and half").expect("written");
    drop(file);
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn a_directory_is_taken_when_it_was_renamed_in() {
    let mut world = World::with(|settings| settings.quiet.directory = PATIENCE);
    world.nothing_else().await;
    fs::create_dir(world.path("web-1")).expect("made here");
    fs::write(world.path("web-1/file"), "half").expect("written");
    world.nothing_else().await;
    assert!(world.inbox.waiting()[0].1.contains("renamed in"), "{:?}", world.inbox.waiting());
    // The advice that was given helps.
    let outside = world.folder.path().join("whole");
    rename(&world.path("web-1"), &outside);
    rename(&outside, &world.path("web-1"));
    let candidate = world.one().await;
    assert_eq!(candidate.seen.kind, Kind::Directory);
    world.refuse(&candidate).await;
    world.nothing_else().await;
    assert!(candidate.remove().expect("removed"));
}

#[tokio::test]
async fn a_directory_that_was_only_found_must_be_quiet() {
    let mut world = World::new();
    fs::create_dir(world.path("web-1")).expect("made");
    fs::write(world.path("web-1/file"), "whole").expect("written");
    assert_eq!(world.names().await, ["web-1"]);
}

#[tokio::test]
async fn an_overflow_makes_it_look_for_itself() {
    let mut world = World::new();
    world.nothing_else().await;
    let mut file = File::create(world.path("web-1.tar")).expect("made");
    file.write_all(b"bytes").expect("written");
    world.nothing_else().await;
    assert_eq!(world.inbox.waiting()[0].1, "it is being written");
    // Its close may have been among what was lost: it is taken when nothing has changed for a while.
    world.inbox.watch.as_ref().expect("watched").0.overflow();
    assert_eq!(world.names().await, ["web-1.tar"]);
}

#[tokio::test]
async fn a_folder_that_is_removed_and_made_anew_is_watched_again() {
    let mut world = World::new();
    world.nothing_else().await;
    for version in ["1", "2"] {
        fs::remove_dir_all(world.path("")).expect("removed");
        fs::create_dir(world.path("")).expect("made anew");
        let name = format!("web-{version}.tar");
        world.move_in(&name, "bytes");
        assert_eq!(world.names().await, [name]);
    }
    assert_eq!(world.inbox.problem(), None);
    world.settings.quiet.file = PATIENCE;
    world.inbox.set(world.settings.clone());
    world.nothing_else().await;
}

#[tokio::test]
async fn a_folder_that_is_moved_away_is_left_and_the_new_one_watched() {
    let mut world = World::new();
    world.nothing_else().await;
    let away = world.folder.path().join("away");
    rename(&world.path(""), &away);
    fs::create_dir(world.path("")).expect("made anew");
    world.move_in("web-1.tar", "bytes");
    assert_eq!(world.names().await, ["web-1.tar"]);
    fs::write(away.join("web-2.tar"), "bytes").expect("written");
    world.nothing_else().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_and_found_when_it_is() {
    let mut world = World::new();
    fs::remove_dir(world.path("")).expect("removed");
    let deadline = Instant::now() + PATIENCE;
    while !world.inbox.problem().is_some_and(|problem| problem.message.contains("can't be read: No such file")) {
        assert!(Instant::now() < deadline, "{:?}", world.inbox.problem());
        let nothing = tokio::time::timeout(Duration::from_millis(10), world.inbox.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
    fs::create_dir(world.path("")).expect("made");
    world.move_in("web-1.tar", "bytes");
    assert_eq!(world.names().await, ["web-1.tar"]);
    assert_eq!(world.inbox.problem(), None);
}

#[tokio::test]
async fn a_call_that_is_dropped_loses_nothing() {
    let mut world = World::with(|settings| settings.quiet.file = PATIENCE);
    world.started().await;
    world.move_in("web-1.tar", "bytes");
    world.move_in("api-1.tar", "bytes");
    let (mut ready, mut told) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while ready + told < 2 {
        assert!(Instant::now() < deadline, "ready {ready}, told {told}, waiting: {:?}", world.inbox.waiting());
        // Whatever it waits for first, it is dropped there: at the event, in the look, while a fate is written.
        if let Some(batch) = polled_once(&mut world.inbox).await {
            ready += batch.ready.len();
            told += batch.told.len();
        }
        tokio::task::yield_now().await;
    }
    assert_eq!((ready, told), (1, 1));
}

/// Begins a call, and drops it at the first place where it waits.
async fn polled_once(inbox: &mut Inbox) -> Option<Batch> {
    let mut next = std::pin::pin!(inbox.next());
    std::future::poll_fn(|context| match next.as_mut().poll(context) {
        Poll::Ready(batch) => Poll::Ready(Some(batch)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_fate_that_cannot_be_written_is_remembered_and_told() {
    let mut world = World::new();
    world.inbox = Inbox::new(world.path(""), world.settings.clone(), world.hub.clone(), cannot_write);
    world.write("web-1.tar", "bytes");
    let candidate = world.one().await;
    world.refuse(&candidate).await;
    assert!(world.inbox.problem().expect("told").message.contains("web-1.tar.slotd.json can't be written"));
    world.nothing_else().await;
    assert_eq!(world.inbox.refusals().len(), 1);
}

#[tokio::test]
async fn old_fates_without_an_artifact_are_swept() {
    let mut world = World::new();
    (0..fate::MAX_ORPHANS + 5).for_each(|i| world.write(&format!("web-{i}.tar.slotd.json"), "{}"));
    world.nothing_else().await;
    let left = || fs::read_dir(world.path("")).expect("listed").count();
    assert_eq!(left(), fate::MAX_ORPHANS + 1, "the marker's own is written after the sweep");
}

#[tokio::test]
async fn two_inboxes_share_a_watcher_and_hear_only_their_own() {
    let mut world = World::new();
    let other = world.folder.path().join("other");
    fs::create_dir(&other).expect("made");
    let mut second = Inbox::new(other.clone(), world.settings.clone(), world.hub.clone(), write);
    world.nothing_else().await;
    assert!(tokio::time::timeout(Duration::from_millis(50), second.next()).await.is_err());
    fs::write(other.join("web-7.tar"), "bytes").expect("written");
    let batch = tokio::time::timeout(PATIENCE, second.next()).await.expect("heard");
    assert_eq!(batch.ready[0].seen.name, "web-7.tar");
    drop(second);
    world.nothing_else().await;
}
