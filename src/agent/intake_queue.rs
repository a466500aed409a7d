//! The artifacts that wait to be taken in: from the inbox and from callers, one at a time, in the order they came.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::control::api::{Accepted, ApiError, EventKind, RefusedItem, Uploaded};
use crate::inbox::{self, Candidate};
use crate::model::deployment::Otherwise;
use crate::model::slot::Phase;
use crate::model::{Code, Fault, SlotName, Timestamp};
use crate::slots::Published;
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::{App, Work};
use super::ask::{Answer, Ask, Taken};
use super::build::{Hands, Now};
use super::choose::{self, NotLive};
use super::intake::{self, Job, Refused, Source};
use super::naming::{Named, named};
use super::queue::Brought;

/// How long a file that couldn't be taken for the host's fault waits for its next try.
const INTAKE_RETRY: Duration = Duration::from_secs(10);

/// An artifact that waits for its turn.
pub(super) struct Intake {
    pub(super) job: Job,
    pub(super) from: Bearer,
}

/// Whom an intake's end concerns.
pub(super) enum Bearer {
    Inbox(Box<Candidate>),
    /// With what they want otherwise for the deployment, and what is to go ahead of it.
    Caller(Answer<Uploaded>, Otherwise, Ahead),
    /// What is set otherwise goes live by itself.
    Nobody,
    /// Who asked for something that needs the slot first.
    Asker(Box<Ask>),
}

/// The artifact that is being taken in.
pub(super) struct Taking {
    pub(super) file: String,
    /// Where its bytes come from.
    pub(super) source: Source,
    /// The slot that it may become, or is already.
    pub(super) slot: Option<SlotName>,
    since: Timestamp,
    by: String,
    message: Option<String>,
    from: Bearer,
    task: JoinHandle<Result<Published, Refused>>,
    now: watch::Receiver<Now>,
    cancel: watch::Sender<Option<String>>,
    /// Who waits for word whether it is cancelled.
    cancels: Vec<Answer<Accepted>>,
}

impl Taking {
    pub(super) fn taken(&self) -> Taken {
        let Taking { slot, now, since, by, message, .. } = self;
        let now = now.borrow().clone();
        let (slot, since, by, message) = (slot.clone(), *since, by.clone(), message.clone());
        Taken { slot, now, since, by, message }
    }

    /// What is done to it now.
    pub(super) fn doing(&self) -> String {
        match &*self.now.borrow() {
            Now::Processing => "is checked and unpacked".to_owned(),
            Now::Waiting(slot) => format!("waits to be built as {slot}: other builds come first"),
            Now::Building(slot, unit) => format!("is built as {slot} by {unit}"),
        }
    }
}

impl<U: UnitControl> App<U> {
    /// Begins the next intake, if one waits and none is under way.
    pub(super) fn begin_intake(&mut self) {
        if self.taking.is_some() {
            return;
        }
        let Some(Intake { job, from }) = self.intake.pop_front() else { return };
        let place = self.place.clone();
        let (source, file) = (job.source.clone(), job.file.clone());
        let (by, message) = (job.by.clone(), job.message.clone());
        let slot = match named(&place, &job) {
            Ok(Named::As(version)) => Some(SlotName::first(version)),
            Ok(Named::Nothing) | Err(_) => None,
        };
        let (cancel, told) = watch::channel(None);
        let (hands, now) = self.hands();
        let task = tokio::spawn(async move { intake::take_in(&place, &job, &hands, &told).await });
        self.event(EventKind::Processing { file: file.clone() });
        self.taking = Some(Taking {
            source,
            file,
            slot,
            since: Timestamp::now(),
            by,
            message,
            from,
            task,
            now,
            cancel,
            cancels: Vec::new(),
        });
    }

    /// What an intake acts by, and where it stands then.
    pub(super) fn hands(&self) -> (Hands<U>, watch::Receiver<Now>) {
        let (sender, now) = watch::channel(Now::Processing);
        let shared = &self.ground.shared;
        (Hands { units: shared.units.clone(), turns: shared.turns.clone(), now: sender }, now)
    }

    /// The intake under way has come to another point.
    pub(super) fn taking_went_on(&mut self) {
        let Some(taking) = &mut self.taking else { return };
        let now = taking.now.borrow_and_update().clone();
        let slot = match &now {
            Now::Processing => return,
            Now::Waiting(slot) | Now::Building(slot, _) => slot.clone(),
        };
        taking.slot = Some(slot.clone());
        if let Now::Building(slot, unit) = now {
            self.event(EventKind::Building { slot, unit });
        }
    }

