//! What goes ahead of a deployment: the apps that its own app depends on come up first, in their order.
//!
//! No app's task waits for another one. What waits for its turn in the queue is led by a task of its own, which asks
//! the other apps' tasks, each of which deploys for itself, under an id of its own. What became of them stands in the
//! report, and so in the record of the queue; the deployment that was asked for says in its message before which other
//! one it goes. So after a restart it is known what was begun.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::app::DeployMode;
use crate::control::api::{ApiError, Event, RedeployRequest};
use crate::control::service::Caller;
use crate::model::dependency::{Dependency, DependencyState};
use crate::model::deployment::{Blame, Ended, Kind, Otherwise};
use crate::model::{AppName, Code, DeploymentId, Fault, Outcome, Report, SlotName};
use crate::units::UnitControl;

use super::app::App;
use super::ask::{AppHandle, Ask, View};
use super::deploy::Wanted;
use super::queue::ended;
use super::set::id_of;
use super::shared::Shared;
use super::turn::Turn;

/// How long the end of a deployment may be told by nobody though its app has gone on: the history writes beside it.
const LOST_AFTER: u32 = 10;

/// How long nothing may be heard of an app before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What goes ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ahead {
    /// Nothing: it only begins if the others are up.
    #[default]
    Nothing,
    /// What is under way of the others: it goes by itself, and so do they.
    UnderWay,
    /// That, and what waits for them: somebody wants it live.
    Staged,
}

/// What leads a deployment that waits.
pub(super) struct Leading {
    id: DeploymentId,
    task: JoinHandle<()>,
    news: mpsc::Receiver<Led>,
}

/// How far that has come.
pub(super) enum Led {
    /// How the others do now.
    Seen(Vec<Dependency>),
    /// All that was to go ahead has; or the first that didn't end well.
    Over(Result<(), Fault>),
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<U: UnitControl> App<U> {
    /// Whether what waits may begin: nothing has to go ahead of it any more. Sees to it that it does.
    pub(super) fn is_led(&mut self) -> bool {
        let waits = self.queued.as_ref().filter(|wanted| wanted.ahead != Ahead::Nothing);
        let Some(Wanted { report, ahead, .. }) = waits else {
            self.leading = None;
            return true;
        };
        if self.ground.settings.depends_on.is_empty() {
            self.leading = None;
            return true;
        }
        if self.leading.as_ref().is_none_or(|leading| leading.id != report.id) {
            let (to, news) = mpsc::channel(1);
            let leader = Leader {
                shared: self.ground.shared.clone(),
                events: self.ground.shared.events.listen(),
                report: report.clone(),
                staged: *ahead == Ahead::Staged,
                to,
            };
            self.leading = Some(Leading { id: report.id.clone(), task: tokio::spawn(leader.lead()), news });
        }
        false
    }

    /// Takes in how far it has come.
    pub(super) fn led(&mut self, led: Led) {
        let id = self.leading.as_ref().map(|leading| leading.id.clone());
        if matches!(led, Led::Over(_)) {
            self.leading = None;
        }
        // What was led may have been cancelled, or another one be in its place.
        let Some(wanted) = self.queued.as_mut().filter(|wanted| Some(&wanted.report.id) == id.as_ref()) else { return };
        match led {
            Led::Seen(dependencies) => {
                wanted.report.dependencies = dependencies;
                let (report, turn) = (wanted.report.clone(), Turn::waiting(wanted));
                if self.kept.as_ref() == Some(&report.id) {
                    self.keep(&turn);
                }
                self.tell(&report);
            }
            Led::Over(Ok(())) => wanted.ahead = Ahead::Nothing,
            Led::Over(Err(fault)) => {
                if let Some(Wanted { report, .. }) = self.queued.take() {
                    self.not_begun(report, fault);
                }
            }
        }
    }

    /// Something that goes ahead of it didn't end well: it isn't begun, and not tried again by itself.
    fn not_begun(&mut self, report: Report, fault: Fault) {
        tracing::error!(
            SLOTD_APP = self.name(),
            SLOTD_DEPLOYMENT = report.id.to_string(),
            "{} isn't begun: {fault}",
            report.id
        );
        let failed = report.dependencies.iter().find(|it| it.state == DependencyState::Failed);
        let why = failed.and_then(|it| it.deployment.as_ref()).map(|id| format!("slotctl why {id}; "));
        let next = format!("{}slotctl activate {} {}", why.unwrap_or_default(), self.name(), report.to);
        let ended = Ended { blame: None, next: Some(next), ..ended(Outcome::Failed, fault, Blame::Environment) };
        self.last = Some(self.end_unbegun(report, ended, true));
        self.plan_retry();
    }

    /// What would go live next: the highest release that waits, or what is live with settings that wait for it. Nothing,
    /// where somebody said that the app stays as it is.
    pub(super) fn goes_next(&self) -> Result<Option<SlotName>, Fault> {
        if self.rests() {
            return Ok(None);
        }
        let release = self.releases()?.into_iter().next();
        let waits = release.is_none() && self.is_manual() && !self.staged()?.is_empty();
        Ok(release.or_else(|| self.ground.current().filter(|_| waits)))
    }

    /// Brings up what waits for this app, because another one is to go live after it; the id under which it does.
    pub(super) async fn go_ahead(
        &mut self,
        before: &DeploymentId,
        caller: &Caller,
    ) -> Result<Option<DeploymentId>, ApiError> {
        if self.goes_next()?.is_none() {
            return Ok(None);
        }
        self.check_idle()?;
        let message = Some(message_before(before));
        let accepted = if self.is_manual() {
            let request = RedeployRequest { message, without_dependencies: true, ..Default::default() };
            self.deploy_staged(request, caller).await?.accepted
        } else {
            let Some(slot) = self.next_by_itself()? else { return Ok(None) };
            self.accept(Kind::Deploy, slot, caller, message, Otherwise::default(), Ahead::Nothing).await?
        };
        Ok(id_of(accepted))
    }

    fn is_manual(&self) -> bool {
        self.ground.settings.deploy == DeployMode::Manual
    }
}

/// The next word of what leads; never, while nothing does.
pub(super) async fn next_of(leading: &mut Option<Leading>) -> Led {
    match leading {
        Some(leading) => match leading.news.recv().await {
            Some(led) => led,
            None => Led::Over(Err(Fault::new(Code::Internal, "what has to go ahead of it was torn"))),
        },
        None => std::future::pending().await,
    }
}

/// What a deployment says that goes before another one.
fn message_before(id: &DeploymentId) -> String {
    format!("before {id}")
}

/// Brings the others up, one after the other.
struct Leader<U: UnitControl> {
    shared: Shared<U>,
    events: broadcast::Receiver<Event>,
    report: Report,
    staged: bool,
    to: mpsc::Sender<Led>,
}

impl<U: UnitControl> Leader<U> {
    async fn lead(mut self) {
        self.shared.directory.completed().await;
        let result = self.lead_all().await;
        // If nobody listens any more, nobody waits.
        let _ = self.to.send(Led::Over(result)).await;
    }

