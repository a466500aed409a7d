//! What a deployment is about, and where it stands: the content of an intent. Words only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::deployment::{Blame, Kind};
use crate::model::slot::{Phase, UnitCount};
use crate::model::time::duration_text;
use crate::model::{DeploymentId, Fault, InstanceName, Outcome, SlotName, State, UnitName};

/// What a deployment is about; the same from its beginning to its end.
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
    /// How long the new slot is watched after the switch.
    #[serde(with = "duration_text")]
    pub soak: Duration,
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

/// Units and the InvocationIDs of their runs.
pub type Runs = BTreeMap<UnitName, String>;

/// Where a deployment stands. What a stage carries is known from its announcement on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum Stage {
    /// Hold mark, gate, link, files, the live slot's answers.
    Preparing,
    /// Old instances stop, new ones start, in batch `batch` (from 0).
    Starting {
        /// How the live slot did before.
        live: Live,
        /// The batch.
        batch: usize,
        /// The instances of B that earlier batches proved.
        proved: Runs,
    },
    /// The batch's new instances are asked.
    Proving {
        /// How the live slot did before.
        live: Live,
        /// The batch.
        batch: usize,
        /// The instances of B that earlier batches proved.
        proved: Runs,
        /// The instances of B that this batch started.
        started: Runs,
    },
    /// All of B proved; `current` and the route move.
    Switching {
        /// How the live slot did before.
        live: Live,
        /// The instances of B.
        proved: Runs,
    },
    /// B is live and watched.
    Soaking {
        /// How the live slot did before.
        live: Live,
        /// The instances of B.
        proved: Runs,
        /// What is left of the soak time, counted as powered-on time.
        #[serde(with = "duration_text")]
        left: Duration,
    },
    /// B stays; links follow.
    Post {
        /// The instances of B.
        proved: Runs,
    },
    /// Everything is brought to one side.
    Settling(Settling),
}

/// Everything is brought to one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// To which.
    pub to: Target,
    /// Whether the side's instances are started; not where the app rested before or was stopped by hand.
    pub serve: bool,
    /// Whether the other side is worth a try if this one doesn't come up.
    pub alternative: bool,
    /// How the deployment will end, and why.
    pub ruling: Ruling,
}

/// The side that everything is brought to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The slot that was live before.
    From,
    /// The candidate.
    To,
    /// No slot: the first deployment, before the link.
    Nothing,
    /// Neither: somebody else moved `current` there.
    Foreign(Side),
}

/// How a deployment will end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// The word.
    pub outcome: Outcome,
    /// The cause.
    pub fault: Option<Fault>,
    /// Where it lies.
    pub blame: Blame,
    /// In which phase it happened.
    pub phase: Phase,
    /// What went wrong beside it.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How the live slot did before anything was touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Whether it was meant to run: its gate was active, or an instance ran.
    pub up: bool,
    /// The probe that it failed, if it failed one.
    pub failed_probe: Option<String>,
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

    /// The units of its instances with these numbers.
    pub fn units_numbered(&self, numbers: &[u32]) -> Vec<(UnitName, InstanceName)> {
        self.instances().into_iter().filter(|(_, instance)| numbers.contains(&instance.number)).collect()
    }
}

impl Facts {
    /// The slots that it is about.
    pub fn slots(&self) -> Vec<SlotName> {
        self.from.iter().chain([&self.to]).map(|side| side.slot.clone()).collect()
    }

    /// The side that `target` means, if it means one.
    pub fn side<'a>(&'a self, target: &'a Target) -> Option<&'a Side> {
        match target {
            Target::From => self.from.as_ref(),
            Target::To => Some(&self.to),
            Target::Nothing => None,
            Target::Foreign(side) => Some(side),
        }
    }
}

impl Stage {
    /// The word that people see.
    pub fn state(&self) -> State {
        match self {
            Stage::Preparing => State::Preparing,
            Stage::Starting { .. } => State::Starting,
            Stage::Proving { .. } => State::Proving,
            Stage::Switching { .. } => State::Switching,
            Stage::Soaking { .. } => State::Soaking,
            Stage::Post { .. } => State::Post,
            Stage::Settling(_) => State::Reverting,
        }
    }

    /// The phase that a failure in this stage counts as.
    pub fn phase(&self) -> Phase {
        match self {
            Stage::Preparing => Phase::Processing,
            Stage::Starting { .. } => Phase::Starting,
            Stage::Proving { .. } => Phase::Proving,
            Stage::Switching { .. } => Phase::Switching,
            Stage::Soaking { .. } | Stage::Post { .. } => Phase::Soaking,
            Stage::Settling(settling) => settling.ruling.phase,
        }
    }

    /// The instances of B that this stage says run.
    pub fn runs(&self) -> Runs {
        match self {
            Stage::Preparing | Stage::Settling(_) => Runs::new(),
            Stage::Starting { proved, .. }
            | Stage::Switching { proved, .. }
            | Stage::Soaking { proved, .. }
            | Stage::Post { proved } => proved.clone(),
            Stage::Proving { proved, started, .. } => {
                proved.iter().chain(started).map(|(u, i)| (u.clone(), i.clone())).collect()
            }
        }
    }

    /// Whether all of B had proved themselves when this stage was announced.
    pub fn is_proved(&self) -> bool {
        match self {
            Stage::Preparing | Stage::Starting { .. } | Stage::Proving { .. } => false,
            Stage::Switching { .. } | Stage::Soaking { .. } | Stage::Post { .. } => true,
            Stage::Settling(settling) => settling.alternative && settling.to == Target::From,
        }
    }

    /// How the live slot did before, where this stage knows it.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Stage::Starting { live, .. }
            | Stage::Proving { live, .. }
            | Stage::Switching { live, .. }
            | Stage::Soaking { live, .. } => Some(live),
            Stage::Preparing | Stage::Post { .. } | Stage::Settling(_) => None,
        }
    }
}