    pub(super) fn dropped(&mut self, batch: inbox::Batch) {
        for (file, fault) in batch.told {
            tracing::warn!(SLOTD_APP = self.name(), "{file}: {fault}");
            self.event(EventKind::Refused { file, phase: Phase::Processing, fault: Box::new(fault) });
        }
        for candidate in batch.ready {
            let path = candidate.seen.path.clone();
            let source = match candidate.seen.kind {
                inbox::Kind::Directory => Source::Directory(path),
                inbox::Kind::File | inbox::Kind::Other(_) => Source::File(path),
            };
            let job = Job {
                source,
                file: candidate.seen.name.clone(),
                version: candidate.version.clone(),
                sha256: None,
                by: "inbox".into(),
                message: None,
            };
            self.intake.push_back(Intake { job, from: Bearer::Inbox(Box::new(candidate)) });
        }
    }

    pub(super) async fn taken_in(&mut self, result: Result<Result<Published, Refused>, JoinError>) {
        let Some(Taking { file, slot, by, message, from, cancels, .. }) = self.taking.take() else { return };
        let result = result.unwrap_or_else(|error| {
            let fault = Fault::new(Code::Internal, format!("the intake of {file} was torn: {error}"));
            Err(Refused { later: true, ..Refused::from(fault) })
        });
        match &result {
            Ok(Published::New(record)) => {
                tracing::info!(
                    SLOTD_APP = self.name(),
                    SLOTD_SLOT = record.slot.to_string(),
                    "{file} is ready as {}",
                    record.slot
                );
                self.event(EventKind::Ready { slot: record.slot.clone() });
            }
            Ok(Published::Known(record)) => self.event(EventKind::Ready { slot: record.slot.clone() }),
            Err(refused) => {
                tracing::warn!(SLOTD_APP = self.name(), "{file}: {}", refused.fault);
                let (file, fault) = (file.clone(), Box::new(refused.fault.clone()));
                self.event(EventKind::Refused { file, phase: refused.phase, fault });
            }
        }
        for answer in cancels {
            let _ = answer.send(match &result {
                Err(refused) if refused.fault.code == Code::Cancelled => Ok(Accepted::NotTaken { file: file.clone() }),
                _ => Err(ApiError::new(Code::RequestBusy, format!("{file} has been taken in meanwhile"))
                    .next(format!("slotctl status {}", self.name()))),
            });
        }
        match (from, result) {
            (Bearer::Inbox(candidate), result) => {
                match result {
                    Ok(Published::New(record) | Published::Known(record)) => {
                        self.clear_inbox(&candidate).await;
                        self.inbox.accepted(&candidate, &record.slot, &record.artifact).await;
                    }
                    Err(refused) if refused.later => self.inbox.again(&candidate, &refused.fault, INTAKE_RETRY),
                    Err(refused) => self.inbox.refused(&candidate, refused.fault).await,
                }
                // Of several that were dropped together only the highest goes: the last of them decides.
                if !self.intake.iter().any(|intake| matches!(intake.from, Bearer::Inbox(_))) {
                    self.choose();
                }
            }
            (Bearer::Caller(answer, otherwise, ahead), Ok(published)) => {
                let uploaded = self.uploaded(&published, &by, message, otherwise, ahead);
                let _ = answer.send(Ok(uploaded));
            }
            (Bearer::Caller(answer, ..), Err(refused)) => {
                let _ = answer.send(Err(self.refusal(refused, slot.as_ref())));
            }
            (Bearer::Nobody, Ok(_)) => self.choose(),
            (Bearer::Nobody, Err(refused)) => self.not_built(&refused),
            (Bearer::Asker(ask), Ok(_)) => Box::pin(self.asked(*ask)).await,
            (Bearer::Asker(ask), Err(refused)) => ask.refuse(self.refusal(refused, slot.as_ref())),
        }
    }

