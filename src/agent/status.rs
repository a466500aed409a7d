//! How an app stands: what its task knows beside what systemd says at this moment.

use crate::config::app::DeployMode;
use crate::control::api::AppStatus;
use crate::deployment::facts::Side;
use crate::deployment::host::is_awake;
use crate::model::{AppName, AppState, Code, DeploymentId, Fault, SlotName, State};
use crate::routes::{AnyRoute, Route as _};
use crate::slots::LinkState;
use crate::units::UnitControl;

use super::ask::View;
use super::deploy::side_of;
use super::registry::Registry;

/// How often a status is taken anew because a deployment began or ended while it was.
const LOOKS: usize = 3;

impl<U: UnitControl> Registry<U> {
    /// The app's status. What looks wrong only because a deployment began or ended between two questions is asked anew.
    pub(super) async fn app_status(&self, app: &AppName, mut view: View) -> AppStatus {
        for _ in 1..LOOKS {
            let status = self.status_by(app, &view).await;
            let AppState::Degraded { .. } = status.state else { return status };
            match self.view(app).await {
                Ok(now) if moment(&now) != moment(&view) => view = now,
                _ => return status,
            }
        }
        self.status_by(app, &view).await
    }

    async fn status_by(&self, app: &AppName, view: &View) -> AppStatus {
        let links = view.store.links().ok();
        let slot = |of: &LinkState| of.slot().cloned();
        let current = links.as_ref().and_then(|links| slot(&links.current));
        let (state, units) = self.state(app, view, current.as_ref()).await;
        let broken = self.broken_file(app).map(|fault| {
            let first = fault.message.lines().next().unwrap_or_default();
            format!("its settings are those from before its file broke: {first} (slotctl check {app})")
        });
        let fallback = links.as_ref().and_then(|links| slot(&links.fallback));
        let barred = fallback.as_ref().and_then(|fallback| {
            let by = view.store.barred_by(fallback, view.settings.versions).ok()??.slot;
            Some(format!(
                "the data has had the form of {by} since, which {fallback} doesn't know: going back needs --force"
            ))
        });
        AppStatus {
            app: app.clone(),
            state,
            current,
            fallback,
            deploy: deploy_mode(view.settings.deploy).to_owned(),
            strategy: view.settings.strategy.name.to_string(),
            pinned: view.pinned.clone(),
            frozen: view.frozen.clone(),
            scheduled: view.scheduled.clone(),
            units,
            deployment: view.deployment.clone(),
            last: view.last.clone(),
            waiting: view.waiting.clone(),
            refused: view.refused.clone(),
            notes: view
                .problem
                .iter()
                .map(ToString::to_string)
                .chain(broken)
                .chain(barred)
                .chain(view.notes.clone())
                .collect(),
        }
    }

    /// The app's state, and its units as systemd has them.
    async fn state(&self, app: &AppName, view: &View, current: Option<&SlotName>) -> (AppState, Vec<String>) {
        let degraded = |fault: Fault| AppState::Degraded { fault: Box::new(fault) };
        if let Some(fault) = view.fault.as_ref().filter(|_| !view.orphaned) {
            return (degraded(fault.clone()), Vec::new());
        }
        let Some(current) = current else {
            return (if view.orphaned { AppState::Orphaned } else { AppState::Empty }, Vec::new());
        };
        let side = match side_of(&view.store, current) {
            Ok(side) => side,
            Err(_) if view.orphaned => return (AppState::Orphaned, Vec::new()),
            Err(fault) => return (degraded(fault), Vec::new()),
        };
        let Units { shown, runs, down } = self.units_of(&side).await;
        if view.orphaned {
            return (AppState::Orphaned, shown);
        }
        if view.store.layout().paused().exists() {
            return (AppState::Paused, shown);
        }
        let trouble = self.route_trouble(view).await;
        let gate = self.shared.units.status(&app.gate_unit()).await.ok();
        let rests = !runs && !gate.as_ref().is_some_and(is_awake);
        let state = match (&view.crash_loop, down) {
            // What was live is stopped on purpose. systemd's silence is another matter.
            (_, Some(fault)) if fault.code == Code::UnitExited && is_under_way(view) && !rests => AppState::Deploying,
            (Some(fault), _) => degraded(fault.clone()),
            // It serves, and its next restart would be an outage.
            (None, None) if trouble.is_none() && view.frozen.is_some() => AppState::Frozen,
            (None, None) => trouble.map_or(AppState::Online, degraded),
            (None, Some(_)) if rests => AppState::Stopped,
            (None, Some(fault)) => degraded(fault),
        };
        (state, shown)
    }

    /// The units of a side, as systemd has them.
    async fn units_of(&self, side: &Side) -> Units {
        let mut units = Units { shown: Vec::new(), runs: false, down: None };
        for unit in side.unit_names() {
            match self.shared.units.status(&unit).await {
                Ok(status) => {
                    let seen = status.seen(&unit);
                    units.shown.push(format!("{unit} {}", seen.state));
                    units.runs |= !status.is_down();
                    if !status.is_up() {
                        units.down.get_or_insert(Fault::new(Code::UnitExited, format!("{unit} is {}", seen.state)));
                    }
                }
                Err(error) => {
                    units.down.get_or_insert(Fault::new(Code::UnitControl, error.to_string()));
                    units.runs = true;
                }
            }
        }
        units
    }

    /// What is wrong with the app's route, though its users may not have noticed yet.
    async fn route_trouble(&self, view: &View) -> Option<Fault> {
        let settings = &view.settings;
        let route = AnyRoute::new(settings, view.store.layout(), self.shared.units.clone());
        route.observe().await.map_or_else(Some, |observed| observed.trouble)
    }
}

/// Units as systemd has them.
struct Units {
    /// "web@1.4.2.service active/running".
    shown: Vec<String>,
    /// One of them at least isn't down, or systemd doesn't tell.
    runs: bool,
    /// The first that isn't up.
    down: Option<Fault>,
}

/// Whether a deployment is at work; one that waits for its turn isn't.
fn is_under_way(view: &View) -> bool {
    view.deployment.as_ref().is_some_and(|report| report.state != State::Queued)
}

/// Which deployments are under way and over: where it changes, what was asked before says nothing any more.
fn moment(view: &View) -> [Option<&DeploymentId>; 2] {
    [&view.deployment, &view.last].map(|report| report.as_ref().map(|report| &report.id))
}

fn deploy_mode(mode: DeployMode) -> &'static str {
    match mode {
        DeployMode::Automatic => "automatic",
        DeployMode::Manual => "manual",
    }
}
