//! Starts the administrator's `slotd-notify@DEPLOYMENT.service` for what is to be told, one after the other, in a task of its
//! own: nothing of it delays a deployment, nor fails one.
//!
//! Announced is a start by the notice, which is durable. That the unit has run is systemd's to know: it stays active after its
//! run (`RemainAfterExit=`), or failed, and slotd stops it only once that is written down. So after a kill of slotd at any instant
//! it is asked how the unit stands, and what has run isn't started again. Where the host dies in between nobody knows, and it
//! is started again: to be told twice is better than never, and the id is the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::model::{Code, Fault, Layout, UnitName};
use crate::points;
use crate::units::{Active, JobResult, Load, UnitControl, UnitError, UnitStatus};

use super::notices::{Notice, Notices, Standing, Telling};

/// For how long slotd waits for the unit's end. It runs on after that, by its own limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after the n-th start that couldn't be made the next one is tried. After the last it is given up.
const DELAYS: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300)];

/// How long its stop may take: nothing of it runs any more.
const STOP: Duration = Duration::from_secs(10);

/// Tells of an app's deployments.
pub struct Teller<U> {
    /// What is to be told.
    pub notices: Notices,
    units: U,
    news: Arc<Notify>,
    /// Why the first of them couldn't be told yet.
    trouble: Arc<std::sync::Mutex<Option<Fault>>>,
    task: JoinSet<()>,
}

/// What came of a look at the unit, or of its start.
enum Seen {
    /// It ran, or runs still.
    Over(Standing),
    /// It never ran, and could.
    NotYet(Fault),
}

impl<U: UnitControl> Teller<U> {
    /// Tells nobody yet.
    pub fn new(units: U, layout: &Layout) -> Self {
        let (news, trouble) = (Arc::default(), Arc::default());
        Teller { notices: Notices::of(layout), units, news, trouble, task: JoinSet::new() }
    }

    /// From now on what is noted is told, until this is dropped.
    pub fn begin(&mut self) {
        let (notices, units) = (self.notices.clone(), self.units.clone());
        let (news, trouble) = (Arc::clone(&self.news), Arc::clone(&self.trouble));
        let set = move |fault| *trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
        self.task.spawn(async move {
            if let Some(last) = notices.last_told() {
                // A kill came just before its stop.
                stop(&units, &last.unit()).await;
            }
            loop {
                let Some(notice) = notices.due() else {
                    news.notified().await;
                    continue;
                };
                let standing = see_to(&units, &notice, &set).await;
                set(None);
                settle(&units, &notices, &notice, standing).await;
            }
        });
    }

    /// Something was noted.
    pub fn wake(&self) {
        self.news.notify_one();
    }

    /// What an operator should know: who wasn't told of what.
    pub fn notes(&self) -> Vec<String> {
        let failed = self.notices.failed();
        let failed = failed.iter().map(|(notice, fault)| {
            let (id, outcome, unit) = (&notice.id, notice.outcome, notice.unit());
            format!("nobody was told that {id} ended {outcome}: {fault}; next: journalctl -u {unit}; systemctl restart {unit}")
        });
        let trouble = self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let trouble = trouble.as_ref().zip(self.notices.due()).map(|(fault, notice)| {
            let (id, outcome) = (&notice.id, notice.outcome);
            format!("nobody is told yet that {id} ended {outcome}: {fault}; next: slotctl check {}", id.app)
        });
        trouble.into_iter().chain(failed).collect()
    }
}

/// Has the unit run, or finds that it has.
async fn see_to<U: UnitControl>(units: &U, notice: &Notice, trouble: &impl Fn(Option<Fault>)) -> Standing {
    let unit = notice.unit();
    let mut delays = DELAYS.iter();
    loop {
        match run(units, &unit).await {
            Seen::Over(standing) => return standing,
            Seen::NotYet(fault) => {
                tracing::warn!(
                    SLOTD_DEPLOYMENT = notice.id.to_string(),
                    "nobody is told yet of {}: {fault}",
                    notice.id
                );
                let Some(delay) = delays.next() else { return Standing::Failed { fault: Box::new(fault) } };
                trouble(Some(fault));
                tokio::time::sleep(*delay).await;
            }
        }
    }
}

