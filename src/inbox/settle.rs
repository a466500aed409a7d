//! When is a dropped file complete? Pure: what was seen, what was heard and the time come in.
//!
//! Renamed in: at once. Closed after writing: then. Found without having been heard of, after a start, an overflow or a
//! lost watch: when nothing changed for a quiet time. That nobody has it open for writing can't be asked: a read lease
//! (F_SETLEASE) would tell, but needs CAP_LEASE on another user's file and unsafe code; so the quiet time stands in for
//! it, and what was taken too early is refused as damaged or changed, and tried again when it changes.
//!
//! A directory is taken only when it was renamed in, or found without having been heard of and quiet for long: one
//! that is half copied looks like a whole one, and nothing inside would tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::scan::{Kind, Seen, Stamp};

/// What was heard of a name last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It was made, or a file was linked here under this name: nothing about its contents.
    New,
    /// Its attributes changed: nothing about its contents either, and what was known before still holds.
    Touched,
    /// Something was written to it.
    Writing,
    /// It is a directory that was made here, so it is being filled.
    Made,
    /// Who wrote to it closed it.
    Closed,
    /// It was renamed in.
    MovedIn,
}

/// For how long nothing may change of what was found without having been heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// A file.
    pub file: Duration,
    /// A directory.
    pub directory: Duration,
}

/// Something that isn't complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// What it waits for, for people.
    pub reason: &'static str,
    /// For longer than the grace time.
    pub overdue: bool,
}

/// What is on its way into the inbox.
#[derive(Debug)]
pub struct Settle {
    quiet: Quiet,
    grace: Duration,
    evidence: BTreeMap<String, Evidence>,
    things: BTreeMap<String, Thing>,
}

#[derive(Debug)]
struct Thing {
    stamp: Stamp,
    unchanged_since: Instant,
    state: Incomplete,
    /// Its first byte is waited for.
    empty: bool,
    look_again: Option<Instant>,
}

impl Default for Quiet {
    fn default() -> Self {
        Quiet { file: Duration::from_secs(2), directory: Duration::from_secs(30) }
    }
}

impl Settle {
    /// Nothing seen yet. `grace` is how long something may stay unchanged and incomplete before it is overdue.
    pub fn new(quiet: Quiet, grace: Duration) -> Settle {
        Settle { quiet, grace, evidence: BTreeMap::new(), things: BTreeMap::new() }
    }

    /// Other settings from now on.
    pub fn set(&mut self, quiet: Quiet, grace: Duration) {
        (self.quiet, self.grace) = (quiet, grace);
    }

    /// What was heard of `name`, in the order of hearing.
    pub fn hear(&mut self, name: String, heard: Evidence) {
        let before = self.evidence.get(&name).copied();
        self.evidence.insert(name, after(before, heard));
    }

    /// Something was missed, so what was heard proves nothing any more.
    pub fn missed_something(&mut self) {
        self.evidence.clear();
    }

