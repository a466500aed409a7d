//! The registry as the control server's service: questions that systemd or the disk answers are answered here, so
//! that an app's task never waits for either on somebody's behalf.

use std::cmp::Reverse;
use std::path::PathBuf;

use tokio::sync::{broadcast, oneshot};

use crate::artifact::Reserve;
use crate::artifact::limits::look_for_room;
use crate::control::api::{
    Accepted, ActivateRequest, ApiError, AppStatus, BuildLog, DaemonStatus, DeployedStaged, DiffQuery, Difference,
    Event, FreezeRequest, Frozen, PastEvent, PinRequest, Pinned, PlanQuery, Planned, PruneQuery, Pruned,
    QuarantineItem, RedeployRequest, RetryRequest, RollbackRequest, SayRequest, ScaleRequest, SetAnswer, SetRequest,
    Setting, SlotDetail, SlotInfo, Staged, UnpinRequest, UploadQuery, Uploaded,
};
use crate::control::service::{Caller, Service};
use crate::durable;
use crate::model::deployment::{Otherwise, Say};
use crate::model::release::Provenance;
use crate::model::slot::{Pin, SlotState};
use crate::model::{AppName, Code, DeploymentId, Fault, Layout, Report, SlotName, Timestamp};
use crate::slots::{Entry, Links, SlotStore, Stored, freeze_all, frozen_all, unfreeze_all};
use crate::units::UnitControl;

use super::ask::{Answer, AppHandle, Ask, Taken, View};
use super::build::Now;
use super::deploy::side_of;
use super::events::past;
use super::foresee::{PAST, foreseen};
use super::freeze::freeze_of;
use super::plan::planned;
use super::registry::Registry;
use super::settings::{difference, settings};

impl<U: UnitControl> Registry<U> {
    pub(super) async fn view(&self, app: &AppName) -> Result<View, ApiError> {
        self.get(app)?.view().await.ok_or_else(|| gone(app))
    }

    async fn ask<T>(&self, app: &AppName, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        let AppHandle { asks } = self.get(app)?;
        asks.send(ask(answer)).await.map_err(|_| gone(app))?;
        answered.await.map_err(|_| gone(app))?
    }

    /// What goes on in an app goes by the files; a task that is gone has nothing that waits.
    async fn have_all_look(&self) {
        for (_, handle) in self.all() {
            let _ = handle.asks.send(Ask::Look).await;
        }
    }
}

