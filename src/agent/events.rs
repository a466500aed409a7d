//! What an app's task tells: to the stream of events, and, of what no deployment's report keeps, to the history.

use crate::control::api::{EventKind, PastEvent};
use crate::control::service::Caller;
use crate::history::{self, History, HistoryError};
use crate::model::phases::PhaseSeen;
use crate::model::{AppName, Report, SlotName, Timestamp};
use crate::units::UnitControl;

use super::app::App;
use super::deploy::Running;
use super::shared::Events;
use super::verbs::Verb;

/// Most deployments whose phases are told of.
const MOST_DEPLOYMENTS: u32 = 100;

impl<U: UnitControl> App<U> {
    /// Tells of something that no deployment's report keeps.
    pub(super) fn event(&self, what: EventKind) {
        let app = self.ground.settings.name.clone();
        let (kind, message) = (what.word(), what.to_string());
        let event = history::Event { at: Timestamp::now(), app: Some(app.clone()), deployment: None, kind, message };
        let history = self.ground.shared.history.clone();
        tokio::spawn(async move {
            if let Err(error) = history.event(event).await {
                tracing::warn!("the history lacks an event of {app}: {error}");
            }
        });
        self.ground.shared.events.tell(&self.ground.settings.name, what);
    }

    /// An operator changed something that no deployment tells of.
    pub(super) fn noted(&self, verb: Verb, slot: Option<&SlotName>, caller: &Caller, message: Option<String>) {
        let (verb, by) = (verb.as_str().to_owned(), caller.name.clone());
        self.event(EventKind::Operator { verb, by, slot: slot.cloned(), message });
    }

    pub(super) fn tell(&self, report: &Report) {
        let what = EventKind::Deployment { report: Box::new(report.clone()) };
        self.ground.shared.events.tell(&self.ground.settings.name, what);
    }

    /// Passes on to the stream of events what the deployment shows, and its phases as they begin and end.
    pub(super) fn relay(&self, running: &Running) {
        let (mut shown, events) = (running.shown.clone(), self.ground.shared.events.clone());
        let app = self.ground.settings.name.clone();
        // What an interrupted one had told before isn't told again.
        let mut told = match &*running.shown.borrow() {
            Some(report) if !report.steps.is_empty() => report.phases(),
            _ => Vec::new(),
        };
        tokio::spawn(async move {
            while shown.changed().await.is_ok() {
                let report = shown.borrow_and_update().clone();
                if let Some(report) = report {
                    tell_phases(&events, &app, &report, &mut told);
                    events.tell(&app, EventKind::Deployment { report: Box::new(report) });
                }
            }
        });
    }
}

/// Tells of the phases that began or ended since.
fn tell_phases(events: &Events, app: &AppName, report: &Report, told: &mut Vec<PhaseSeen>) {
    let now = report.phases();
    for (at, phase) in now.iter().enumerate() {
        let before = told.get(at);
        if before.is_none() {
            events.tell(app, phase_event(report, &PhaseSeen { ended: None, fault: None, ..phase.clone() }));
        }
        if phase.ended.is_some() && before.is_none_or(|before| before.ended.is_none()) {
            events.tell(app, phase_event(report, phase));
        }
    }
    *told = now;
}

fn phase_event(report: &Report, phase: &PhaseSeen) -> EventKind {
    EventKind::Phase {
        deployment: report.id.clone(),
        slot: report.to.clone(),
        phase: phase.phase,
        began: phase.began,
        ended: phase.ended,
        fault: phase.fault.clone().map(Box::new),
    }
}

/// The newest events of an app, newest first: what the history keeps of them, and what the reports of deployments tell.
/// `open`: the deployments that the history has not, or not to their end.
pub async fn past(
    history: &History,
    app: &AppName,
    open: Vec<Report>,
    limit: u32,
) -> Result<Vec<PastEvent>, HistoryError> {
    let told = history.events(Some(app), limit).await?.into_iter();
    let mut past: Vec<PastEvent> = told
        .map(|history::Event { at, deployment, kind, message, .. }| PastEvent { at, deployment, kind, message })
        .collect();
    let mut reports = history.deployments(app, limit.min(MOST_DEPLOYMENTS)).await?;
    reports.retain(|report| !open.iter().any(|open| open.id == report.id));
    past.extend(reports.iter().chain(&open).flat_map(told_by));
    past.sort_by_key(|event| std::cmp::Reverse(event.at));
    past.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(past)
}

/// What a report tells: who asked, the phases, what was said meanwhile, the end. The last first, as events are listed.
fn told_by(report: &Report) -> Vec<PastEvent> {
    let event = |at, kind: String, message| PastEvent { at, deployment: Some(report.id.clone()), kind, message };
    let message = report.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    let asked = format!("{} to {}, asked for by {}{message}", report.id, report.to, report.by);
    let mut told = vec![event(report.queued, "deployment.asked".to_owned(), asked)];
    for phase in report.phases() {
        let begins = phase_event(report, &PhaseSeen { ended: None, fault: None, ..phase.clone() });
        told.push(event(phase.began, begins.word(), begins.to_string()));
        if let Some(ended) = phase.ended {
            let ends = phase_event(report, &phase);
            told.push(event(ended, ends.word(), ends.to_string()));
        }
    }
    for said in &report.said {
        told.push(event(said.at, format!("operator.{}", said.say), said.to_string()));
    }
    if let Some(ended) = &report.ended {
        let what = EventKind::Deployment { report: Box::new(report.clone()) };
        told.push(event(ended.at, what.word(), what.to_string()));
    }
    told.sort_by_key(|event| event.at);
    told.reverse();
    told
}