    /// What is complete among `seen`, which is all that lies there now and is undecided; `others` lie there too. Of the
    /// `restless` something was heard after they were looked at, so they aren't what they were seen as.
    ///
    /// What is complete is given once: afterwards nothing has been heard of it.
    pub fn observe<'a>(
        &mut self,
        seen: Vec<&'a Seen>,
        others: &BTreeSet<&str>,
        restless: &BTreeSet<String>,
        now: Instant,
    ) -> Vec<&'a Seen> {
        let names: BTreeSet<&str> = seen.iter().map(|thing| thing.name.as_str()).collect();
        self.things.retain(|name, _| names.contains(name.as_str()));
        // The restless may have come after the look, and are there at the next one.
        let there = |name: &String| names.contains(name.as_str()) || others.contains(name.as_str());
        self.evidence.retain(|name, _| there(name) || restless.contains(name));
        seen.into_iter().filter(|thing| self.is_complete(thing, restless.contains(&thing.name), now)).collect()
    }

    /// When to look again though nothing was heard.
    pub fn look_again(&self) -> Option<Instant> {
        self.things.values().filter_map(|thing| thing.look_again).min()
    }

    /// What isn't complete, by name.
    pub fn incomplete(&self) -> impl Iterator<Item = (&str, &Incomplete)> {
        self.things.iter().map(|(name, thing)| (name.as_str(), &thing.state))
    }

    /// What waits for its first byte, by name: the write will be a reason to look.
    pub fn empty(&self) -> impl Iterator<Item = &str> {
        self.things.iter().filter(|(_, thing)| thing.empty).map(|(name, _)| name.as_str())
    }

    fn is_complete(&mut self, seen: &Seen, restless: bool, now: Instant) -> bool {
        let evidence = self.evidence.get(&seen.name).copied().unwrap_or(Evidence::New);
        let unchanged_since = match self.things.get(&seen.name) {
            Some(thing) if thing.stamp == seen.stamp => thing.unchanged_since,
            _ => now,
        };
        let quiet = match seen.kind {
            Kind::Directory => self.quiet.directory,
            Kind::File | Kind::Other(_) => self.quiet.file,
        };
        let mut empty = false;
        let (reason, next) = match (seen.kind, evidence) {
            // Whatever its size was when it was looked at.
            (Kind::File, Evidence::Writing) => ("it is being written", None),
            _ if restless => ("it changes right now", None),
            (Kind::Other(_), _) | (_, Evidence::MovedIn) => return self.give(&seen.name),
            (Kind::File, _) if seen.stamp.size == 0 => {
                empty = true;
                ("nothing was written to it yet", None)
            }
            (Kind::File, Evidence::Closed) => return self.give(&seen.name),
            (Kind::File, Evidence::Made) => ("it is being written", None),
            (Kind::Directory, Evidence::Writing | Evidence::Made | Evidence::Closed) => {
                ("it was made here and is taken only when renamed in: mv it out of the inbox and back in", None)
            }
            (_, Evidence::New | Evidence::Touched) if now.duration_since(unchanged_since) >= quiet => {
                return self.give(&seen.name);
            }
            (_, Evidence::New | Evidence::Touched) => ("it has changed a moment ago", Some(unchanged_since + quiet)),
        };
        let deadline = unchanged_since + self.grace;
        let state = Incomplete { reason, overdue: now >= deadline };
        let look_again = [next, Some(deadline)].into_iter().flatten().filter(|at| *at > now).min();
        self.things.insert(seen.name.clone(), Thing { stamp: seen.stamp, unchanged_since, state, empty, look_again });
        false
    }

    fn give(&mut self, name: &str) -> bool {
        self.evidence.remove(name);
        self.things.remove(name);
        true
    }
}

