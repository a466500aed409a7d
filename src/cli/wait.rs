//! Waiting for a deployment: its steps as they pass, what it waits for now, and how it ended.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::control::api::{ApiError, DeployedStaged, Event, EventKind};
use crate::model::deployment::{StepRecord, Waiting};
use crate::model::{
    AppName, Code, Dependency, DependencyState, DeploymentId, Exit, Kind, Outcome, Report, SlotName, Timestamp,
};

use super::Context;
use super::client::Events;
use super::dependencies::{dependency, went_line};
use super::ending::{During, Ending, Failure};
use super::output::{Output, Tone};
use super::text::{plain, span};

/// How long the daemon may be away in mid-deployment: an upgrade or a restart takes seconds, and it resumes.
const AWAY: Duration = Duration::from_secs(30);

/// Between two tries to reach it again.
const RETRY: Duration = Duration::from_millis(250);

/// Between two looks at the clock of the live line.
const TICK: Duration = Duration::from_millis(200);

/// Shows deployment `id` until it is over or Ctrl-C, and how it ended.
pub async fn follow(id: &DeploymentId, context: &Context<'_>) -> Result<Ending, Failure> {
    follow_to(id, context, verdict).await
}

/// The same for one that is to be undone: that is what was wanted.
pub async fn follow_back(id: &DeploymentId, to: &SlotName, context: &Context<'_>) -> Result<Ending, Failure> {
    follow_to(id, context, |report, out| {
        let back = matches!(report.ended.as_ref().map(|it| it.outcome), Some(Outcome::Cancelled | Outcome::RolledBack));
        if !back {
            return verdict(report, out);
        }
        out.document(report);
        out.line(format!("{}: undone, {to} is live", out.tone(Tone::Good, &report.id.to_string())));
        Exit::Ok.into()
    })
    .await
}

async fn follow_to(
    id: &DeploymentId,
    context: &Context<'_>,
    verdict: impl FnOnce(&Report, &Output) -> Ending,
) -> Result<Ending, Failure> {
    let mut view = View::new(context.out);
    let over = tokio::select! {
        over = to_the_end(id, context, &mut view) => Some(over),
        _ = tokio::signal::ctrl_c() => None,
    };
    view.clear();
    match over {
        Some(report) => Ok(verdict(&report.during(format!("watch {id}"))?, context.out)),
        None => {
            context.out.note(format!(
                "slotctl: {id} goes on without you\n  watch: slotctl status {app}\n  undo:  slotctl cancel {app}",
                app = id.app
            ));
            Ok(Ending::INTERRUPTED)
        }
    }
}

/// The same, where the report is a part of the answer that is shown as one document.
pub async fn follow_in(id: &DeploymentId, answer: DeployedStaged, context: &Context<'_>) -> Result<Ending, Failure> {
    follow_to(id, context, |report, out| {
        out.document(&DeployedStaged { report: Some(Box::new(report.clone())), ..answer });
        told(report, out)
    })
    .await
}

/// How a deployment that is over ended, and the status that says so.
pub fn verdict(report: &Report, out: &Output) -> Ending {
    out.document(report);
    told(report, out)
}

fn told(report: &Report, out: &Output) -> Ending {
    let Some(ended) = &report.ended else { return Exit::Internal.into() };
    let (id, to) = (&report.id, &report.to);
    if ended.outcome == Outcome::Done {
        let before = report.from.as_ref().map(|from| format!(", {from} is the fallback")).unwrap_or_default();
        let took = span(report.queued.until(ended.at));
        out.line(format!("{}: {to} is live{before} ({took})", out.tone(Tone::Good, &id.to_string())));
    } else {
        let cause = match &ended.fault {
            Some(fault) => format!(": {} ({})", plain(&fault.message), fault.code),
            None => String::new(),
        };
        let place = failed_step(report).map(|step| format!(" in {}", step.state)).unwrap_or_default();
        out.note(format!("slotctl: {id} ({} {to}): {}{place}{cause}", verb(report.kind), ended.outcome));
        out.note(format!("  next: slotctl why {id}"));
    }
    for warning in &ended.warnings {
        out.note(format!("  warning: {}", plain(warning)));
    }
    let full = ended.fault.as_ref().is_some_and(|fault| fault.code == Code::DiskFull);
    // The same status as where there was no room for the artifact.
    if ended.outcome == Outcome::Failed && full { Exit::DiskFull.into() } else { ended.outcome.exit().into() }
}

/// The step that went wrong: the last with a fault.
pub fn failed_step(report: &Report) -> Option<&StepRecord> {
    report.steps.iter().rev().find(|step| step.fault.is_some())
}

/// What a deployment is for, as a verb.
pub fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Deploy => "deploy",
        Kind::Rollback => "rollback to",
    }
}

/// A step that took less is bookkeeping, which only `--json` shows.
const TELLING: Duration = Duration::from_millis(20);