impl<U: UnitControl> Service for Registry<U> {
    async fn status(&self) -> DaemonStatus {
        let mut apps = Vec::new();
        for (name, handle) in self.all() {
            if let Some(view) = handle.view().await {
                apps.push(self.app_status(&name, view).await);
            }
        }
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since,
            health: self.health().await,
            frozen: frozen_all(&self.shared.state_dir),
            apps,
        }
    }

    async fn app(&self, app: &AppName) -> Result<AppStatus, ApiError> {
        let view = self.view(app).await?;
        Ok(self.app_status(app, view).await)
    }

    async fn slots(&self, app: &AppName) -> Result<Vec<SlotInfo>, ApiError> {
        let view = self.view(app).await?;
        let links = view.store.links().map_err(|error| error.fault())?;
        let mut entries = view.store.slots().map_err(|error| error.fault())?;
        let order = view.settings.versions;
        entries.sort_by(|a, b| {
            order
                .compare(&b.name.version, &a.name.version)
                .then(Reverse(a.name.redeployment).cmp(&Reverse(b.name.redeployment)))
        });
        let waits = |slot: &SlotName| view.waiting.iter().find(|item| item.what == slot.to_string());
        let shown = |entry: &Entry| {
            let info = info(&view, entry, &links);
            SlotInfo { waits: waits(&info.slot).map(|item| item.reason.clone()), ..info }
        };
        // One that was refused before is shown as it is now.
        let is_slot = |taken: &SlotInfo| {
            entries.iter().any(|entry| entry.name == taken.slot && matches!(entry.stored, Stored::Slot(_)))
        };
        let taken = view.taking.as_ref().and_then(Taken::info).filter(|taken| !is_slot(taken));
        let there =
            entries.iter().filter(|entry| taken.as_ref().is_none_or(|taken| taken.slot != entry.name)).map(shown);
        let there: Vec<SlotInfo> = there.collect();
        Ok(taken.into_iter().chain(there).collect())
    }

    async fn slot(&self, app: &AppName, slot: &SlotName) -> Result<SlotDetail, ApiError> {
        let view = self.view(app).await?;
        let links = view.store.links().map_err(|error| error.fault())?;
        let entry = view.store.slot(slot).ok_or_else(|| {
            ApiError::new(Code::UnknownSlot, format!("{app} has no slot {slot}")).next(format!("slotctl list {app}"))
        })?;
        let info = info(&view, &entry, &links);
        let record = match &entry.stored {
            Stored::Slot(record) => Some((**record).clone()),
            Stored::Refused(_) | Stored::Damaged(_) => None,
        };
        let layout = view.store.layout();
        let manifest = record.as_ref().and_then(|record| std::fs::read(layout.manifest(&record.tree)).ok());
        let files = manifest.and_then(|bytes| serde_json::from_slice::<crate::artifact::Manifest>(&bytes).ok());
        Ok(SlotDetail {
            info,
            units: record.as_ref().map(|record| record.units.clone()).unwrap_or_default(),
            quarantine: entry.quarantine,
            files: files.map(|manifest| manifest.files),
            tree_path: record.as_ref().map(|record| layout.tree(&record.tree).display().to_string()),
            record,
        })
    }

    async fn plan(&self, app: &AppName, slot: &SlotName, query: PlanQuery) -> Result<Planned, ApiError> {
        let otherwise = Otherwise { strategy: query.strategy, migration: query.migration };
        let view = self.view(app).await?;
        let planned = planned(app, &view, slot, otherwise)?;
        let past = self.shared.history.deployments(app, PAST).await.unwrap_or_default();
        let foreseen = foreseen(&view, &self.shared.units, &past, &planned).await?;
        Ok(Planned { dependencies: self.dependencies(app).await, foreseen, ..planned })
    }

    async fn plan_route(&self, app: &AppName, query: PlanQuery) -> Result<Planned, ApiError> {
        let otherwise = Otherwise { strategy: query.strategy, migration: query.migration };
        self.planned_route(app, &self.view(app).await?, otherwise).await
    }

    async fn plan_staged(&self, app: &AppName, query: PlanQuery, caller: Caller) -> Result<Planned, ApiError> {
        let slot = self.ask(app, |answer| Ask::Prepare(caller, answer)).await?;
        self.plan(app, &slot, query).await
    }

    async fn upload_limit(&self, app: &AppName) -> Result<u64, ApiError> {
        Ok(self.view(app).await?.settings.limits.packed_bytes)
    }

    async fn upload_room(&self, app: &AppName, bytes: u64) -> Result<(), ApiError> {
        self.get(app)?;
        let layout = Layout::new(&self.shared.state_dir, &self.shared.run_dir, app.clone());
        look_for_room(&layout.spool(), bytes, Reserve::default()).map_err(|error| error.fault().into())
    }

    async fn upload_path(&self, app: &AppName) -> Result<PathBuf, ApiError> {
        Ok(durable::aside_in(&self.view(app).await?.store.layout().spool()))
    }

    async fn upload(
        &self,
        app: &AppName,
        path: PathBuf,
        query: UploadQuery,
        caller: Caller,
    ) -> Result<Uploaded, ApiError> {
        self.ask(app, |answer| Ask::Upload(path, query, caller, answer)).await
    }

    async fn activate(&self, app: &AppName, request: ActivateRequest, caller: Caller) -> Result<Accepted, ApiError> {
        let accepted = self.ask(app, |answer| Ask::Activate(request, caller, answer)).await?;
        Ok(self.with_dependencies(app, accepted).await)
    }

    async fn rollback(&self, app: &AppName, request: RollbackRequest, caller: Caller) -> Result<Accepted, ApiError> {
        self.ask(app, |answer| Ask::Rollback(request, caller, answer)).await
    }

    async fn scale(&self, app: &AppName, request: ScaleRequest, caller: Caller) -> Result<Accepted, ApiError> {
        self.ask(app, |answer| Ask::Scale(request, caller, answer)).await
    }

    async fn say(&self, app: &AppName, say: Say, request: SayRequest, caller: Caller) -> Result<Accepted, ApiError> {
        self.ask(app, |answer| Ask::Say(say, request.message, caller, answer)).await
    }

    async fn retry(&self, app: &AppName, request: RetryRequest, caller: Caller) -> Result<Accepted, ApiError> {
        self.ask(app, |answer| Ask::Retry(request, caller, answer)).await
    }

    async fn prune(&self, app: &AppName, query: PruneQuery, caller: Caller) -> Result<Pruned, ApiError> {
        self.ask(app, |answer| Ask::Prune { query, caller, answer }).await
    }

    async fn settings(&self, app: &AppName, reveal: bool) -> Result<Vec<Setting>, ApiError> {
        Ok(settings(&self.view(app).await?, reveal))
    }

    async fn set(&self, app: &AppName, request: SetRequest, caller: Caller) -> Result<SetAnswer, ApiError> {
        self.ask(app, |answer| Ask::Set(request, caller, answer)).await
    }

    async fn diff(&self, app: &AppName, query: DiffQuery) -> Result<Difference, ApiError> {
        difference(&self.view(app).await?, &self.shared.units, query).await
    }

    async fn staged(&self, app: &AppName) -> Result<Vec<Staged>, ApiError> {
        self.ask(app, Ask::Staged).await
    }

    async fn deploy_staged(
        &self,
        app: &AppName,
        request: RedeployRequest,
        caller: Caller,
    ) -> Result<DeployedStaged, ApiError> {
        let DeployedStaged { staged, accepted, .. } =
            self.ask(app, |answer| Ask::DeployStaged(request, caller, answer)).await?;
        Ok(DeployedStaged { staged, accepted: self.with_dependencies(app, accepted).await, report: None })
    }

    async fn redeploy(&self, app: &AppName, request: RedeployRequest, caller: Caller) -> Result<Accepted, ApiError> {
        self.ask(app, |answer| Ask::Redeploy(request, caller, answer)).await
    }

    async fn pin(&self, app: &AppName, request: PinRequest, caller: Caller) -> Result<Pinned, ApiError> {
        self.ask(app, |answer| Ask::Pin(request, caller, answer)).await
    }

    async fn unpin(&self, app: &AppName, request: UnpinRequest, caller: Caller) -> Result<Pinned, ApiError> {
        self.ask(app, |answer| Ask::Unpin(request, caller, answer)).await
    }

    async fn freeze(&self, app: Option<&AppName>, request: FreezeRequest, caller: Caller) -> Result<Frozen, ApiError> {
        if let Some(app) = app {
            return self.ask(app, |answer| Ask::Freeze(request, caller, answer)).await;
        }
        let freeze = freeze_of(request, &caller, true)?;
        let changed = freeze_all(&self.shared.state_dir, &freeze).map_err(|error| error.fault())?;
        tracing::info!("slotd is {freeze}");
        self.have_all_look().await;
        Ok(Frozen { app: None, freeze: Some(freeze), changed })
    }

    async fn unfreeze(&self, app: Option<&AppName>, caller: Caller) -> Result<Frozen, ApiError> {
        if let Some(app) = app {
            return self.ask(app, |answer| Ask::Unfreeze(caller, answer)).await;
        }
        let changed = unfreeze_all(&self.shared.state_dir).map_err(|error| error.fault())?;
        if changed {
            tracing::info!("all apps are unfrozen by {}", caller.name);
        }
        self.have_all_look().await;
        Ok(Frozen { app: None, freeze: None, changed })
    }

    async fn quarantined(&self, app: &AppName) -> Result<Vec<QuarantineItem>, ApiError> {
        let entries = self.view(app).await?.store.slots().map_err(|error| error.fault())?;
        let item = |entry: Entry| entry.quarantine.map(|quarantine| QuarantineItem { slot: entry.name, quarantine });
        Ok(entries.into_iter().filter_map(item).collect())
    }

    async fn quarantine_clear(
        &self,
        app: &AppName,
        slot: &SlotName,
        message: Option<String>,
        caller: Caller,
    ) -> Result<(), ApiError> {
        self.ask(app, |answer| Ask::Clear(slot.clone(), message, caller, answer)).await
    }

    async fn history(&self, app: &AppName, limit: u32) -> Result<Vec<Report>, ApiError> {
        self.get(app)?;
        self.shared.history.deployments(app, limit).await.map_err(|error| error.fault().into())
    }

    async fn deployment(&self, id: &DeploymentId) -> Result<Report, ApiError> {
        let view = self.view(&id.app).await?;
        if let Some(report) = [view.deployment, view.queued, view.scheduled, view.last]
            .into_iter()
            .flatten()
            .find(|report| report.id == *id)
        {
            return Ok(report);
        }
        let past = self.shared.history.deployment(id).await.map_err(|error| ApiError::from(error.fault()))?;
        past.ok_or_else(|| {
            ApiError::new(Code::UnknownDeployment, format!("there is no deployment {id}"))
                .next(format!("slotctl history {}", id.app))
        })
    }

    async fn past_events(&self, app: &AppName, limit: u32) -> Result<Vec<PastEvent>, ApiError> {
        let View { deployment, queued, last, .. } = self.view(app).await?;
        let mut open: Vec<Report> = Vec::new();
        for report in [deployment, queued, last].into_iter().flatten() {
            if !open.iter().any(|known| known.id == report.id) {
                open.push(report);
            }
        }
        past(&self.shared.history, app, open, limit).await.map_err(|error| error.fault().into())
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.listen()
    }

    async fn build_log(&self, app: &AppName, slot: &SlotName) -> Result<BuildLog, ApiError> {
        let view = self.view(app).await?;
        let running = match view.taking.map(|taken| taken.now) {
            Some(Now::Building(building, unit)) if building == *slot => Some(unit),
            _ => None,
        };
        let log = view.store.build_log(slot).map_err(|error| error.fault())?;
        if running.is_none() && log.is_none() {
            let message = match view.store.slot(slot) {
                Some(_) => format!("{slot} wasn't built: it is as it came"),
                None => format!("{app} has no slot {slot}"),
            };
            return Err(ApiError::new(Code::UnknownSlot, message).next(format!("slotctl list {app}")));
        }
        Ok(BuildLog { slot: slot.clone(), running, log })
    }

    async fn units(&self, app: &AppName, slot: Option<&SlotName>) -> Result<Vec<String>, ApiError> {
        let view = self.view(app).await?;
        let current = view.store.links().map_err(|error| error.fault())?.current.slot().cloned();
        let own = [app.gate_unit(), app.socket_unit()].map(|unit| unit.as_str().to_owned());
        let named = slot.or(current.as_ref());
        let Some(named) = named else { return Ok(own.to_vec()) };
        let side = side_of(&view.store, named)?;
        let units = side.unit_names().into_iter().map(|unit| unit.as_str().to_owned());
        Ok(match slot {
            Some(_) => units.collect(),
            None => own.into_iter().chain(units).collect(),
        })
    }
}