/// What is known after one thing more was heard.
pub(super) fn after(before: Option<Evidence>, heard: Evidence) -> Evidence {
    match (before, heard) {
        (Some(before), Evidence::Touched) => before,
        (_, heard) => heard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Evidence::{Closed, Made, MovedIn, New, Touched, Writing};

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(kind: Kind, size: u64) -> Seen {
        let stamp = Stamp { dev: 1, inode: 2, size, mtime_ns: 3, ctime_ns: 4 };
        let verdict = Ok(Some("1".parse().expect("version")));
        Seen { path: "/inbox/web-1".into(), name: "web-1".into(), kind, stamp, checksum: None, uid: 0, verdict }
    }

    fn settle() -> Settle {
        Settle::new(Quiet { file: 2 * SECOND, directory: 30 * SECOND }, 300 * SECOND)
    }

    fn complete(settle: &mut Settle, seen: &Seen, now: Instant) -> bool {
        !settle.observe(vec![seen], &BTreeSet::new(), &BTreeSet::new(), now).is_empty()
    }

    #[test]
    fn what_was_heard_decides() {
        let file = seen(Kind::File, 5);
        let directory = seen(Kind::Directory, 5);
        let cases: [(&Seen, &[Evidence], bool); 16] = [
            (&file, &[MovedIn], true),
            (&file, &[New, Writing, Closed], true),
            (&file, &[New, Writing, Closed, Touched], true),
            (&file, &[New, Writing], false),
            (&file, &[New, Writing, Touched], false),
            (&file, &[New], false),
            (&file, &[], false),
            (&file, &[MovedIn, Writing], false),
            (&file, &[Closed, Writing], false),
            (&file, &[Closed, New], false),
            (&directory, &[MovedIn], true),
            (&directory, &[MovedIn, Touched], true),
            (&directory, &[Made], false),
            (&directory, &[Made, Touched], false),
            (&seen(Kind::File, 0), &[New, Closed], false),
            (&seen(Kind::Other("a FIFO"), 0), &[], true),
        ];
        for (thing, heard, expected) in cases {
            let mut settle = settle();
            heard.iter().for_each(|heard| settle.hear(thing.name.clone(), *heard));
            assert_eq!(complete(&mut settle, thing, Instant::now()), expected, "{:?} {heard:?}", thing.kind);
        }
    }

    #[test]
    fn what_was_only_found_must_be_quiet() {
        let start = Instant::now();
        let (file, mut settle) = (seen(Kind::File, 5), settle());
        assert!(!complete(&mut settle, &file, start));
        assert_eq!(settle.look_again(), Some(start + 2 * SECOND));
        assert!(!complete(&mut settle, &seen(Kind::File, 6), start + SECOND), "it grows");
        assert_eq!(settle.look_again(), Some(start + 3 * SECOND));
        assert!(complete(&mut settle, &seen(Kind::File, 6), start + 3 * SECOND));
        assert_eq!(settle.look_again(), None, "nothing waits any more");
    }

    #[test]
    fn what_is_being_written_is_not_taken_however_quiet() {
        let start = Instant::now();
        let (file, mut settle) = (seen(Kind::File, 5), settle());
        settle.hear("web-1".into(), Writing);
        assert!(!complete(&mut settle, &file, start));
        assert_eq!(settle.look_again(), Some(start + 300 * SECOND), "only to say that it is overdue");
        assert!(!complete(&mut settle, &file, start + 300 * SECOND));
        assert!(settle.incomplete().all(|(_, incomplete)| incomplete.overdue));
        assert_eq!(settle.look_again(), None);
    }

    #[test]
    fn what_is_written_to_is_never_called_empty() {
        let reason = |settle: &Settle| settle.incomplete().next().map(|(_, incomplete)| incomplete.reason);
        let (file, mut settle) = (seen(Kind::File, 0), settle());
        settle.hear("web-1".into(), New);
        assert!(!complete(&mut settle, &file, Instant::now()));
        assert_eq!((reason(&settle), settle.empty().count()), (Some("nothing was written to it yet"), 1));
        // The first byte came just after the look.
        settle.hear("web-1".into(), Writing);
        let restless = BTreeSet::from(["web-1".to_owned()]);
        settle.observe(vec![&file], &BTreeSet::new(), &restless, Instant::now());
        assert_eq!((reason(&settle), settle.empty().count()), (Some("it is being written"), 0));
    }

    #[test]
    fn what_was_missed_makes_what_was_heard_worthless() {
        let start = Instant::now();
        let (file, mut settle) = (seen(Kind::File, 5), settle());
        settle.hear("web-1".into(), Closed);
        settle.missed_something();
        assert!(!complete(&mut settle, &file, start));
        assert!(complete(&mut settle, &file, start + 2 * SECOND));
    }

    #[test]
    fn what_was_heard_during_the_look_is_for_the_next() {
        let (file, mut settle) = (seen(Kind::File, 5), settle());
        settle.hear("web-1".into(), Closed);
        let restless = BTreeSet::from(["web-1".to_owned()]);
        assert!(settle.observe(vec![&file], &BTreeSet::new(), &restless, Instant::now()).is_empty());
        assert!(complete(&mut settle, &file, Instant::now()));
    }

    #[test]
    fn what_comes_during_the_look_is_not_forgotten() {
        let (file, mut settle) = (seen(Kind::File, 5), settle());
        settle.hear("web-1".into(), MovedIn);
        let restless = BTreeSet::from(["web-1".to_owned()]);
        assert!(settle.observe(Vec::new(), &BTreeSet::new(), &restless, Instant::now()).is_empty());
        assert!(complete(&mut settle, &file, Instant::now()));
    }

    #[test]
    fn evidence_is_used_up_and_what_is_gone_is_forgotten() {
        let (file, mut settle) = (seen(Kind::File, 5), settle());
        settle.hear("web-1".into(), MovedIn);
        assert!(complete(&mut settle, &file, Instant::now()));
        assert!(!complete(&mut settle, &file, Instant::now()), "given once");
        settle.hear("web-1".into(), Closed);
        settle.observe(Vec::new(), &BTreeSet::new(), &BTreeSet::new(), Instant::now());
        assert!(!complete(&mut settle, &file, Instant::now()), "another file of that name");
    }
}
