//! Beginning a deployment, going on with an interrupted one, and what follows from its end.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::AppSettings;
use crate::deployment::facts::{Facts, How, Plan, Rerouted, Side, Via};
use crate::deployment::host::{Host, is_awake, target};
use crate::deployment::intent::{Intent, IntentFile};
use crate::deployment::side::{Found, choose};
use crate::deployment::stage::{Ruling, Settling, Stage, Target};
use crate::deployment::{Machine, Said, clock, drive, driver};
use crate::model::deployment::{Blame, Kind, Otherwise, Reroute};
use crate::model::slot::Phase;
use crate::model::{Code, DeploymentId, Fault, Link, Migration, Outcome, Report, SlotName, State, Timestamp, UnitName};
use crate::probes::Prober;
use crate::routes::AnyRoute;
use crate::slots::{LinkState, SlotError, SlotStore, compare};
use crate::units::{Active, UnitControl};

use super::ahead::Ahead;
use super::reroute::Going;
use super::shared::Shared;

/// A deployment that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What people are shown; its id is given.
    pub report: Report,
    /// On whose word.
    pub word: Word,
    /// What goes ahead of it.
    pub ahead: Ahead,
}

/// On whose word a deployment is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Nobody's: it was chosen, or is tried again, and nobody was told its id.
    Nobodys,
    /// That of whoever brought the release, and was told the id: a higher one may take its place.
    Bringers,
    /// An operator's, who named the slot: no release that comes by itself takes its place.
    Operators,
}

/// A deployment under way.
pub struct Running {
    /// Its id.
    pub id: DeploymentId,
    /// The slots that it is about.
    pub slots: Vec<SlotName>,
    /// How it stands.
    pub shown: watch::Receiver<Option<Report>>,
    /// To speak to it.
    pub words: mpsc::Sender<Said>,
    /// Its end.
    pub task: JoinHandle<driver::Driven>,
}

/// What a deployment needs of its app.
#[derive(Clone)]
pub struct Ground<U: UnitControl> {
    /// The app's settings.
    pub settings: Arc<AppSettings>,
    /// Its slots.
    pub store: Arc<SlotStore>,
    /// What all apps share.
    pub shared: Shared<U>,
}

impl<U: UnitControl> Ground<U> {
    /// Begins what is wanted.
    pub fn begin(&self, wanted: Wanted) -> Result<Running, Fault> {
        let reroute = self.settings.reroute().filter(|_| wanted.report.reroute.is_some());
        let facts = self.facts(&wanted.report, reroute.as_ref())?;
        let from = facts.from.as_ref().map(|side| side.slot.clone());
        let release = self.store.record(&wanted.report.to).map(|record| record.release.provenance());
        // An operator's word stays, for the next try.
        let migration = Some(facts.plan.migration).filter(|migration| !migration.is_none());
        let migration = wanted.report.migration.or(migration);
        let release = release.unwrap_or_default();
        let report = Report { from, release, migration, reroute, ..wanted.report };
        Ok(self.run(Machine::new(facts), report, true))
    }

    /// Goes on with what the last run of slotd left open, if it left something; brings links and gate in order.
    pub async fn recover(&self) -> Result<Option<Running>, Fault> {
        self.mend_current().await?;
        let file = IntentFile::of(self.store.layout());
        let intent = match file.read() {
            Ok(Some(intent)) => intent,
            Ok(None) => {
                self.store.drop_next().map_err(|error| error.fault())?;
                // What is held for no deployment would only keep the gate from its work.
                let _ = crate::durable::remove_file(&self.store.layout().hold());
                return Ok(None);
            }
            // Tried again: what can't be read just now is no reason to forget what is open.
            Err(error) if !error.is_damage() => return Err(error.fault()),
            Err(error) => {
                tracing::error!(
                    SLOTD_APP = self.settings.name.as_str(),
                    "the intent can't be read, current decides: {error}"
                );
                file.set_aside().map_err(|error| error.fault())?;
                match self.unreadable()? {
                    Some(intent) => intent,
                    None => {
                        let _ = crate::durable::remove_file(&self.store.layout().hold());
                        return Ok(None);
                    }
                }
            }
        };
        let found = self.found(&intent).await?;
        let stage = choose(&intent.facts, &intent.stage, &found);
        tracing::warn!(
            SLOTD_APP = self.settings.name.as_str(),
            SLOTD_DEPLOYMENT = intent.facts.id.to_string(),
            "{} was interrupted while {}; it goes on with {}",
            intent.facts.id,
            intent.stage.state(),
            stage.state()
        );
        let facts = intent.facts.clone();
        Ok(Some(self.run(Machine::resume(facts, stage), intent.report, false)))
    }

    /// The live slot, if `current` names a whole one.
    pub fn current(&self) -> Option<SlotName> {
        self.store.links().ok()?.current.slot().cloned()
    }

