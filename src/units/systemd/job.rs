//! A start, a stop or a reload: queue the job, then wait for its end, through whatever befalls the bus.

use std::time::Duration;

use systemd_zbus::Mode;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use zbus::zvariant::OwnedObjectPath;

use crate::model::UnitName;
use crate::units::{Active, JobResult, UnitError};

use super::link::{Event, bounded};
use super::trouble::{Patience, Trouble};
use super::view::View;
use super::{Systemd, look};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    /// Of a unit that is down it is a start.
    Reload,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Reload => "reload",
        }
    }
}

/// A job on its way.
struct Queued {
    events: broadcast::Receiver<Event>,
    job: OwnedObjectPath,
}

/// What a look at the unit says about a job whose end may have been missed.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It is still there.
    Waits(OwnedObjectPath),
    /// It ended so.
    Ended(JobResult),
    /// It was never made.
    NotMade,
}

impl Systemd {
    /// Does `verb` to `unit` and waits for that job's end.
    pub(super) async fn run(&self, verb: Verb, unit: &UnitName, at_most: Duration) -> Result<JobResult, UnitError> {
        match tokio::time::timeout(at_most, self.run_to_end(verb, unit)).await {
            Ok(result) => result.map_err(|trouble| trouble.of(verb.word(), unit)),
            Err(_) => Err(UnitError::Timeout { verb: verb.word(), unit: unit.clone(), after: at_most }),
        }
    }

    async fn run_to_end(&self, verb: Verb, unit: &UnitName) -> Result<JobResult, Trouble> {
        let before = match verb {
            Verb::Start => self.invocation(unit).await?,
            // A second stop or reload does no harm, so it need not be known whether the first one arrived.
            Verb::Stop | Verb::Reload => None,
        };
        let mut queued = match self.queue(verb, unit).await {
            Ok(Ok(queued)) => queued,
            Ok(Err(result)) => return Ok(result),
            // Whether the call arrived isn't known: a unit that was started and failed must not be started twice.
            Err(Trouble::Lost(_)) => match self.resume(verb, unit, None, &before).await? {
                Ok(queued) => queued,
                Err(result) => return Ok(result),
            },
            Err(trouble) => return Err(trouble),
        };
        loop {
            let event = match queued.events.recv().await {
                Ok(Event::JobRemoved { job, .. }) if job != queued.job => continue,
                Ok(Event::JobRemoved { result, .. }) => return Ok(result_from(&result)),
                Ok(Event::ReadAgain) => "systemd read its units again",
                Err(RecvError::Lagged(_)) => "signals came faster than they were read",
                Err(RecvError::Closed) => "the connection to the bus is gone",
            };
            tracing::debug!(%unit, verb = verb.word(), "{event}: reading the unit instead");
            queued = match self.resume(verb, unit, Some(&queued.job), &before).await? {
                Ok(queued) => queued,
                Err(result) => return Ok(result),
            };
        }
    }

    /// Makes the job. The inner error is a result without one: nothing is loaded that could be stopped.
    async fn queue(&self, verb: Verb, unit: &UnitName) -> Result<Result<Queued, JobResult>, Trouble> {
        let link = self.link().await?;
        let events = link.events()?;
        let made = match verb {
            // `fail`: in mode `replace` it would cancel a stop that somebody queued, of it or of what it needs.
            Verb::Start => bounded(link.manager.start_unit(unit.as_str(), Mode::Fail)).await,
            // `replace`: a stop has to end a start that doesn't end, or a restart that systemd has queued by itself.
            Verb::Stop => bounded(link.manager.stop_unit(unit.as_str(), Mode::Replace)).await,
            Verb::Reload => bounded(link.manager.reload_or_restart_unit(unit.as_str(), Mode::Replace)).await,
        };
        match made {
            Ok(job) => Ok(Ok(Queued { events, job })),
            Err(trouble) if verb == Verb::Stop && trouble.no_such_unit() => Ok(Err(JobResult::Done)),
            Err(trouble) => Err(trouble),
        }
    }

    /// Picks the job up again: from what the unit shows, or by making it where it never was.
    async fn resume(
        &self,
        verb: Verb,
        unit: &UnitName,
        job: Option<&OwnedObjectPath>,
        before: &Option<String>,
    ) -> Result<Result<Queued, JobResult>, Trouble> {
        let patience = Patience::new();
        loop {
            let trouble = match self.look_for_job(verb, unit, job, before).await {
                Ok((Standing::Ended(result), _)) => return Ok(Err(result)),
                Ok((Standing::Waits(job), events)) => return Ok(Ok(Queued { events, job })),
                Ok((Standing::NotMade, _)) => match self.queue(verb, unit).await {
                    Ok(queued) => return Ok(queued),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            patience.again(trouble).await?;
        }
    }

    /// Listens first and looks then, so that no end falls between.
    async fn look_for_job(
        &self,
        verb: Verb,
        unit: &UnitName,
        job: Option<&OwnedObjectPath>,
        before: &Option<String>,
    ) -> Result<(Standing, broadcast::Receiver<Event>), Trouble> {
        let link = self.link().await?;
        let events = link.events()?;
        let view = look(&link, unit).await?;
        Ok((standing(verb, job, before, &view), events))
    }

    /// The run before ours, or none.
    async fn invocation(&self, unit: &UnitName) -> Result<Option<String>, Trouble> {
        let patience = Patience::new();
        loop {
            match self.try_invocation(unit).await {
                Ok(invocation) => return Ok(invocation),
                Err(trouble) => patience.again(trouble).await?,
            }
        }
    }
}

/// Reads from a look at the unit what became of the job. `before` is the run before it, `job` its path if it is known.
fn standing(verb: Verb, job: Option<&OwnedObjectPath>, before: &Option<String>, view: &View) -> Standing {
    match (&view.job, job) {
        (Some(there), Some(ours)) if there != ours => return Standing::Ended(JobResult::Canceled),
        (Some(there), _) => return Standing::Waits(there.clone()),
        (None, _) => {}
    }
    let status = &view.status;
    if verb == Verb::Reload {
        return match status.active {
            _ if job.is_none() => Standing::NotMade,
            Active::Active | Active::Reloading if !status.reload_failed => Standing::Ended(JobResult::Done),
            _ => Standing::Ended(JobResult::Failed),
        };
    }
    let ran = status.invocation != *before;
    match (verb, status.active) {
        (Verb::Start, Active::Active | Active::Reloading) => Standing::Ended(JobResult::Done),
        (Verb::Stop, Active::Inactive | Active::Failed) => Standing::Ended(JobResult::Done),
        (Verb::Start, _) if job.is_none() && !ran => Standing::NotMade,
        (Verb::Stop, _) if job.is_none() => Standing::NotMade,
        // It ran to its end: a oneshot.
        (Verb::Start, Active::Inactive) if ran && status.result == "success" => Standing::Ended(JobResult::Done),
        (Verb::Start, Active::Inactive) if !ran => Standing::Ended(JobResult::Canceled),
        (Verb::Start, _) => Standing::Ended(JobResult::Failed),
        (Verb::Stop | Verb::Reload, _) => Standing::Ended(JobResult::Canceled),
    }
}

/// systemd's word for a job's end (`Result` of org.freedesktop.systemd1(5), "Signals").
fn result_from(word: &str) -> JobResult {
    match word {
        "done" => JobResult::Done,
        "failed" => JobResult::Failed,
        "timeout" => JobResult::Timeout,
        "canceled" => JobResult::Canceled,
        "dependency" => JobResult::Dependency,
        "skipped" => JobResult::Skipped,
        _ => JobResult::Other,
    }
}
