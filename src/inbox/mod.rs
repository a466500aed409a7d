//! The drop-in directories: events as hints, the rescan as truth.
//!
//! An [`Inbox`] belongs to one app. It looks through its folder at the start, when something was heard, when hints were
//! lost, and now and then; gives out what is complete; and remembers, in a file beside each, what became of it. What it
//! can refuse by the look alone (misnamed, no plain file, unreadable) it refuses by itself.

mod again;
mod candidate;
pub mod fate;
mod memory;
pub mod scan;
pub mod settle;
#[cfg(test)]
mod tests;
pub mod watch;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

use crate::config::{AppSettings, Pattern};
use crate::model::{Code, Digest, Fault, SlotName, Timestamp, VersionOrder};

pub use candidate::Candidate;
use fate::State;
use memory::{Hold, Memory, fate_path};
use scan::Scan;
pub use scan::{Kind, Seen, Stamp};
pub use settle::Quiet;
use settle::Settle;
pub use watch::{InboxWatch, WatchHub};

/// How soon an inbox that can't be read or watched is tried again: first, and, doubled each time, at the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Writes a small file so that it is there whole or not at all: `durable`'s way.
pub type WriteFile = fn(&Path, &[u8]) -> io::Result<()>;

/// What an inbox needs to know of its app.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxSettings {
    /// Which names are the app's.
    pub pattern: Pattern,
    /// Which versions it takes.
    pub versions: VersionOrder,
    /// Whether accepted files stay.
    pub keep: bool,
    /// How long something may stay incomplete before it is told.
    pub grace: Duration,
    /// How often the folder is looked through though nothing was heard.
    pub rescan: Duration,
    /// For how long nothing may change of what nothing was heard of.
    pub quiet: Quiet,
}

/// What is new.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is complete, by name: for each, one of [`Inbox::accepted`], [`Inbox::refused`] and [`Inbox::again`] says what
    /// became of it.
    pub ready: Vec<Candidate>,
    /// What the inbox refused by itself, and what stayed incomplete past the grace time; both are written beside the
    /// file already, and are here for events.
    pub told: Vec<(String, Fault)>,
}

/// A watch, and device and inode of the folder that it is on.
type Watched = (InboxWatch, (u64, u64));

/// The drop-in directory of one app.
#[derive(Debug)]
pub struct Inbox {
    dir: PathBuf,
    settings: InboxSettings,
    hub: WatchHub,
    write: WriteFile,
    watch: Option<Watched>,
    /// A watch that is being set up; a dropped call leaves it to the next, so that no two are set up at once.
    beginning: Option<JoinHandle<io::Result<Watched>>>,
    /// A look under way; a dropped call leaves it to the next, so that callers in a hurry don't start it anew for ever.
    looking: Option<JoinHandle<io::Result<Scan>>>,
    settle: Settle,
    memory: Memory,
    look_at: Instant,
    retry: Duration,
    batch: Batch,
    waiting: Vec<(String, String)>,
    /// With the folder.
    problem: Option<Fault>,
    /// With the fate files.
    unwritten: Option<Fault>,
}

impl InboxSettings {
    /// Those of `app`, looked through every `rescan` at least.
    pub fn of(app: &AppSettings, rescan: Duration) -> InboxSettings {
        InboxSettings {
            pattern: app.inbox.pattern.clone(),
            versions: app.versions,
            keep: app.inbox.keep,
            grace: app.limits.grace,
            rescan,
            quiet: Quiet::default(),
        }
    }
}

impl Inbox {
    /// The inbox in `dir`, an absolute path. Nothing is looked at before [`Inbox::next`] is called.
    pub fn new(dir: PathBuf, settings: InboxSettings, hub: WatchHub, write: WriteFile) -> Inbox {
        let settle = Settle::new(settings.quiet, settings.grace);
        Inbox {
            dir,
            settings,
            hub,
            write,
            watch: None,
            beginning: None,
            looking: None,
            settle,
            memory: Memory::default(),
            look_at: Instant::now(),
            retry: RETRY.0,
            batch: Batch::default(),
            waiting: Vec::new(),
            problem: None,
            unwritten: None,
        }
    }

    /// Goes by other settings from now on.
    pub fn set(&mut self, settings: InboxSettings) {
        self.settle.set(settings.quiet, settings.grace);
        self.settings = settings;
        self.look_at = Instant::now();
    }

