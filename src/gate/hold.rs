//! The hold mark, read: is it valid now, and waiting until it isn't.

use std::fs::File;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::fs::{Mode, OFlags};

use crate::model::Layout;
use crate::model::hold::Hold;

use super::{current, wait_for};

/// Longest hold mark that is read; one is some 150 bytes.
const MAX_HOLD_BYTES: u64 = 4096;

/// Longest time that a hold mark is waited out, whatever it says: a deployment whose steps are renewed for
/// longer than this is watched by nobody, or the mark is nonsense.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How waiting for a hold mark ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There was no valid one.
    NotHeld,
    /// It was removed: the deployment closed.
    Removed,
    /// It ran out: slotd ended in the middle of a deployment and didn't come back in time.
    RanOut,
}

/// The mark, if it holds now. One that can't be read or isn't one holds nobody up: slotd writes it by renaming, so
/// that is damage, and an app that doesn't start is worse than a deployment that is disturbed.
pub fn valid(layout: &Layout) -> Option<Hold> {
    let hold = read(layout)?;
    hold.is_valid(&boot_id()?, boottime_ms()?).then_some(hold)
}

/// Waits while a mark holds, renewals included.
pub fn wait_out(layout: &Layout) -> Waited {
    if valid(layout).is_none() {
        return Waited::NotHeld;
    }
    wait_for(LONGEST_WAIT, || valid(layout).is_none().then_some(()));
    // slotd removes its mark when it closes a deployment; one that is still there ran out.
    if current::exists(&layout.hold()) { Waited::RanOut } else { Waited::Removed }
}

fn read(layout: &Layout) -> Option<Hold> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(layout.hold(), flags, Mode::empty()).ok()?;
    let bytes = current::read_bounded(File::from(file), MAX_HOLD_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn boot_id() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// Milliseconds on CLOCK_BOOTTIME.
fn boottime_ms() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    u64::try_from(Duration::from(now).as_millis()).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model::{AppName, Link, SlotName};

    /// State and runtime folders of an app `web`.
    pub(crate) struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        pub(crate) fn new() -> World {
            let world = World { folder: tempfile::tempdir().expect("a folder") };
            std::fs::create_dir_all(world.layout().slots()).expect("state");
            std::fs::create_dir_all(world.folder.path().join("run/hold")).expect("marks");
            world
        }

        pub(crate) fn layout(&self) -> Layout {
            let app: AppName = "web".parse().expect("app");
            Layout::new(self.folder.path().join("state"), self.folder.path().join("run"), app)
        }

        /// Publishes a slot with these units and makes it current.
        pub(crate) fn deploy(&self, slot: &str, units: &[(&str, u32)]) {
            let slot: SlotName = slot.parse().expect("slot");
            let folder = self.layout().slot(&slot);
            let units: Vec<_> =
                units.iter().map(|(name, n)| serde_json::json!({"name": name, "instances": n})).collect();
            let record = serde_json::json!({"format": 1, "app": "web", "slot": slot, "units": units});
            std::fs::create_dir_all(&folder).expect("slot");
            std::fs::write(folder.join("slot.json"), record.to_string()).expect("record");
            self.link_current(&format!("slots/{}", slot.encoded()));
        }

        pub(crate) fn link_current(&self, text: &str) {
            let link = self.layout().link(Link::Current);
            std::fs::remove_file(&link).ok();
            symlink(text, link).expect("link");
        }

        pub(crate) fn hold(&self, millis: i64) {
            let now = boottime_ms().expect("clock");
            let hold = Hold {
                boot: boot_id().expect("boot id"),
                until_ms: now.saturating_add_signed(millis),
                deployment: "web-7".into(),
            };
            std::fs::write(self.layout().hold(), serde_json::to_vec(&hold).expect("JSON")).expect("mark");
        }
    }

    #[test]
    fn a_mark_holds_until_its_deadline_and_in_its_boot_only() {
        let world = World::new();
        assert_eq!(valid(&world.layout()), None);
        world.hold(60_000);
        assert_eq!(valid(&world.layout()).expect("held").deployment, "web-7");
        world.hold(-1);
        assert_eq!(valid(&world.layout()), None);
        let other_boot = r#"{"boot":"elsewhere","until_ms":18446744073709551615,"deployment":"web-7"}"#;
        std::fs::write(world.layout().hold(), other_boot).expect("mark");
        assert_eq!(valid(&world.layout()), None);
    }

    #[test]
    fn a_damaged_mark_holds_nobody_up() {
        let world = World::new();
        for text in ["", "{", "60", r#"{"boot":1}"#] {
            std::fs::write(world.layout().hold(), text).expect("mark");
            assert_eq!(valid(&world.layout()), None, "{text:?}");
        }
        std::fs::remove_file(world.layout().hold()).expect("remove");
        symlink("/proc/self/environ", world.layout().hold()).expect("link");
        assert_eq!(valid(&world.layout()), None);
    }

    #[test]
    fn a_mark_that_runs_out_is_told_from_one_that_is_removed() {
        let world = World::new();
        assert_eq!(wait_out(&world.layout()), Waited::NotHeld);
        world.hold(300);
        assert_eq!(wait_out(&world.layout()), Waited::RanOut);
        world.hold(60_000);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_out(&world.layout()));
            std::fs::remove_file(world.layout().hold()).expect("remove");
            let waited = waiting.join().expect("ends");
            // Where the mark was gone before the first look, there was none.
            assert!(matches!(waited, Waited::Removed | Waited::NotHeld), "{waited:?}");
        });
    }
}