/// Whether a step says something to a person: it failed, took its time, or hasn't ended.
pub fn is_telling(step: &StepRecord) -> bool {
    step.fault.is_some() || step.took_ms.is_none_or(|ms| Duration::from_millis(ms) >= TELLING)
}

/// A step on one line, as `why` shows it too.
pub fn step_line(step: &StepRecord) -> String {
    let took = step.took_ms.map(|ms| span(Duration::from_millis(ms))).unwrap_or_default();
    let mark = match (&step.fault, step.took_ms) {
        (Some(_), _) => "fail",
        (None, Some(_)) => "ok",
        (None, None) => "",
    };
    let line = format!("  {mark:<5}{:<11}{:<44} {took:>8}", step.state.as_str(), plain(&step.what));
    line.trim_end().to_owned()
}

/// What a deployment waits for: "web@2.service to become ready, 3.2 s of at most 60 s".
pub fn waiting_text(waiting: &Waiting, now: Timestamp) -> String {
    format!("{}, {} of at most {}", plain(&waiting.what), span(waiting.since.until(now)), span(waiting.at_most))
}

/// Follows until the deployment is over, over a restart of the daemon too.
async fn to_the_end(id: &DeploymentId, context: &Context<'_>, view: &mut View<'_>) -> Result<Report, ApiError> {
    let path = format!("/v1/deployments/{id}/events");
    let mut away_since = None::<Instant>;
    loop {
        let error = match context.client.events(&path).await {
            Ok(mut events) => match read(&mut events, view).await {
                Ok(Some(report)) => return Ok(report),
                Ok(None) => {
                    away_since = None;
                    ApiError::new(Code::Unreachable, "slotd closed the connection")
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let since = *away_since.get_or_insert_with(Instant::now);
        if error.fault.code != Code::Unreachable || since.elapsed() > AWAY {
            return Err(error);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One stream's reports; the last one, if it says that the deployment is over.
async fn read(events: &mut Events, view: &mut View<'_>) -> Result<Option<Report>, ApiError> {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = ticks.tick() => {
                view.tick();
                continue;
            }
        };
        let Some(Event { what, .. }) = event else { return Ok(None) };
        let EventKind::Deployment { report } = what else { continue };
        view.show(&report);
        if report.ended.is_some() {
            return Ok(Some(*report));
        }
    }
}

/// What has been shown, and the live line.
struct View<'a> {
    out: &'a Output,
    shown: usize,
    live: ProgressBar,
    now: String,
    waiting: Option<Waiting>,
    /// What was told of the apps that come up first.
    ahead: Vec<(AppName, DependencyState)>,
}

impl<'a> View<'a> {
    fn new(out: &'a Output) -> Self {
        let live = if out.is_live() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("  {spinner} {wide_msg}");
        live.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        View { out, shown: 0, live, now: String::new(), waiting: None, ahead: Vec::new() }
    }

    /// A line for each step that has ended since, and what it waits for now.
    fn show(&mut self, report: &Report) {
        let over = report.ended.is_some();
        for seen in &report.dependencies {
            self.went_ahead(seen);
        }
        for step in report.steps.iter().skip(self.shown) {
            if step.took_ms.is_none() && !over {
                break;
            }
            self.shown += 1;
            if !is_telling(step) {
                continue;
            }
            self.live.suspend(|| {
                self.out.line(step_line(step));
                if let Some(fault) = &step.fault {
                    self.out.line(format!("       {}", self.out.tone(Tone::Bad, &plain(&fault.to_string()))));
                }
            });
        }
        let step = report.steps.iter().rev().find(|step| step.took_ms.is_none());
        let first = report.dependencies.iter().find(|it| it.state == DependencyState::Deploying);
        self.now = match (step, first) {
            (Some(step), _) => format!("{}: {}", step.state, plain(&step.what)),
            (None, Some(first)) => format!("{}: {} goes first", report.state, dependency(first)),
            (None, None) => report.state.to_string(),
        };
        self.waiting.clone_from(&report.waiting);
        self.tick();
    }

    /// A line for each app that has come up first, or hasn't.
    fn went_ahead(&mut self, seen: &Dependency) {
        let told = (seen.app.clone(), seen.state);
        let settled = seen.state != DependencyState::Deploying && seen.next.is_none();
        if !settled || self.ahead.contains(&told) {
            return;
        }
        self.ahead.push(told);
        self.live.suspend(|| self.out.line(went_line(seen)));
    }

    fn tick(&self) {
        let text = match &self.waiting {
            Some(waiting) => format!("{}: waits for {}", self.now, waiting_text(waiting, Timestamp::now())),
            None => self.now.clone(),
        };
        self.live.set_message(text);
        self.live.tick();
    }

    fn clear(&self) {
        self.live.finish_and_clear();
    }
}