    /// How a deployment to `slot` would move.
    pub fn plan(&self, otherwise: Otherwise, kind: Kind, slot: &SlotName) -> Result<Plan, Fault> {
        let from = self.current().map(|slot| self.side(&slot)).transpose()?;
        Plan::of(&self.settings, how(&self.store, otherwise, slot)?, kind, from.as_ref(), &self.side(slot)?)
    }

    /// A slot with its units.
    pub fn side(&self, slot: &SlotName) -> Result<Side, Fault> {
        side_of(&self.store, slot)
    }

    /// `anew`: nothing of it is announced yet.
    fn run(&self, machine: Machine, report: Report, anew: bool) -> Running {
        let (words, mut heard) = mpsc::channel(4);
        let (shown, seen) = watch::channel(Some(report.clone()));
        let (id, slots) = (machine.facts().id.clone(), machine.facts().slots());
        let Going { settings, before } = self.going(machine.facts(), anew);
        let route = AnyRoute::new(&settings, self.store.layout(), self.shared.units.clone());
        let (store, units) = (Arc::clone(&self.store), self.shared.units.clone());
        let host = Host::new(settings, store, units, route, Some(self.shared.history.clone()), shown);
        let host = host.among(self.shared.directory.neighbours.clone());
        let host = match before {
            Some((slot, settings)) => host.coming_from(slot, settings),
            None => host,
        };
        let stopping = told_to_stop(self.shared.stopping.subscribe());
        let task = tokio::spawn(async move {
            let driven = async {
                host.learn_limits(machine.facts()).await;
                let machine = match anew {
                    true => {
                        let along = host.learn_along(machine.facts()).await;
                        machine.beside(along)
                    }
                    false => machine,
                };
                drive(machine, report, &host, &mut heard).await
            };
            tokio::select! {
                biased;
                // slotd goes: from here on nothing is done and nothing seen, units that stop with the host included.
                () = stopping => std::future::pending().await,
                driven = driven => driven,
            }
        });
        Running { id, slots, shown: seen, words, task }
    }

    fn facts(&self, report: &Report, reroute: Option<&Reroute>) -> Result<Facts, Fault> {
        let links = self.store.links().map_err(|error| error.fault())?;
        let from = links.current.slot().map(|slot| self.side(slot)).transpose()?;
        let to = self.side(&report.to)?;
        let via = match links.fallback.slot() == Some(&to.slot) && from.is_some() {
            true => Via::Fallback,
            false => Via::Next,
        };
        let otherwise = Otherwise { strategy: report.strategy, migration: report.migration };
        let how = how(&self.store, otherwise, &to.slot)?;
        let reroute = reroute.map(|to| Rerouted { to: to.clone(), rests: self.settings.refused_live() });
        let plan = match reroute {
            Some(_) => Plan::of(&self.settings.as_set(), how, report.kind, from.as_ref(), &to)?,
            None => Plan::of(&self.settings, how, report.kind, from.as_ref(), &to)?,
        };
        // On the way back nothing is waited for: what was live with them is live again.
        let needs = match report.kind {
            Kind::Deploy => self.settings.depends_on.clone(),
            Kind::Rollback => Vec::new(),
        };
        let (id, kind) = (report.id.clone(), report.kind);
        Ok(Facts { id, kind, from, to, via, plan, needs, reroute, along: Vec::new() })
    }

    /// A `current` that names nothing whole is brought to `next`, else `fallback`, if its files are those that were
    /// published.
    async fn mend_current(&self) -> Result<(), Fault> {
        let links = self.store.links().map_err(|error| error.fault())?;
        if !matches!(links.current, LinkState::Dangling(_)) {
            return Ok(());
        }
        for slot in [&links.next, &links.fallback].into_iter().filter_map(LinkState::slot).cloned() {
            let store = Arc::clone(&self.store);
            let mended = tokio::task::spawn_blocking(move || {
                store.verify(&slot, &compare)?;
                store.set_link(Link::Current, &slot)?;
                Ok::<SlotName, SlotError>(slot)
            })
            .await;
            let app = self.settings.name.as_str();
            match mended {
                Ok(Ok(slot)) => {
                    tracing::error!(SLOTD_APP = app, "current named no whole slot; it was brought to {slot}");
                    return Ok(());
                }
                Ok(Err(error)) => tracing::error!(SLOTD_APP = app, "no way out for current: {}", error.fault()),
                Err(error) => tracing::error!(SLOTD_APP = app, "the check of a slot was torn: {error}"),
            }
        }
        let app = &self.settings.name;
        Err(Fault::new(
            Code::Stuck,
            format!("current of {app} names no whole slot, nor do next and fallback; `slotctl activate {app} VERSION`"),
        ))
    }

