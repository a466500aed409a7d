//! What else would come of a deployment, beside how it moves: files, settings, what systemd would run, what would go, and
//! how long users waited the last times. And a token that names all that a plan is made of, so that an approved plan is
//! carried out as it was read, or not at all.

use std::fmt;

use crate::config::AppSettings;
use crate::config::keys;
use crate::config::origins::Origin;
use crate::control::api::{ApiError, FileCounts, Foreseen, How, Planned, Resources, Runtime, Spell};
use crate::model::deployment::{Kind, Otherwise};
use crate::model::measured::median_and_worst;
use crate::model::{Class, Code, Fault, Outcome, Report, SlotName};
use crate::slots::keep::keep_set;
use crate::slots::{text_digest, unit_digest};
use crate::units::{UnitControl, UnitStatus};

use super::app::App;
use super::ask::View;
use super::changes::{changes_since, hidden};
use super::deploy::side_of;
use super::settings::{files, statuses};

/// Of how many past deployments the times are told.
pub(super) const PAST: u32 = 20;

/// How many digits of each part of a token are shown.
const DIGITS: usize = 8;

/// What a plan is made of, in parts that can each have moved.
struct Parts([(&'static str, String); 4]);

impl Parts {
    /// Of the plan from what is live to `planned.to`.
    fn of(view: &View, planned: &Planned, units: &[UnitStatus]) -> Result<Parts, Fault> {
        let links = view.store.links().map_err(|error| error.fault())?;
        let entries: Vec<String> =
            keys::entries(&view.settings).into_iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
        let record = view.store.record(&planned.to).map_err(|error| error.fault())?;
        let record = serde_json::to_string(&record).unwrap_or_default();
        let unit = |status: &UnitStatus| {
            let digest = unit_digest(&status.files).map(|digest| digest.to_string()).unwrap_or_default();
            format!("{digest} {}", status.need_reload)
        };
        let units: Vec<String> = units.iter().map(unit).collect();
        // What would be done, without what only the moment decides.
        let steps = format!("{:?} {:?} {:?} {:?}", planned.batches, planned.strategy, planned.hooks, planned.migration);
        Ok(Parts([
            ("what is live", format!("{:?} {:?}", links.current, links.fallback)),
            ("the settings", entries.join("\n")),
            ("the unit files", units.join("\n")),
            ("the slot or the steps to it", format!("{record}{steps}")),
        ]))
    }

    /// Which part isn't as in the token.
    fn moved_since(&self, token: &str) -> Option<&'static str> {
        let told: Vec<&str> = token.split('-').skip(1).collect();
        if told.len() != self.0.len() {
            return Some("the form of tokens");
        }
        let moved = self.0.iter().zip(told).find(|((_, now), told)| short(now) != *told);
        moved.map(|((part, _), _)| *part)
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plan")?;
        self.0.iter().try_for_each(|(_, part)| write!(f, "-{}", short(part)))
    }
}

fn short(text: &str) -> String {
    text_digest(text).to_string().chars().take(DIGITS).collect()
}

/// Completes a plan.
pub(super) async fn foreseen<U: UnitControl>(
    view: &View,
    units: &U,
    past: &[Report],
    planned: &Planned,
) -> Result<Foreseen, ApiError> {
    let statuses = statuses(&view.store, units, &planned.to).await?;
    let to = view.store.record(&planned.to).map_err(|error| error.fault())?;
    let from = planned.from.as_ref().and_then(|from| view.store.record(from).ok());
    let mut counts = FileCounts::default();
    let mut settings = Vec::new();
    if let Some(from) = &from {
        for file in files(&view.store, from, &to, false)? {
            match file.how {
                How::Added => counts.added += 1,
                How::Removed => counts.removed += 1,
                How::Changed | How::Mode => counts.changed += 1,
            }
        }
        let changes = changes_since(&view.settings, &view.store, &from.slot, &to.inputs())?;
        // What waits for a step of its own isn't changed by it.
        settings = changes.into_iter().filter(|change| change.class != Class::OwnStep).map(hidden).collect();
    }
    let runtime = to.units.iter().zip(&statuses).map(|(count, status)| Runtime {
        unit: count.name.clone(),
        instances: count.instances,
        user: status.user.clone(),
        command: status.command.clone(),
        memory_max: status.memory_max,
    });
    Ok(Foreseen {
        change: planned.from.as_ref() != Some(&planned.to),
        because: because(&view.settings),
        files: counts,
        settings,
        runtime: runtime.collect(),
        resources: resources(view, units, planned).await,
        pruned: pruned(view, planned)?,
        past: spell(past, planned),
        token: Parts::of(view, planned, &statuses)?.to_string(),
    })
}

/// Where the strategy was said.
fn because(settings: &AppSettings) -> String {
    match settings.origins.get("strategy") {
        Some(Origin::File(file, line)) => format!("{}:{line}", file.display()),
        Some(Origin::Verb) => "set by a verb".to_owned(),
        Some(Origin::Defaults) => "slotd.toml".to_owned(),
        None => "default".to_owned(),
    }
}

/// What runs beside one another at the most, by what the live instances have now; and what there is.
async fn resources<U: UnitControl>(view: &View, units: &U, planned: &Planned) -> Resources {
    let mut memory = None;
    if let Some(side) = planned.from.as_ref().and_then(|from| side_of(&view.store, from).ok()) {
        for unit in side.unit_names() {
            let now = units.status(&unit).await.ok().and_then(|status| status.memory);
            memory = now.map(|now| memory.unwrap_or(0) + now).or(memory);
        }
    }
    let free = nix::sys::statvfs::statvfs(&view.store.layout().root());
    Resources {
        memory: memory.filter(|_| planned.units.iter().any(|unit| unit.max_surge > 0)),
        memory_available: available(),
        disk_free: free.ok().map(|free| free.blocks_available() * free.fragment_size()),
    }
}

/// MemAvailable of /proc/meminfo.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The slots that retention would let go afterwards.
fn pruned(view: &View, planned: &Planned) -> Result<Vec<SlotName>, Fault> {
    let inputs = view.store.keep_inputs(view.settings.retention, view.settings.versions);
    let mut inputs = inputs.map_err(|error| error.fault())?;
    inputs.current = Some(planned.to.clone());
    inputs.fallback = planned.from.clone().filter(|from| *from != planned.to).or(inputs.fallback);
    inputs.next = None;
    Ok(keep_set(&inputs).removable().cloned().collect())
}

/// How long users waited, and deployments took, the last times.
pub(super) fn spell(past: &[Report], planned: &Planned) -> Option<Spell> {
    let done = |report: &&Report| {
        report.kind == Kind::Deploy && report.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Done)
    };
    let same = |report: &&Report| report.strategy.is_none_or(|strategy| strategy == planned.strategy);
    let past: Vec<&Report> = past.iter().filter(done).filter(same).collect();
    let gaps: Vec<u64> = past.iter().filter_map(|report| report.measured.gap_ms).collect();
    let totals: Vec<u64> = past.iter().filter_map(|report| report.measured.total_ms).collect();
    let gap = median_and_worst(gaps);
    (!past.is_empty()).then(|| Spell {
        deployments: past.len() as u64,
        gap_ms: gap.map(|(median, _)| median),
        worst_gap_ms: gap.map(|(_, worst)| worst),
        total_ms: median_and_worst(totals).map(|(median, _)| median),
    })
}

/// Refuses unless all that the plan of this token was made of is as it was.
pub(super) fn unmoved(view: &View, planned: &Planned, units: &[UnitStatus], token: &str) -> Result<(), ApiError> {
    let Some(part) = Parts::of(view, planned, units)?.moved_since(token) else { return Ok(()) };
    let message = format!("since the plan was made {part} changed: it isn't what was approved");
    Err(ApiError::new(Code::PlanMoved, message).next(format!("slotctl plan {} {}", planned.app, planned.to)))
}

impl<U: UnitControl> App<U> {
    /// Refuses a word that is bound to a plan, unless it would be carried out as it was planned.
    pub(super) async fn check_plan(
        &self,
        token: Option<&str>,
        slot: &SlotName,
        otherwise: Otherwise,
    ) -> Result<(), ApiError> {
        let Some(token) = token else { return Ok(()) };
        let view = self.view();
        let planned = super::plan::planned(&self.ground.settings.name, &view, slot, otherwise)?;
        let statuses = statuses(&view.store, &self.ground.shared.units, slot).await?;
        unmoved(&view, &planned, &statuses, token)
    }
}