    async fn lead_all(&mut self) -> Result<(), Fault> {
        let before = std::mem::take(&mut self.report.dependencies);
        let apps = self.shared.directory.needs_in_order(&self.report.id.app);
        for seen in join_all(apps.iter().map(|app| self.seen(app))).await {
            let known = before.iter().find(|it| it.app == seen.app).and_then(|it| it.deployment.clone());
            self.report.dependencies.push(Dependency { deployment: known, ..seen });
        }
        self.show().await;
        for (at, app) in apps.iter().enumerate() {
            // Who isn't there is told by the deployment itself.
            let Some(handle) = self.shared.directory.handle(app) else { continue };
            let led = self.lead_one(at, &handle).await;
            let seen = self.seen(app).await;
            let shown = &mut self.report.dependencies[at];
            (shown.slot, shown.next) = (seen.slot, None);
            shown.state = if led.is_ok() { seen.state } else { DependencyState::Failed };
            self.show().await;
            led?;
        }
        Ok(())
    }

    /// What is under way of one app comes to its end, and then what waits for it.
    async fn lead_one(&mut self, at: usize, handle: &AppHandle) -> Result<(), Fault> {
        let app = self.report.dependencies[at].app.clone();
        let view = self.view(&app, handle).await?;
        // Begun before slotd was restarted; perhaps just before this could be written down.
        let own = [&view.deployment, &view.queued, &view.last].into_iter().flatten().find(|it| self.is_own(it));
        if let Some(id) = own.map(|it| it.id.clone()).or_else(|| self.report.dependencies[at].deployment.clone()) {
            let own = own.is_some();
            if self.see_through(at, &id, handle).await? || own {
                return Ok(());
            }
        }
        loop {
            let view = self.view(&app, handle).await?;
            if let Some(report) = view.deployment.or(view.queued) {
                self.deploys(at, &report.id, Some(&report.to)).await;
                if self.see_through(at, &report.id, handle).await? {
                    return Ok(());
                }
                continue;
            }
            if !self.staged {
                return Ok(());
            }
            match self.ask(handle).await.unwrap_or_else(|| Err(torn(&app).into())) {
                Ok(None) => return Ok(()),
                Ok(Some(id)) => {
                    self.deploys(at, &id, None).await;
                    return self.see_through(at, &id, handle).await.map(drop);
                }
                // Something else began meanwhile.
                Err(error) if error.fault.code == Code::RequestBusy => self.hear(&app).await,
                Err(error) => {
                    let why = format!("{app} can't go before {}: {}", self.report.id, error.fault);
                    return Err(Fault::new(Code::DependencyFailed, why));
                }
            }
        }
    }