    /// A deployment about which nothing is known any more: everything is brought to `current`; where there is none yet,
    /// what `next` names is stopped.
    fn unreadable(&self) -> Result<Option<Intent>, Fault> {
        let links = self.store.links().map_err(|error| error.fault())?;
        let current = links.current.slot().map(|slot| self.side(slot)).transpose()?;
        let next = links.next.slot().map(|slot| self.side(slot)).transpose()?;
        let Some(to) = current.clone().or(next) else { return Ok(None) };
        let id = DeploymentId { app: self.settings.name.clone(), number: 0 };
        let fault = Fault::new(Code::Interrupted, "the record of the open deployment was unreadable");
        let ruling = Ruling {
            outcome: Outcome::Superseded,
            fault: Some(fault),
            blame: Blame::Interruption,
            phase: Phase::Switching,
            warnings: Vec::new(),
        };
        let settling = Settling {
            serve: current.is_some(),
            to: current.clone().map_or(Target::Nothing, Target::Foreign),
            alternative: false,
            begun: 0,
            migrated: false,
            ruling,
        };
        let report = new_report(id.clone(), Kind::Deploy, to.slot.clone(), "recovery", None);
        let facts = Facts {
            id,
            kind: Kind::Deploy,
            from: current,
            to,
            via: Via::Next,
            plan: Plan::forgotten(),
            needs: Vec::new(),
            reroute: None,
            along: Vec::new(),
        };
        Ok(Some(Intent::new(facts, Stage::Settling(settling), report)))
    }

    /// What recovery finds on the host.
    async fn found(&self, intent: &Intent) -> Result<Found, Fault> {
        let units = &self.shared.units;
        // An unanswered question is no answer: recovery waits for systemd rather than take what runs for dead.
        let up = async |unit: &UnitName| {
            let status = units.status(unit).await.map_err(|error| unreachable(&error))?;
            Ok::<_, Fault>(Some(status).filter(crate::units::UnitStatus::is_up))
        };
        let gate = units.status(&self.settings.name.gate_unit()).await.map_err(|error| unreachable(&error))?;
        let mut awake = is_awake(&gate);
        for side in intent.facts.from.iter().chain([&intent.facts.to]) {
            for unit in side.unit_names() {
                awake |= up(&unit).await?.is_some();
            }
        }
        let mut runs_hold = true;
        for (unit, run) in intent.stage.runs() {
            runs_hold &= up(&unit).await?.is_some_and(|status| status.invocation.as_ref() == Some(&run));
        }
        let mut hook_begun = false;
        if let Some(hook) = intent.stage.hook().and_then(|point| intent.facts.hook(point)) {
            let status = units.status(&hook).await.map_err(|error| unreachable(&error))?;
            // What failed before was forgotten when the deployment began.
            hook_begun = !status.is_down() || status.active == Active::Failed;
        }
        let same_boot = !intent.boot.is_empty() && intent.boot == clock::boot_id();
        Ok(Found {
            same_boot,
            elapsed: Duration::from_millis(clock::powered_on_ms().saturating_sub(intent.announced_ms)),
            current: self.current().map(|slot| self.side(&slot)).transpose()?,
            awake,
            runs_hold,
            hook_begun,
            candidate_well: self.is_well(&intent.facts).await,
        })
    }

    /// Whether all instances of the candidate run and answer well.
    async fn is_well(&self, facts: &Facts) -> bool {
        let prober = Prober::new(self.shared.units.clone());
        let settings = self.going(facts, false).settings;
        for (unit, instance) in facts.to.instances() {
            let target = target(&self.store, unit, instance);
            let up = self.shared.units.status(&target.unit).await.is_ok_and(|status| status.is_up());
            let timeout = settings.proof.timeout;
            if !up || prober.ask_once(settings.probes_for(&target.unit), &target, timeout).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// A slot with its units.
pub fn side_of(store: &SlotStore, slot: &SlotName) -> Result<Side, Fault> {
    let record = store.record(slot).map_err(|error| error.fault())?;
    Ok(Side { slot: slot.clone(), units: record.units })
}

/// How a slot is brought live: as its release says, unless somebody says otherwise. What its release did to the data once
/// isn't done to it a second time.
pub fn how(store: &SlotStore, otherwise: Otherwise, slot: &SlotName) -> Result<How, Fault> {
    let Otherwise { strategy, migration } = otherwise;
    let says = store.record(slot).map_err(|error| error.fault())?.release.migration;
    let done = store.breaks().map_err(|error| error.fault())?.iter().any(|it| it.slot.version == slot.version);
    let says = if done && says == Migration::Breaking { Migration::None } else { says };
    Ok(How { strategy, migration: migration.unwrap_or(says) })
}

/// A report of what is only wanted so far.
pub fn new_report(id: DeploymentId, kind: Kind, to: SlotName, by: &str, message: Option<String>) -> Report {
    Report {
        id,
        kind,
        from: None,
        to,
        by: by.to_owned(),
        message,
        attempt: 1,
        queued: Timestamp::now(),
        scheduled: None,
        reroute: None,
        strategy: None,
        migration: None,
        dependencies: Vec::new(),
        state: State::Queued,
        waiting: None,
        steps: Vec::new(),
        release: Default::default(),
        said: Vec::new(),
        measured: Default::default(),
        ended: None,
    }
}

async fn told_to_stop(mut stopping: watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending().await
    }
}

fn unreachable(error: &crate::units::UnitError) -> Fault {
    Fault::new(Code::UnitControl, error.to_string())
}
