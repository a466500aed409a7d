//! A scripted systemd for tests: each unit does what its script says, and whatever was not scripted fails loudly.
//!
//! ```ignore
//! let fake = FakeUnits::new();
//! fake.unit("web@1").runs();
//! fake.unit("web@2").start_fails("exited with status 3");
//! …
//! assert_eq!(fake.calls(), ["stop web@1", "start web@2"]);
//! ```
//!
//! It keeps no time of its own: with tokio's paused clock, "dies after 2 s" takes none.

mod script;
mod world;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::model::evidence::JournalLine;
use crate::model::{Template, Timestamp, UnitName};

use super::{Active, Bonds, JobResult, Load, Signal, UnitControl, UnitError, UnitStatus, UnitWatch};
pub use script::Script;
use world::{Fate, Heed, Start, Stop, Unit, World};

/// The fake. Clones share one world.
#[derive(Clone, Default)]
pub struct FakeUnits {
    world: Arc<Mutex<World>>,
}

impl FakeUnits {
    /// A systemd without units.
    pub fn new() -> Self {
        Self::default()
    }

    /// The script of a unit ("web@2", "web.socket"; without an ending it is a service), which is made, loaded and
    /// inactive, if it wasn't there.
    pub fn unit(&self, name: &str) -> Script<'_> {
        let name = full(name);
        self.world().units.entry(name.clone()).or_insert_with(Unit::inactive);
        Script { fake: self, name }
    }

    /// What was asked of it, in order, services without their ending: "stop web@1", "start web@2".
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.world().calls.clear();
    }

    /// How a unit stands.
    pub fn status_of(&self, name: &str) -> UnitStatus {
        self.world().unit(&full(name)).status.clone()
    }

    /// The names of the units that are up, services without their ending.
    pub fn up(&self) -> Vec<String> {
        let world = self.world();
        world.units.iter().filter(|(_, unit)| unit.status.is_up()).map(|(name, _)| short(name)).collect()
    }

    /// The bus goes away: watches end and every call fails, until [`FakeUnits::bus_is_back`].
    pub fn lose_bus(&self) {
        let mut world = self.world();
        world.bus_lost = true;
        world.watches.clear();
        world.job_watches.clear();
    }

    /// The bus is there again.
    pub fn bus_is_back(&self) {
        self.world().bus_lost = false;
    }

    /// systemd reloads: watches end.
    pub fn reload(&self) {
        let mut world = self.world();
        world.watches.clear();
        world.job_watches.clear();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panicked in here")
    }

    fn begin(&self, verb: &str, unit: &UnitName) -> Result<(), UnitError> {
        let mut world = self.world();
        world.answers()?;
        let call = format!("{verb} {}", short(unit));
        world.calls.push(call);
        match world.unit(unit).status.load {
            Load::NotFound => Err(UnitError::NotFound(unit.clone())),
            Load::Masked => Err(UnitError::Masked(unit.clone())),
            _ => Ok(()),
        }
    }

    /// Lets the fate of a run come, unless another run has begun since.
    fn let_fate_come(&self, unit: &UnitName, after: Duration, fate: Fate) {
        let (fake, unit) = (self.clone(), unit.clone());
        let run = self.world().unit(&unit).status.invocation.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let mut world = fake.world();
            let status = &world.unit(&unit).status;
            if status.is_up() && status.invocation == run {
                world.meet(&unit, fate);
            }
        });
    }
}