    /// Waits for the end of a deployment of another app, which has to be a good one. Whether it was begun for this one.
    async fn see_through(&mut self, at: usize, id: &DeploymentId, handle: &AppHandle) -> Result<bool, Fault> {
        let mut lost = 0;
        loop {
            let view = self.view(&id.app, handle).await?;
            let shown = [view.deployment, view.queued, view.last].into_iter().flatten().find(|it| it.id == *id);
            let report = match shown {
                Some(report) => Some(report),
                None => self.shared.history.deployment(id).await.ok().flatten(),
            };
            match report {
                Some(Report { ended: Some(ended), .. }) if ended.outcome != Outcome::Done => {
                    let why = ended.fault.map(|fault| format!(": {fault}")).unwrap_or_default();
                    let message = format!("{id}, which goes before {}, ended {}{why}", self.report.id, ended.outcome);
                    return Err(Fault::new(Code::DependencyFailed, message));
                }
                Some(report) if report.ended.is_some() => return Ok(self.is_own(&report)),
                Some(report) => self.deploys(at, id, Some(&report.to)).await,
                None if lost == LOST_AFTER => {
                    let message = format!("nobody knows how {id} ended, which goes before {}", self.report.id);
                    return Err(Fault::new(Code::DependencyFailed, message));
                }
                None => lost += 1,
            }
            self.hear(&id.app).await;
        }
    }

    /// Whether another app's deployment was begun for this one.
    fn is_own(&self, report: &Report) -> bool {
        report.message.as_ref() == Some(&message_before(&self.report.id))
    }

    async fn view(&self, app: &AppName, handle: &AppHandle) -> Result<View, Fault> {
        handle.view().await.ok_or_else(|| torn(app))
    }

    /// Asks an app to deploy what waits for it.
    async fn ask(&self, handle: &AppHandle) -> Option<Result<Option<DeploymentId>, ApiError>> {
        let (answer, answered) = oneshot::channel();
        // Who asked for this one asked for that one too. Whether they may was decided at the door.
        let caller = Caller { uid: 0, name: self.report.by.clone() };
        handle.asks.send(Ask::GoAhead(self.report.id.clone(), caller, answer)).await.ok()?;
        answered.await.ok()
    }

    /// How an app does now, and what waits for it.
    async fn seen(&self, app: &AppName) -> Dependency {
        let seen = self.shared.directory.neighbours.seen(app, &self.shared.units).await;
        let handle = self.shared.directory.handle(app).filter(|_| self.staged);
        let next = match handle {
            Some(handle) => handle.goes_next().await,
            None => None,
        };
        Dependency { next, ..seen }
    }

    /// Shows that a deployment of another app is under way; the first time it is written down before anything is waited for.
    async fn deploys(&mut self, at: usize, id: &DeploymentId, to: Option<&SlotName>) {
        let shown = &mut self.report.dependencies[at];
        let before = shown.clone();
        (shown.state, shown.deployment) = (DependencyState::Deploying, Some(id.clone()));
        shown.next = to.cloned().or(shown.next.take());
        if *shown != before {
            self.show().await;
        }
    }

    async fn show(&self) {
        // If nobody listens any more, nobody waits.
        let _ = self.to.send(Led::Seen(self.report.dependencies.clone())).await;
    }

    /// Waits until something is heard of an app, or for a while.
    async fn hear(&mut self, app: &AppName) {
        let heard = async {
            loop {
                match self.events.recv().await {
                    Ok(event) if event.app != *app => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = tokio::time::timeout(ASK_AGAIN, heard).await;
    }
}

fn torn(app: &AppName) -> Fault {
    Fault::new(Code::Internal, format!("the task of {app} is gone: `systemctl restart slotd`"))
}