async fn run<U: UnitControl>(units: &U, unit: &UnitName) -> Seen {
    let before = match units.status(unit).await {
        Ok(status) => status,
        Err(error) => return Seen::NotYet(fault_of(&error)),
    };
    if let Some(standing) = has_run(unit, &before) {
        return Seen::Over(standing);
    }
    match before.load {
        Load::Loaded => {}
        Load::NotFound => return Seen::NotYet(fault_of(&UnitError::NotFound(unit.clone()))),
        Load::Masked => return Seen::NotYet(fault_of(&UnitError::Masked(unit.clone()))),
        Load::Error(why) => return Seen::NotYet(Fault::new(Code::ConfigUnit, format!("{unit}: {why}"))),
    }
    points::pass(points::Side::Before, Telling::Tell.as_str());
    let started = units.start(unit, PATIENCE).await;
    points::pass(points::Side::After, Telling::Tell.as_str());
    let result = match started {
        Ok(JobResult::Done | JobResult::Skipped) => return Seen::Over(Standing::Told),
        // It runs; how long it may is its own limit.
        Err(UnitError::Timeout { .. }) => return Seen::Over(Standing::Told),
        Err(error) => return Seen::NotYet(fault_of(&error)),
        Ok(result) => result,
    };
    match units.status(unit).await {
        Ok(status) => match has_run(unit, &status) {
            Some(standing) => Seen::Over(standing),
            None => Seen::NotYet(Fault::new(Code::UnitStart, format!("the start job of {unit} ended: {result:?}"))),
        },
        Err(error) => Seen::NotYet(fault_of(&error)),
    }
}

/// What came of its run, if it has run since the host is up; a run that goes on is waited for by joining its job.
fn has_run(unit: &UnitName, status: &UnitStatus) -> Option<Standing> {
    match status.active {
        Active::Active | Active::Reloading | Active::Deactivating => Some(Standing::Told),
        Active::Failed => {
            let exit = status.exit.as_ref().map(|exit| format!(", {exit}")).unwrap_or_default();
            let fault = Fault::new(Code::UnitStart, format!("{unit} failed: result {}{exit}", status.result));
            Some(Standing::Failed { fault: Box::new(fault) })
        }
        Active::Activating | Active::Inactive => None,
    }
}

async fn settle<U: UnitControl>(units: &U, notices: &Notices, notice: &Notice, standing: Standing) {
    let (id, outcome) = (&notice.id, notice.outcome);
    match &standing {
        Standing::Failed { fault } => tracing::error!(
            SLOTD_DEPLOYMENT = id.to_string(),
            "nobody was told that {id} ended {outcome}: {fault}; next: journalctl -u {}",
            notice.unit()
        ),
        _ => tracing::info!(SLOTD_DEPLOYMENT = id.to_string(), "{} ran: {id} ended {outcome}", notice.unit()),
    }
    let told = standing == Standing::Told;
    match notices.settle(notice, standing) {
        // One that failed is left for `systemctl --failed`.
        Ok(()) if told => stop(units, &notice.unit()).await,
        Ok(()) => {}
        // It stays up, and says so after a restart.
        Err(error) => tracing::warn!("that {id} was told is lost at a boot: {}", error.fault()),
    }
}

/// Lets systemd forget a unit that has run.
async fn stop<U: UnitControl>(units: &U, unit: &UnitName) {
    let ran = units.status(unit).await.is_ok_and(|status| status.is_up());
    if ran && let Err(error) = units.stop(unit, STOP).await {
        tracing::warn!("{unit} has run, and stays up: {error}");
    }
}

fn fault_of(error: &UnitError) -> Fault {
    let code = match error {
        UnitError::NotFound(_) => Code::UnitMissing,
        UnitError::Masked(_) => Code::UnitMasked,
        _ => Code::UnitControl,
    };
    Fault::new(code, error.to_string())
}
