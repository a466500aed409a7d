//! What a deployment is about, the same from its beginning to its end: its two sides, and how it moves from one to the
//! other. Words and sums, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::deployment::{Kind, Reroute};
use crate::model::slot::UnitCount;
use crate::model::time::duration_text;
use crate::model::{
    AppName, DeploymentId, HookPoint, Hooks, InstanceName, Migration, SlotName, StrategyName, UnitName,
};

use super::batches::{Batch, Seat};
use super::stage::{Settling, Stage, Target};

/// What a deployment is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its id.
    pub id: DeploymentId,
    /// What it is for.
    pub kind: Kind,
    /// The slot that was live when it began, with its units: side A.
    pub from: Option<Side>,
    /// The candidate, with its units: side B.
    pub to: Side,
    /// How `current` is exchanged.
    pub via: Via,
    /// How it moves.
    pub plan: Plan,
    /// The apps that have to be up before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<AppName>,
    /// Users come another way by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<Rerouted>,
    /// The units of others that were up when it began, and that go down with a unit of the app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub along: Vec<Along>,
}

/// How the way changes by which users come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerouted {
    /// What it is.
    pub to: Reroute,
    /// Why users can't be moved while the app serves, if they can't: then it has to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests: Option<String>,
}

/// By which way users come at a time, where it changes. Else there is only the new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// That of before.
    Old,
    /// Both.
    Both,
    /// That of the settings which the deployment goes by.
    #[default]
    New,
}

/// A unit of somebody else's that systemd stops with units of the app: `PartOf=`, `BindsTo=`, `Requires=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Along {
    /// The unit.
    pub unit: UnitName,
    /// Those with which it goes down, and the InvocationIDs under which they ran.
    pub with: BTreeMap<UnitName, String>,
}

/// A slot and the units that run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The slot.
    pub slot: SlotName,
    /// Its units, in the order of starting.
    pub units: Vec<UnitCount>,
}

/// With which link `current` changes places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// With `next`, made for it.
    Next,
    /// With `fallback`, which is there already: needs no disk space.
    Fallback,
}

/// How a deployment moves, decided when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The name of the strategy, for people; the batches tell what is done.
    pub strategy: StrategyName,
    /// What stops and starts when.
    pub batches: Vec<Batch>,
    /// Whether old and new instances ever serve side by side.
    pub overlap: bool,
    /// Whether the route lets the old side run on without users, so that going back is a switch and no start.
    pub warm: bool,
    /// Whether an instance takes users only when it is told to, until it is of the live slot.
    pub starts_quiet: bool,
    /// After how many batches it waits for `promote`.
    pub pause_after: Option<usize>,
    /// The share of users, in per cent, that the new instances get while it waits there.
    pub weight: Option<u32>,
    /// Whether the switch waits for `promote`.
    pub by_hand: bool,
    /// How long the new slot is watched after the switch.
    #[serde(with = "duration_text")]
    pub soak: Duration,
    /// Whether it goes back at the end of that time unless `confirm` has come.
    pub confirm: bool,
    /// What is run for the candidate, and when.
    #[serde(default)]
    pub hooks: Hooks,
    /// What it does to the data that slots share.
    #[serde(default)]
    pub migration: Migration,
}

/// What a plan is made of beside the app's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// Another strategy than the app's.
    pub strategy: Option<StrategyName>,
    /// What the candidate does to the data.
    pub migration: Migration,
}

/// Who gets users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// These instances, and no others.
    pub to: Vec<(UnitName, InstanceName)>,
    /// A share, in per cent, that the instances of side B get together; `None`: all get the same.
    pub weight: Option<u32>,
    /// Whether they are the whole of one side, which then has to be up.
    pub whole: bool,
    /// Who runs on without users, and is gone back to if one of `to` ends.
    pub standby: Vec<(UnitName, InstanceName)>,
    /// By which way they come.
    pub way: Way,
}

impl Side {
    /// All units that run this side, in the order of starting.
    pub fn unit_names(&self) -> Vec<UnitName> {
        self.instances().into_iter().map(|(unit, _)| unit).collect()
    }