    /// Waits for something new; all that one look found is one batch. Can be dropped at any time: nothing is lost.
    pub async fn next(&mut self) -> Batch {
        loop {
            if !self.batch.ready.is_empty() || !self.batch.told.is_empty() {
                return std::mem::take(&mut self.batch);
            }
            if self.look_at <= Instant::now() {
                self.look().await;
                continue;
            }
            let timer = tokio::time::sleep_until(self.look_at.into());
            match &self.watch {
                Some((watch, _)) => tokio::select! {
                    () = watch.changed() => self.look_at = Instant::now(),
                    () = timer => {}
                },
                None => timer.await,
            }
        }
    }

    /// `candidate` is a slot now. Where accepted files don't stay it was removed before this is called, so that it can't
    /// be forgotten in between.
    pub async fn accepted(&mut self, candidate: &Candidate, slot: &SlotName, digest: &Digest) {
        let state = State::Accepted { slot: slot.clone(), digest: *digest };
        self.decided(&candidate.seen, state).await;
    }

    /// `candidate` can't be taken: it stays where it is, and is given out again only if it changes, which a candidate
    /// that changed while it was read has done already.
    pub async fn refused(&mut self, candidate: &Candidate, fault: Fault) {
        self.decided(&candidate.seen, State::Refused { fault: Box::new(fault) }).await;
    }

    /// What waits, with the reason, by name.
    pub fn waiting(&self) -> &[(String, String)] {
        &self.waiting
    }

    /// What was refused and lies there still, by name.
    pub fn refusals(&self) -> Vec<(String, Fault)> {
        self.memory.refused().map(|(name, fault)| (name.to_owned(), fault.clone())).collect()
    }

    /// What is wrong with the inbox itself: it isn't there, can't be watched, or fates can't be written.
    pub fn problem(&self) -> Option<&Fault> {
        self.problem.as_ref().or(self.unwritten.as_ref())
    }

    /// Every `await` of it may be the last: what was heard is kept first, and `look_at` moves on only when the look is
    /// done.
    async fn look(&mut self) {
        let looking = match &mut self.looking {
            Some(looking) => looking,
            None => {
                self.problem = None;
                self.begin_to_watch().await;
                // Before the look: what is heard later may be about something that the look didn't see yet.
                self.hear();
                let (dir, settings, known) = (self.dir.clone(), self.settings.clone(), self.memory.known());
                let look = move || scan::scan(&dir, &settings.pattern, settings.versions, &known);
                self.looking.insert(tokio::task::spawn_blocking(look))
            }
        };
        let scan = looking.await.map_err(io::Error::other).and_then(|scan| scan);
        self.looking = None;
        match scan {
            Ok(scan) => self.judge(scan).await,
            Err(error) => {
                self.watch = None;
                self.look_at = Instant::now() + self.retry;
                self.has_problem(format!("the inbox {} can't be read: {error}", self.dir.display()));
            }
        }
    }

    async fn begin_to_watch(&mut self) {
        if self.watch.is_some() {
            return;
        }
        let beginning = match &mut self.beginning {
            Some(beginning) => beginning,
            None => {
                // What happens before it begins isn't heard.
                self.settle.missed_something();
                let (hub, dir) = (self.hub.clone(), self.dir.clone());
                let begin = move || {
                    let watch = hub.watch(&dir).map_err(io::Error::other)?;
                    let metadata = std::fs::metadata(&dir)?;
                    Ok((watch, (metadata.dev(), metadata.ino())))
                };
                self.beginning.insert(tokio::task::spawn_blocking(begin))
            }
        };
        let begun = beginning.await.map_err(io::Error::other).and_then(|begun| begun);
        self.beginning = None;
        match begun {
            Ok(watch) => {
                self.watch = Some(watch);
                self.retry = RETRY.0;
            }
            Err(error) => {
                self.retry = (self.retry * 2).min(RETRY.1);
                let often = humantime::format_duration(RETRY.1);
                self.has_problem(format!("the inbox can't be watched and is looked through every {often}: {error}"));
            }
        }
    }

    /// Takes what was heard; gives the names.
    fn hear(&mut self) -> BTreeSet<String> {
        let Some((watch, _)) = &self.watch else { return BTreeSet::new() };
        let hints = watch.take();
        if hints.overflow || hints.lost {
            self.settle.missed_something();
            self.look_at = Instant::now();
        }
        if hints.lost {
            self.watch = None;
        }
        let names = hints.names.keys().cloned().collect();
        hints.names.into_iter().for_each(|(name, heard)| self.settle.hear(name, heard));
        if hints.look {
            self.look_at = Instant::now();
        }
        names
    }

