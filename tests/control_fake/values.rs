//! An app and its deployments, as tests need them.

use slotd::control::api::*;
use slotd::model::deployment::{Ended, StepRecord};
use slotd::model::{AppName, AppState, Blame, DeploymentId, Fault, Kind, Outcome, Report, SlotName, State, Timestamp};

pub fn app_name() -> AppName {
    "web".parse().expect("app")
}

pub fn slot(text: &str) -> SlotName {
    text.parse().expect("slot")
}

pub fn id(number: u64) -> DeploymentId {
    DeploymentId { app: app_name(), number }
}

/// An app that is well.
pub fn online() -> AppStatus {
    AppStatus {
        app: app_name(),
        state: AppState::Online,
        current: Some(slot("2.0.0")),
        fallback: Some(slot("1.0.0")),
        deploy: "automatic".into(),
        strategy: "stop-start".into(),
        pinned: None,
        frozen: None,
        scheduled: None,
        units: vec!["web@2.0.0.service active/running".into()],
        deployment: None,
        last: None,
        waiting: vec![],
        refused: vec![],
        notes: vec!["accepts unsigned artifacts".into()],
    }
}

/// Deployment `number` of 3.0.0 over 2.0.0, just queued.
pub fn queued(number: u64) -> Report {
    Report {
        id: id(number),
        kind: Kind::Deploy,
        from: Some(slot("2.0.0")),
        to: slot("3.0.0"),
        by: "ann".into(),
        message: Some("the new page".into()),
        attempt: 1,
        queued: Timestamp::now(),
        scheduled: None,
        reroute: None,
        strategy: None,
        migration: None,
        dependencies: Vec::new(),
        state: State::Queued,
        waiting: None,
        steps: vec![],
        release: Default::default(),
        said: Vec::new(),
        measured: Default::default(),
        ended: None,
    }
}

/// The same, a step further.
pub fn step(mut report: Report, state: State, what: &str) -> Report {
    report.state = state;
    report.steps.push(StepRecord {
        state,
        what: what.into(),
        began: Timestamp::now(),
        took_ms: Some(120),
        fault: None,
    });
    report
}

/// The same, over.
pub fn ended(mut report: Report, outcome: Outcome, fault: Option<Fault>, blame: Option<Blame>) -> Report {
    report.state = State::Done;
    if let Some(step) = report.steps.last_mut() {
        step.fault.clone_from(&fault);
    }
    report.ended =
        Some(Ended { outcome, fault, phase: None, blame, at: Timestamp::now(), next: None, warnings: vec![] });
    report
}

pub fn deployment(number: u64) -> Accepted {
    Accepted::Deployment {
        id: id(number),
        kind: Kind::Deploy,
        bound: Some("stop 30s, start 90s".into()),
        dependencies: vec![],
    }
}
