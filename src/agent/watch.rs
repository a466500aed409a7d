//! The watch over the live slot between deployments: restarts counted, a crash loop told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::app::{CrashLoop, OnCrashLoop};
use crate::control::api::{EventKind, RollbackRequest};
use crate::control::service::Caller;
use crate::model::evidence::{Evidence, MAX_JOURNAL_LINES};
use crate::model::{AppState, Code, Fault, UnitName};
use crate::units::{UnitControl, UnitWatch};

use super::app::App;
use super::crash::CrashWatch;

/// How soon a watch that was lost, or couldn't be set, is tried again.
const REWATCH: Duration = Duration::from_secs(5);

/// How long systemd may take to answer a look. It takes milliseconds; the app's task waits for it, and others for that.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long changes are collected before a look: a restart is a dozen of them, and each look asks systemd for all that
/// it knows of a unit. systemd counts the restarts itself, so none is missed.
const COLLECT: Duration = Duration::from_millis(200);

/// Watches the units of the live slot.
pub struct LiveWatch<U> {
    units: U,
    of: BTreeMap<UnitName, CrashWatch>,
    watch: Option<UnitWatch>,
    look_at: Option<Instant>,
    /// The crash loop under way, if one is.
    pub looping: Option<Fault>,
}

impl<U: UnitControl> LiveWatch<U> {
    /// Watches nothing yet.
    pub fn new(units: U) -> Self {
        LiveWatch { units, of: BTreeMap::new(), watch: None, look_at: None, looping: None }
    }

    /// Watches these units from now on; those that were watched already keep their count.
    pub async fn set(&mut self, units: &[UnitName], rule: &CrashLoop) {
        self.of.retain(|unit, _| units.contains(unit));
        for unit in units {
            self.of.entry(unit.clone()).or_default();
        }
        if units.iter().all(|unit| self.of.get(unit).is_none_or(CrashWatch::is_new)) {
            // Another slot: what its predecessor did is over.
            self.looping = None;
        }
        self.watch = None;
        self.look(rule).await;
    }

    /// Whether it is one of the live slot's.
    pub fn watches(&self, unit: &UnitName) -> bool {
        self.of.contains_key(unit)
    }