impl UnitControl for FakeUnits {
    async fn start(&self, unit: &UnitName, at_most: Duration) -> Result<JobResult, UnitError> {
        self.begin("start", unit)?;
        if self.world().is_stopping(unit) {
            let message = format!("Transaction for {unit}/start is destructive");
            return Err(UnitError::Conflict { verb: "start", unit: unit.clone(), message });
        }
        let start = self.world().unit(unit).starts.pop_front();
        match start {
            None if self.world().unit(unit).status.is_up() => Ok(JobResult::Done),
            None => {
                self.world().begin_run(unit);
                let fate = self.world().unit(unit).fate.take();
                if let Some((after, fate)) = fate {
                    self.let_fate_come(unit, after, fate);
                }
                Ok(JobResult::Done)
            }
            Some(Start::WhileStopped(other)) => {
                let mut world = self.world();
                world.begin_run(unit);
                world.end_run(&other, Active::Inactive, "dead", "success", None);
                Ok(JobResult::Done)
            }
            Some(Start::FailsWhileStopped(other, exit)) => {
                let mut world = self.world();
                world.begin_run(unit);
                world.end_run(unit, Active::Failed, "failed", "exit-code", Some(&exit));
                world.end_run(&other, Active::Inactive, "dead", "success", None);
                Ok(JobResult::Failed)
            }
            Some(Start::Passes) => {
                let mut world = self.world();
                world.begin_run(unit);
                world.end_run(unit, Active::Inactive, "dead", "success", Some("exited with status 0"));
                Ok(JobResult::Done)
            }
            Some(Start::Fails(result, exit)) => {
                let mut world = self.world();
                world.begin_run(unit);
                let word = if result == JobResult::Timeout { "timeout" } else { "exit-code" };
                world.end_run(unit, Active::Failed, "failed", word, Some(&exit));
                Ok(result)
            }
            Some(Start::Errs(error)) => Err(error),
            Some(Start::Hangs) => {
                self.world().unit(unit).status.active = Active::Activating;
                self.world().unit(unit).status.sub = "start".to_owned();
                tokio::time::sleep(at_most).await;
                Err(UnitError::Timeout { verb: "start", unit: unit.clone(), after: at_most })
            }
        }
    }

    async fn stop(&self, unit: &UnitName, at_most: Duration) -> Result<JobResult, UnitError> {
        match self.begin("stop", unit) {
            Err(UnitError::NotFound(_)) => return Ok(JobResult::Done),
            other => other?,
        }
        let stop = self.world().unit(unit).stops.pop_front();
        match stop {
            None => {
                let mut world = self.world();
                if world.unit(unit).status.active != Active::Failed {
                    world.end_run(unit, Active::Inactive, "dead", "success", None);
                }
                world.take_along(unit);
                Ok(JobResult::Done)
            }
            Some(Stop::Ends(result)) => Ok(result),
            Some(Stop::Hangs) => {
                tokio::time::sleep(at_most).await;
                Err(UnitError::Timeout { verb: "stop", unit: unit.clone(), after: at_most })
            }
        }
    }

    async fn reload(&self, unit: &UnitName, _at_most: Duration) -> Result<JobResult, UnitError> {
        self.begin("reload", unit)?;
        let mut world = self.world();
        let result = world.unit(unit).reloads.pop_front().unwrap_or(JobResult::Done);
        world.unit(unit).status.reload_failed = result != JobResult::Done;
        if result == JobResult::Done && !world.unit(unit).status.is_up() {
            world.begin_run(unit);
        }
        Ok(result)
    }

    async fn reset_failed(&self, unit: &UnitName) -> Result<(), UnitError> {
        match self.begin("reset-failed", unit) {
            Err(UnitError::NotFound(_)) => return Ok(()),
            other => other?,
        }
        let mut world = self.world();
        if world.unit(unit).status.active == Active::Failed {
            world.end_run(unit, Active::Inactive, "dead", "success", None);
        }
        Ok(())
    }

    /// A unit does what its script says of signals; one that has no word for it is ended by them, as a program without
    /// handlers is.
    async fn kill(&self, unit: &UnitName, signal: Signal) -> Result<(), UnitError> {
        self.begin(&format!("kill {signal}"), unit)?;
        let mut world = self.world();
        if !world.unit(unit).status.is_up() {
            let message = "No such process".to_owned();
            return Err(UnitError::Refused { verb: "signal", unit: unit.clone(), message });
        }
        match world.unit(unit).heeds {
            Heed::Signals => {
                let word = if signal == Signal::Usr1 { "accepting" } else { "quiet" };
                world.unit(unit).status.said = Some(word.to_owned());
                world.tell(unit);
            }
            Heed::Nothing => {}
            Heed::Dies => world.meet(unit, Fate::Dies(format!("killed by {signal}"))),
        }
        Ok(())
    }