    /// All its units with the instances that they run, in the order of starting.
    pub fn instances(&self) -> Vec<(UnitName, InstanceName)> {
        let of = |count: &UnitCount| {
            let instances = self.slot.instances(count.instances);
            instances.into_iter().map(|instance| (count.name.unit(&instance), instance)).collect::<Vec<_>>()
        };
        self.units.iter().flat_map(of).collect()
    }

    /// The unit and the instance of a seat on this side.
    pub fn at(&self, seat: &Seat) -> (UnitName, InstanceName) {
        let instance = self.slot.instance(seat.number);
        (seat.unit.unit(&instance), instance)
    }

    /// Those of several.
    pub fn all_at(&self, seats: &[Seat]) -> Vec<(UnitName, InstanceName)> {
        seats.iter().map(|seat| self.at(seat)).collect()
    }

    /// The units of several seats.
    pub fn units_at(&self, seats: &[Seat]) -> Vec<UnitName> {
        seats.iter().map(|seat| self.at(seat).0).collect()
    }
}

impl Traffic {
    /// These, each with the same share.
    pub fn of(to: Vec<(UnitName, InstanceName)>) -> Self {
        Traffic { to, weight: None, whole: false, standby: Vec::new(), way: Way::New }
    }

    /// All instances of a side.
    pub fn all(side: &Side) -> Self {
        Traffic { whole: true, ..Traffic::of(side.instances()) }
    }
}

impl Facts {
    /// The slots that it is about.
    pub fn slots(&self) -> Vec<SlotName> {
        self.from.iter().chain([&self.to]).map(|side| side.slot.clone()).collect()
    }

    /// The unit of the hook at a point, if there is one.
    pub fn hook(&self, point: HookPoint) -> Option<UnitName> {
        self.plan.hooks.at(point).map(|template| template.unit(&self.to.slot.instance(1)))
    }

    /// The units of all hooks.
    pub fn hooks(&self) -> Vec<UnitName> {
        HookPoint::ALL.into_iter().filter_map(|point| self.hook(point)).collect()
    }

    /// By which way users come in a stage.
    pub fn way_in(&self, stage: &Stage) -> Way {
        let Some(Rerouted { rests, .. }) = &self.reroute else { return Way::New };
        match stage {
            Stage::Settling(Settling { to: Target::To | Target::Nothing, .. }) => Way::New,
            Stage::Settling(_) => Way::Old,
            _ if rests.is_some() => Way::New,
            Stage::Switching { .. } | Stage::Soaking { .. } | Stage::Reviving { .. } => Way::Both,
            Stage::Draining { batch: None, .. } => Way::Both,
            Stage::Post { .. } | Stage::Telling { .. } => Way::New,
            Stage::Preparing | Stage::Clearing { .. } | Stage::Hooking { .. } | Stage::Starting { .. } => Way::Old,
            Stage::Proving { .. } | Stage::Shifting { .. } | Stage::Draining { .. } | Stage::Waiting { .. } => Way::Old,
        }
    }

    /// Whether the data doesn't suit side A any more once this is under way.
    pub fn is_breaking(&self) -> bool {
        self.plan.migration == Migration::Breaking
    }

    /// The batch with this index; an empty one beyond the last.
    pub fn batch(&self, index: usize) -> Batch {
        self.plan.batches.get(index).cloned().unwrap_or_default()
    }

    /// Whether it waits for `promote` after the batch with this index.
    pub fn pauses_after(&self, index: usize) -> bool {
        self.plan.pause_after == Some(index + 1)
    }

    /// What is left of side A once the batches before the one with this index are through.
    pub fn left_of_old(&self, index: usize) -> Vec<(UnitName, InstanceName)> {
        let Some(from) = &self.from else { return Vec::new() };
        let through = &self.plan.batches[..index.min(self.plan.batches.len())];
        let gone = through.iter().flat_map(|batch| batch.stop_first.iter().chain(&batch.stop_after));
        let gone: BTreeSet<_> = gone.map(|seat| from.at(seat)).collect();
        from.instances().into_iter().filter(|it| !gone.contains(it)).collect()
    }