fn info(view: &View, entry: &Entry, links: &Links) -> SlotInfo {
    let store = &view.store;
    let slot = entry.name.clone();
    let (current, fallback) = (links.current.slot(), links.fallback.slot());
    let state = match (&entry.stored, &entry.quarantine) {
        (Stored::Refused(refused), _) => {
            SlotState::Failed { phase: refused.phase, fault: Box::new(refused.fault.clone()) }
        }
        (Stored::Damaged(reason), _) => {
            let fault = Fault::new(Code::SlotTampered, reason.clone());
            SlotState::Failed { phase: crate::model::slot::Phase::Processing, fault: Box::new(fault) }
        }
        (Stored::Slot(_), _) if current == Some(&slot) => SlotState::Active,
        (Stored::Slot(_), Some(quarantine)) => {
            SlotState::Failed { phase: quarantine.phase, fault: Box::new(quarantine.fault.clone()) }
        }
        (Stored::Slot(_), None) => SlotState::Ready,
    };
    let (artifact, created, origin, release) = match &entry.stored {
        Stored::Slot(record) => {
            (Some(record.artifact), record.created, Some(&record.origin), record.release.provenance())
        }
        Stored::Refused(refused) => (refused.artifact, refused.at, Some(&refused.origin), Provenance::default()),
        Stored::Damaged(_) => (None, Timestamp::from_unix_millis(0), None, Provenance::default()),
    };
    SlotInfo {
        fallback: fallback == Some(&slot),
        pinned: pin_of(store, entry),
        waits: None,
        // One that can't be told is refused when it is asked for.
        barred: store.barred_by(&slot, view.settings.versions).ok().flatten().map(|broken| broken.slot),
        slot,
        state,
        artifact,
        created,
        bytes: origin.map(|origin| origin.bytes).unwrap_or_default(),
        by: origin.map(|origin| origin.by.clone()).unwrap_or_default(),
        message: origin.and_then(|origin| origin.message.clone()),
        release,
    }
}

/// One that can't be read counts.
fn pin_of(store: &SlotStore, entry: &Entry) -> Option<Pin> {
    if !entry.pinned {
        return None;
    }
    store.pinned(Some(&entry.name)).unwrap_or_else(|error| {
        let message = Some(error.fault().to_string());
        Some(Pin { by: "somebody".to_owned(), at: Timestamp::from_unix_millis(0), message })
    })
}

fn gone(app: &AppName) -> ApiError {
    ApiError::new(Code::Internal, format!("the task of {app} is gone"))
        .next("journalctl -u slotd; systemctl restart slotd")
}