    async fn status(&self, unit: &UnitName) -> Result<UnitStatus, UnitError> {
        let mut world = self.world();
        world.answers()?;
        Ok(world.unit(unit).status.clone())
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<UnitName>, UnitError> {
        let world = self.world();
        world.answers()?;
        let loaded = world.units.iter().filter(|(_, unit)| unit.status.load == Load::Loaded).map(|(name, _)| name);
        Ok(loaded.filter(|name| patterns.iter().any(|pattern| matches(pattern, name.as_str()))).cloned().collect())
    }

    async fn bonds(&self, unit: &UnitName) -> Result<Bonds, UnitError> {
        let world = self.world();
        world.answers()?;
        Ok(world.bonds.get(unit).cloned().unwrap_or_default())
    }

    async fn watch(&self, units: &[UnitName]) -> Result<UnitWatch, UnitError> {
        let (sender, watch) = UnitWatch::channel();
        let mut world = self.world();
        world.answers()?;
        for unit in units {
            world.unit(unit);
        }
        world.watches.push((units.to_vec(), sender));
        Ok(watch)
    }

    async fn watch_jobs(&self, templates: &[Template]) -> Result<UnitWatch, UnitError> {
        let (sender, watch) = UnitWatch::channel();
        let mut world = self.world();
        world.answers()?;
        world.job_watches.push((templates.to_vec(), sender));
        Ok(watch)
    }

    async fn journal(&self, invocation: &str, lines: usize) -> Vec<JournalLine> {
        let world = self.world();
        let all = world.journals.get(invocation).map(Vec::as_slice).unwrap_or_default();
        all[all.len().saturating_sub(lines)..].to_vec()
    }

    async fn journal_since(&self, unit: &UnitName, _since: Timestamp, lines: usize) -> Vec<JournalLine> {
        let run = self.world().unit(unit).status.invocation.clone();
        match run {
            Some(run) => self.journal(&run, lines).await,
            None => Vec::new(),
        }
    }
}

/// One `*` at most.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((_, tail)) if tail.contains('*') => panic!("the fake knows patterns with one *, not {pattern:?}"),
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
    }
}

fn full(name: &str) -> UnitName {
    let typed = [".service", ".socket"].iter().any(|ending| name.ends_with(ending));
    UnitName::new(if typed { name.to_owned() } else { format!("{name}.service") })
}

fn short(name: &UnitName) -> String {
    name.as_str().strip_suffix(".service").unwrap_or(name.as_str()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_story_is_told_in_order() {
        let fake = FakeUnits::new();
        fake.unit("web@1").runs();
        fake.unit("web@2").start_fails("exited with status 3");
        let (one, two) = (full("web@1"), full("web@2"));
        assert_eq!(fake.list(&["web@*.service".to_owned()]).await, Ok(vec![one.clone(), two.clone()]));
        assert_eq!(fake.stop(&one, LONG).await, Ok(JobResult::Done));
        assert_eq!(fake.start(&two, LONG).await, Ok(JobResult::Failed));
        assert_eq!(fake.status_of("web@2").exit.as_deref(), Some("exited with status 3"));
        assert_eq!(fake.start(&one, LONG).await, Ok(JobResult::Done));
        assert_eq!(fake.calls(), ["stop web@1", "start web@2", "start web@1"]);
        assert_eq!(fake.up(), ["web@1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fate_is_told_to_watches() {
        let fake = FakeUnits::new();
        fake.unit("web@2").dies_after(Duration::from_secs(2), "killed by SIGSEGV").writes("out of luck");
        let unit = full("web@2");
        let mut watch = fake.watch(std::slice::from_ref(&unit)).await.expect("a watch");
        fake.start(&unit, LONG).await.expect("a start");
        watch.changed().await.expect("it came up");
        watch.changed().await.expect("it died");
        let status = fake.status_of("web@2");
        assert_eq!(
            (status.active, status.sub.as_str(), status.result.as_str()),
            (Active::Activating, "auto-restart", "signal")
        );
        let journal = fake.journal(&status.invocation.expect("a run"), 5).await;
        assert_eq!(journal[0].text, "out of luck");
        fake.reload();
        assert_eq!(watch.changed().await, None);
    }

    #[tokio::test]
    #[should_panic(expected = "web@3.service was not scripted")]
    async fn what_was_not_scripted_is_loud() {
        let _ = FakeUnits::new().start(&full("web@3"), LONG).await;
    }
}