    async fn judge(&mut self, mut scan: Scan) {
        let often = if self.watch.is_some() { self.settings.rescan } else { self.settings.rescan.min(self.retry) };
        self.look_at = Instant::now() + often;
        let restless = self.hear();
        if self.watch.as_ref().is_some_and(|(_, folder)| *folder != scan.folder) {
            // Another folder has taken its place, without a word where something was mounted over it.
            self.watch = None;
            self.settle.missed_something();
            self.look_at = Instant::now();
        }
        self.memory.refresh(&mut scan);
        let now = Instant::now();
        let mut undecided = Vec::new();
        let mut others = BTreeSet::new();
        self.waiting.clear();
        for seen in &scan.seen {
            match self.memory.holds(seen, self.settings.keep, now) {
                None => undecided.push(seen),
                Some(hold) => {
                    others.insert(seen.name.as_str());
                    if let Hold::Again { after, why } = hold {
                        let after = humantime::format_duration(Duration::from_secs(after.as_secs() + 1));
                        self.waiting.push((seen.name.clone(), format!("{why}; it is tried again within {after}")));
                    }
                }
            }
        }
        let complete = self.settle.observe(undecided, &others, &restless, now);
        if let Some((watch, _)) = &self.watch {
            watch.arm(self.settle.empty().map(str::to_owned).collect());
        }
        let mut files = Vec::new();
        for seen in complete {
            match &seen.verdict {
                Ok(version) => {
                    self.memory.give(&seen.name);
                    self.batch.ready.push(Candidate { version: version.clone(), seen: seen.clone() });
                }
                Err(fault) => files.push(self.tell(seen, State::Refused { fault: fault.clone() }, fault)),
            }
        }
        files.extend(self.tell_incomplete(&scan));
        let next = [self.settle.look_again(), self.memory.next(now)].into_iter().flatten().min();
        self.look_at = next.map_or(self.look_at, |next| self.look_at.min(next));
        self.write(files, std::mem::take(&mut scan.orphans)).await;
    }

    /// Says why each waits, and tells of those that wait for too long.
    fn tell_incomplete(&mut self, scan: &Scan) -> Vec<(PathBuf, Vec<u8>)> {
        let mut overdue = Vec::new();
        for (name, incomplete) in self.settle.incomplete() {
            let grace = humantime::format_duration(self.settings.grace);
            let reason = match incomplete.overdue {
                true => format!("{}, and hasn't changed for more than {grace}", incomplete.reason),
                false => incomplete.reason.to_owned(),
            };
            if incomplete.overdue && !self.memory.told_overdue(name) {
                let fault = Fault::new(Code::IngestIncomplete, format!("{name} is not complete: {reason}"));
                overdue.extend(scan.seen.iter().find(|seen| seen.name == name).map(|seen| (seen, Box::new(fault))));
            }
            self.waiting.push((name.to_owned(), reason));
        }
        self.waiting.sort();
        overdue
            .into_iter()
            .map(|(seen, fault)| self.tell(seen, State::Waiting { fault: fault.clone() }, &fault))
            .collect()
    }

    /// Remembers and reports what the inbox decides by itself; gives what is to be written.
    fn tell(&mut self, seen: &Seen, state: State, fault: &Fault) -> (PathBuf, Vec<u8>) {
        self.batch.told.push((seen.name.clone(), fault.clone()));
        (fate_path(&seen.path, &seen.name), self.memory.decide(seen, state))
    }

    async fn decided(&mut self, seen: &Seen, state: State) {
        let bytes = self.memory.decide(seen, state);
        // It may have changed since it was given out.
        self.look_at = Instant::now();
        self.write(vec![(fate_path(&seen.path, &seen.name), bytes)], Vec::new()).await;
    }

    /// Writes fates and sweeps those that nobody needs any more. What can't be written is remembered all the same.
    async fn write(&mut self, files: Vec<(PathBuf, Vec<u8>)>, orphans: Vec<(PathBuf, i64)>) {
        if files.is_empty() && orphans.is_empty() {
            return;
        }
        let write = self.write;
        let now = i64::try_from(Timestamp::from(SystemTime::now()).unix_millis()).unwrap_or(i64::MAX);
        let work = move || {
            for path in fate::to_sweep(orphans, now.saturating_mul(1_000_000)) {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::debug!(%error, path = %path.display(), "an old fate file can't be removed");
                }
            }
            let failed = |(path, bytes): &(PathBuf, Vec<u8>)| Some((path.clone(), write(path, bytes).err()?));
            files.iter().filter_map(failed).next_back()
        };
        let failed = blocking(move || Ok(work())).await.unwrap_or_default();
        self.unwritten = failed.map(|(path, error)| {
            tracing::warn!(%error, path = %path.display(), "a fate file can't be written");
            Fault::new(Code::FsIo, format!("{} can't be written: {error}", path.display()))
        });
    }

    fn has_problem(&mut self, message: String) {
        tracing::warn!(inbox = %self.dir.display(), "{message}");
        self.problem = Some(Fault::new(Code::FsIo, message));
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