    /// What whoever brought an artifact, or waits for it, is told of its refusal.
    fn refusal(&self, refused: Refused, slot: Option<&SlotName>) -> ApiError {
        let app = self.name();
        let next = match (&refused.log, slot, refused.phase) {
            (Some(_), Some(slot), _) => Some(format!("slotctl logs {app} {slot} --build")),
            (None, _, Phase::Building) if refused.fault.code != Code::Cancelled => Some(format!("slotctl check {app}")),
            _ => None,
        };
        let error = ApiError::from(refused.fault);
        match next {
            Some(next) => error.next(next),
            None => error,
        }
    }

    /// Cancels the intake under way; the answer comes with its end. Without one it comes back.
    pub(super) fn cancel_intake(&mut self, by: &str, answer: Answer<Accepted>) -> Result<(), Answer<Accepted>> {
        let Some(taking) = &mut self.taking else { return Err(answer) };
        taking.cancel.send_replace(Some(by.to_owned()));
        taking.cancels.push(answer);
        Ok(())
    }

    async fn clear_inbox(&self, candidate: &Candidate) {
        if self.ground.settings.inbox.keep {
            return;
        }
        let (gone, name) = (candidate.clone(), candidate.seen.name.clone());
        let removed = tokio::task::spawn_blocking(move || gone.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(SLOTD_APP = self.name(), "{name} is accepted and can't be removed from the inbox: {error}");
        }
    }

    /// What came of an upload: the deployment that brings it live, or why none does.
    fn uploaded(
        &mut self,
        published: &Published,
        by: &str,
        message: Option<String>,
        otherwise: Otherwise,
        ahead: Ahead,
    ) -> Uploaded {
        let (record, known) = match published {
            Published::New(record) => (record, false),
            Published::Known(record) => (record, true),
        };
        let slot = record.slot.clone();
        self.choose_for(by, Some(Brought { slot: &slot, message, otherwise, ahead }));
        // It may go live as another slot of the same files, with what is set since it was known.
        if self.queued.as_ref().is_some_and(|wanted| wanted.report.to.version == slot.version) {
            self.promise_queued();
        }
        let queued = self.queued.as_ref().map(|wanted| &wanted.report);
        let queued = queued.filter(|report| report.to.version == slot.version);
        let running = match &self.work {
            Work::Deploying(running) if running.slots.last().is_some_and(|to| to.version == slot.version) => {
                Some(running.id.clone())
            }
            _ => None,
        };
        let deployment = queued.map(|report| report.id.clone()).or(running);
        let (not_live, next) = match deployment {
            Some(_) => (None, None),
            None => match self.with_rules(|ready, rules| choose::why_not_next(&slot, ready, rules)) {
                Ok(Some(NotLive::IsLive)) => (None, None),
                Ok(Some(why)) => (Some(why.to_string()), why.next(self.name(), &slot)),
                Ok(None) => (Some(self.comes_first()), Some(format!("slotctl status {}", self.name()))),
                Err(fault) => (Some(fault.to_string()), Some(format!("slotctl status {}", self.name()))),
            },
        };
        Uploaded { slot, known, deployment, not_live, next }
    }

    /// What a release waits for that could go live.
    fn comes_first(&self) -> String {
        match &self.queued {
            Some(wanted) => format!("{}, which {} asked for, comes first", wanted.report.id, wanted.report.by),
            None if self.is_due() => "what is scheduled for now comes first; see `slotctl status`".to_owned(),
            None => "the deployment that was left open comes first; see `slotctl status`".to_owned(),
        }
    }

    /// What was refused and lies in the inbox still.
    pub(super) fn refused(&self) -> Vec<RefusedItem> {
        self.inbox.refusals().into_iter().map(|(file, fault)| RefusedItem { file, fault }).collect()
    }
}

/// What is heard of the intake under way.
pub(super) enum News {
    /// It has come to another point.
    WentOn,
    /// It is over.
    Ended(Result<Result<Published, Refused>, JoinError>),
}

/// The next that is heard of the intake under way; nothing, while there is none.
pub(super) async fn news_of(taking: &mut Option<Taking>) -> News {
    match taking {
        Some(Taking { task, now, .. }) => tokio::select! {
            result = task => News::Ended(result),
            Ok(()) = now.changed() => News::WentOn,
        },
        None => std::future::pending().await,
    }
}

/// What became of an artifact, beside it.
pub(super) fn write_fate(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    // Read by whoever dropped the artifact.
    crate::durable::write_atomic_mode(path, bytes, 0o644).map_err(std::io::Error::other)
}