    /// Waits until it is time to look. What it has heard meanwhile outlives a wait that is given up.
    pub async fn changed(&mut self) {
        loop {
            let look_at = self.look_at;
            let timer = async {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let Some(watch) = &mut self.watch else { return timer.await };
            let heard = tokio::select! {
                () = timer => return,
                changed = watch.changed() => changed.is_some(),
            };
            if !heard {
                self.watch = None;
            }
            let at = Instant::now() + if heard { COLLECT } else { REWATCH };
            self.look_at = Some(look_at.map_or(at, |look_at| look_at.min(at)));
        }
    }

    /// Looks at the units. Returns whether a crash loop began or ended.
    pub async fn look(&mut self, rule: &CrashLoop) -> bool {
        self.look_at = None;
        if self.watch.is_none() && !self.of.is_empty() {
            self.rewatch().await;
            if self.watch.is_none() {
                return false;
            }
        }
        let mut looping = None;
        for (unit, watch) in &mut self.of {
            let status = tokio::time::timeout(PATIENCE, self.units.status(unit)).await;
            let now = Instant::now().into_std();
            let Ok(Ok(status)) = status else {
                // Nothing is known, so nothing is told: neither that it began nor that it is over.
                self.look_at = Some(Instant::now() + REWATCH);
                return false;
            };
            watch.note(status.restarts, now);
            if watch.is_looping(rule, now) {
                looping = Some((unit.clone(), status, watch.recent(rule, now)));
            }
            let next = watch.next_look(rule, now).map(|rest| Instant::now() + rest);
            self.look_at = [self.look_at, next].into_iter().flatten().min();
        }
        let was = self.looping.is_some();
        self.looping = match looping {
            // The evidence is from when it was noticed first; only the watch costs something while it goes on.
            Some(_) if was => self.looping.take(),
            Some((unit, status, count)) => {
                let seen = status.seen(&unit);
                let journal = match &seen.invocation {
                    Some(invocation) => self.units.journal(invocation, MAX_JOURNAL_LINES).await,
                    None => Vec::new(),
                };
                let within = humantime::format_duration(rule.within);
                let fault = Fault::new(Code::CrashLoop, format!("{unit} was restarted {count} times within {within}"));
                Some(fault.with(Evidence { unit: Some(seen), journal, ..Evidence::default() }))
            }
            None => None,
        };
        was != self.looping.is_some()
    }

    async fn rewatch(&mut self) {
        let units: Vec<UnitName> = self.of.keys().cloned().collect();
        self.watch = None;
        if units.is_empty() {
            return;
        }
        let why = match tokio::time::timeout(PATIENCE, self.units.watch(&units)).await {
            Ok(Ok(watch)) => {
                self.watch = Some(watch);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "systemd doesn't answer".to_owned(),
        };
        tracing::warn!("the live slot can't be watched, it is tried again: {why}");
        self.look_at = Some(Instant::now() + REWATCH);
    }
}

impl<U: UnitControl> App<U> {
    /// Watches the units of what is live now.
    pub(super) async fn watch_live(&mut self) {
        let units = match self.ground.current().map(|slot| self.ground.side(&slot)) {
            Some(Ok(side)) => side.unit_names(),
            _ => Vec::new(),
        };
        let rule = self.ground.settings.crash_loop;
        self.live.set(&units, &rule).await;
    }

    /// A unit of the live slot changed.
    pub(super) async fn live_changed(&mut self) {
        let rule = self.ground.settings.crash_loop;
        if !self.live.look(&rule).await {
            return;
        }
        match self.live.looping.clone() {
            Some(fault) => {
                tracing::error!(SLOTD_APP = self.name(), "the live slot crash-loops: {fault}");
                self.event(EventKind::App { state: AppState::Degraded { fault: Box::new(fault) } });
                if self.ground.settings.on_crash_loop == OnCrashLoop::Rollback && self.check_idle().is_ok() {
                    let by = Caller { uid: 0, name: "automatic".into() };
                    let message = Some("the live slot crash-loops".into());
                    if let Err(error) =
                        self.rollback(RollbackRequest { message, ..RollbackRequest::default() }, &by).await
                    {
                        tracing::error!(SLOTD_APP = self.name(), "the crash loop can't be left: {error}");
                    }
                }
            }
            None => {
                tracing::info!(SLOTD_APP = self.name(), "the live slot stays up again");
                self.event(EventKind::App { state: AppState::Online });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fake::FakeUnits;

    const RULE: CrashLoop = CrashLoop { restarts: 5, within: Duration::from_secs(60) };

    async fn watched(fake: &FakeUnits) -> LiveWatch<FakeUnits> {
        fake.unit("web@1").runs();
        let mut live = LiveWatch::new(fake.clone());
        live.set(&[UnitName::new("web@1.service")], &RULE).await;
        live
    }

    /// How long it takes until there is something to look at; `None` within a minute.
    async fn next(live: &mut LiveWatch<FakeUnits>) -> Option<Duration> {
        let began = Instant::now();
        tokio::time::timeout(Duration::from_secs(60), live.changed()).await.ok().map(|()| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dozen_changes_are_one_look() {
        let fake = FakeUnits::new();
        let mut live = watched(&fake).await;
        (0..12).for_each(|_| drop(fake.unit("web@1").change(|_| {})));
        assert_eq!(next(&mut live).await, Some(COLLECT));
        assert!(!live.look(&RULE).await);
        assert_eq!(next(&mut live).await, None, "nothing is left to look at");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_outlives_a_wait_that_is_given_up_and_a_lost_watch_is_made_anew() {
        let fake = FakeUnits::new();
        let mut live = watched(&fake).await;
        drop(fake.unit("web@1").change(|_| {}));
        let brief = COLLECT / 2;
        assert!(tokio::time::timeout(brief, live.changed()).await.is_err());
        assert_eq!(next(&mut live).await, Some(COLLECT - brief));
        live.look(&RULE).await;

        fake.reload();
        assert_eq!(next(&mut live).await, Some(REWATCH));
        live.look(&RULE).await;
        drop(fake.unit("web@1").change(|status| status.restarts = 5));
        assert_eq!(next(&mut live).await, Some(COLLECT));
        assert!(live.look(&RULE).await, "a crash loop began");
    }
}