    /// What is left of side A after the last batch: it goes after the switch.
    pub fn rest_of_old(&self) -> Vec<(UnitName, InstanceName)> {
        self.left_of_old(self.plan.batches.len())
    }

    /// Who gets users while the batch with this index starts: those that it stops first don't.
    pub fn traffic_before(&self, index: usize) -> Traffic {
        let first = self.batch(index).stop_first;
        let leaving: BTreeSet<_> = self.from.iter().flat_map(|from| from.all_at(&first)).collect();
        let mut to = self.left_of_old(index);
        to.retain(|it| !leaving.contains(it));
        to.extend(self.started_before(index));
        Traffic::of(to)
    }

    /// Who gets users while side B is watched: all of it, with what is kept warm of side A behind it.
    pub fn traffic_watched(&self) -> Traffic {
        let is_watched = self.plan.warm && !self.plan.soak.is_zero();
        let standby = if is_watched { self.rest_of_old() } else { Vec::new() };
        Traffic { standby, ..Traffic::all(&self.to) }
    }

    /// Who gets users once the batch with this index is proved.
    pub fn traffic_after(&self, index: usize) -> Traffic {
        let mut to = self.left_of_old(index + 1);
        to.extend(self.started_before(index + 1));
        Traffic { weight: self.plan.weight.filter(|_| self.pauses_after(index)), ..Traffic::of(to) }
    }

    /// The new instances that have users by then. Those of the last batches get theirs with `current`, though the batch of
    /// a unit that is replaced at once may follow before; but where old ones made room, they stand in for them.
    fn started_before(&self, index: usize) -> Vec<(UnitName, InstanceName)> {
        let through = self.plan.batches.iter().enumerate().take(index);
        let has_users = |n, batch: &Batch| batch.shift || self.pauses_after(n) || !batch.stop_first.is_empty();
        through.filter(|(n, batch)| has_users(*n, batch)).flat_map(|(_, batch)| self.to.all_at(&batch.start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::batches::{Mover, row};
    use super::super::sim::facts;
    use super::*;
    use crate::model::{Numbers, Template};

    /// Of an app of `web@`, N instances that move by these numbers, and one `job@` that is replaced at once: who has users
    /// while the batch of `job@` starts.
    fn while_the_job_moves(n: u32, max_surge: u32, max_unavailable: u32) -> Vec<String> {
        let units: [(Template, u32, Numbers); 2] =
            [("web@", n, Numbers { max_surge, max_unavailable }), ("job@", 1, Numbers::stop_start(1))]
                .map(|(name, count, numbers)| (name.parse().expect("a template"), count, numbers));
        let side = |version: &str| Side {
            slot: version.parse().expect("a slot"),
            units: units.iter().map(|(name, count, _)| UnitCount { name: name.clone(), instances: *count }).collect(),
        };
        let movers = units.clone().map(|(unit, count, numbers)| Mover { unit, old: count, new: count, numbers });
        let mut facts = facts(Some(side("1")), side("2"));
        facts.plan.batches = row(&movers);
        let traffic = facts.traffic_before(facts.plan.batches.len() - 1);
        let web = traffic.to.iter().map(|(unit, _)| unit.to_string()).filter(|unit| unit.starts_with("web@"));
        web.map(|unit| unit.trim_start_matches("web@").trim_end_matches(".service").to_owned()).collect()
    }

    #[test]
    fn nobody_is_sent_to_the_new_slot_while_a_worker_moves_before_the_switch() {
        assert_eq!(while_the_job_moves(1, 1, 0), ["1"]);
        assert_eq!(while_the_job_moves(2, 2, 0), ["1", "1@2"]);
        assert_eq!(while_the_job_moves(2, 1, 0), ["1@2", "2"], "the first batch has moved its users");
        assert_eq!(while_the_job_moves(2, 0, 1), ["2", "2@2"], "there is no old one left");
        assert_eq!(while_the_job_moves(1, 1, 1), ["2"], "there is no old one left");
    }
}
