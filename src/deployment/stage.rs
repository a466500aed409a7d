//! Where a deployment stands: with its facts, the content of an intent. Words only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::deployment::Blame;
use crate::model::slot::Phase;
use crate::model::time::duration_text;
use crate::model::{Fault, HookPoint, Outcome, State, UnitName};

use super::facts::{Facts, Side};

/// Units and the InvocationIDs of their runs.
pub type Runs = BTreeMap<UnitName, String>;

/// Where a deployment stands. What a stage carries is known from its announcement on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum Stage {
    /// Hold mark, gate, link, files, the live slot's answers.
    Preparing,
    /// What makes room for the first batch goes, before the hooks; before a breaking migration all that is old.
    Clearing {
        /// How the live slot did before.
        live: Live,
    },
    /// The `snapshot` or the `deploy` hook runs, once: from its announcement on it may have begun.
    Hooking {
        /// Which.
        point: HookPoint,
        /// How the live slot did before.
        live: Live,
        /// Whether it has: an interruption lies behind its begin, and it isn't begun a second time.
        #[serde(default)]
        begun: bool,
    },
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
    /// The batch is proved: users move to its new instances.
    Shifting {
        /// How the live slot did before.
        live: Live,
        /// The batch.
        batch: usize,
        /// The instances of B that are proved, this batch's included.
        proved: Runs,
    },
    /// The old instances that a batch replaced finish and stop; after the last one all that is left of them.
    Draining {
        /// How the live slot did before.
        live: Live,
        /// The batch; none after the switch.
        batch: Option<usize>,
        /// The instances of B.
        proved: Runs,
        /// Whether the new slot has been watched already.
        soaked: bool,
    },
    /// For an operator's word.
    Waiting {
        /// How the live slot did before.
        live: Live,
        /// The batch that it waits behind, with users on it; none before the switch, without.
        batch: Option<usize>,
        /// The instances of B.
        proved: Runs,
    },
    /// All of B proved; the route and `current` move.
    Switching {
        /// How the live slot did before.
        live: Live,
        /// The instances of B.
        proved: Runs,
        /// Whether `current` names B already: an interruption lies behind the exchange.
        #[serde(default)]
        linked: bool,
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
    /// B is live, and an interruption has left nobody watching it: it is started and asked again, to be watched for the
    /// rest of the time in which `confirm` may come.
    Reviving {
        /// How the live slot did before.
        live: Live,
        /// What is left of the soak time.
        #[serde(with = "duration_text")]
        left: Duration,
    },
    /// B stays; links follow.
    Post {
        /// The instances of B.
        proved: Runs,
    },
    /// B stays, and all is done: the `post_deploy` hook runs, once.
    Telling {
        /// The instances of B.
        proved: Runs,
        /// As in `Hooking`.
        #[serde(default)]
        begun: bool,
        /// What went wrong before.
        #[serde(default)]
        warnings: Vec<String>,
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
    /// How many batches may have begun, and have to be undone on the way to side A.
    pub begun: usize,
    /// Whether the other side is worth a try if this one doesn't come up.
    pub alternative: bool,
    /// Whether the data may have a form that side A doesn't know: it is restored before A starts.
    #[serde(default)]
    pub migrated: bool,
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

impl Target {
    /// The side that it means, if it means one.
    pub fn side<'a>(&'a self, facts: &'a Facts) -> Option<&'a Side> {
        match self {
            Target::From => facts.from.as_ref(),
            Target::To => Some(&facts.to),
            Target::Nothing => None,
            Target::Foreign(side) => Some(side),
        }
    }
}

impl Settling {
    /// Whether the data couldn't be restored for side A, so that nothing may start it.
    pub fn is_lost(&self) -> bool {
        self.migrated && self.ruling.outcome == Outcome::Stuck
    }
}

impl Stage {
    /// The word that people see.
    pub fn state(&self) -> State {
        match self {
            Stage::Preparing => State::Preparing,
            Stage::Clearing { .. } | Stage::Hooking { .. } | Stage::Starting { .. } => State::Starting,
            Stage::Proving { .. } => State::Proving,
            Stage::Shifting { .. } | Stage::Switching { .. } => State::Switching,
            Stage::Draining { .. } => State::Draining,
            Stage::Waiting { .. } => State::Waiting,
            Stage::Soaking { .. } | Stage::Reviving { .. } => State::Soaking,
            Stage::Post { .. } | Stage::Telling { .. } => State::Post,
            Stage::Settling(_) => State::Reverting,
        }
    }

    /// The phase that a failure in this stage counts as.
    pub fn phase(&self) -> Phase {
        match self {
            Stage::Preparing => Phase::Processing,
            Stage::Clearing { .. } | Stage::Hooking { .. } | Stage::Starting { .. } => Phase::Starting,
            Stage::Proving { .. } => Phase::Proving,
            Stage::Shifting { .. } | Stage::Waiting { .. } | Stage::Switching { .. } => Phase::Switching,
            Stage::Draining { batch: Some(_), .. } => Phase::Switching,
            Stage::Draining { batch: None, .. }
            | Stage::Soaking { .. }
            | Stage::Reviving { .. }
            | Stage::Post { .. }
            | Stage::Telling { .. } => Phase::Soaking,
            Stage::Settling(settling) => settling.ruling.phase,
        }
    }

    /// The instances of B that this stage says run.
    pub fn runs(&self) -> Runs {
        match self {
            Stage::Preparing
            | Stage::Clearing { .. }
            | Stage::Hooking { .. }
            | Stage::Reviving { .. }
            | Stage::Settling(_) => Runs::new(),
            Stage::Starting { proved, .. }
            | Stage::Shifting { proved, .. }
            | Stage::Draining { proved, .. }
            | Stage::Waiting { proved, .. }
            | Stage::Switching { proved, .. }
            | Stage::Soaking { proved, .. }
            | Stage::Post { proved }
            | Stage::Telling { proved, .. } => proved.clone(),
            Stage::Proving { proved, started, .. } => {
                proved.iter().chain(started).map(|(u, i)| (u.clone(), i.clone())).collect()
            }
        }
    }

    /// How many of the batches of `facts` may have begun.
    pub fn begun(&self, facts: &Facts) -> usize {
        match self {
            Stage::Preparing => 0,
            // What the first batch stops may have gone.
            Stage::Clearing { .. } | Stage::Hooking { .. } => 1,
            Stage::Starting { batch, .. }
            | Stage::Proving { batch, .. }
            | Stage::Shifting { batch, .. }
            | Stage::Draining { batch: Some(batch), .. }
            | Stage::Waiting { batch: Some(batch), .. } => batch + 1,
            Stage::Draining { batch: None, .. }
            | Stage::Waiting { batch: None, .. }
            | Stage::Switching { .. }
            | Stage::Soaking { .. }
            | Stage::Reviving { .. }
            | Stage::Post { .. }
            | Stage::Telling { .. } => facts.plan.batches.len(),
            Stage::Settling(settling) => settling.begun,
        }
    }

    /// Whether all of B had proved themselves when this stage was announced.
    pub fn is_proved(&self) -> bool {
        match self {
            Stage::Preparing
            | Stage::Clearing { .. }
            | Stage::Hooking { .. }
            | Stage::Starting { .. }
            | Stage::Proving { .. }
            | Stage::Shifting { .. } => false,
            // What waits for a word doesn't switch without it.
            Stage::Waiting { .. } => false,
            Stage::Draining { batch, .. } => batch.is_none(),
            Stage::Switching { .. }
            | Stage::Soaking { .. }
            | Stage::Reviving { .. }
            | Stage::Post { .. }
            | Stage::Telling { .. } => true,
            Stage::Settling(settling) => settling.alternative && settling.to == Target::From,
        }
    }

    /// Whether `current` must name B by now: this stage comes after the switch.
    pub fn is_linked(&self) -> bool {
        match self {
            Stage::Draining { batch, .. } => batch.is_none(),
            Stage::Soaking { .. } | Stage::Reviving { .. } | Stage::Post { .. } | Stage::Telling { .. } => true,
            _ => false,
        }
    }

    /// How the live slot did before, where this stage knows it.
    pub fn live(&self) -> Option<&Live> {
        match self {
            Stage::Clearing { live }
            | Stage::Hooking { live, .. }
            | Stage::Starting { live, .. }
            | Stage::Proving { live, .. }
            | Stage::Shifting { live, .. }
            | Stage::Draining { live, .. }
            | Stage::Waiting { live, .. }
            | Stage::Switching { live, .. }
            | Stage::Soaking { live, .. }
            | Stage::Reviving { live, .. } => Some(live),
            Stage::Preparing | Stage::Post { .. } | Stage::Telling { .. } | Stage::Settling(_) => None,
        }
    }

    /// Whether a breaking migration may have begun.
    pub fn has_migrated(&self, facts: &Facts) -> bool {
        match self {
            Stage::Preparing | Stage::Clearing { .. } | Stage::Hooking { point: HookPoint::Snapshot, .. } => false,
            Stage::Settling(settling) => settling.migrated,
            _ => facts.is_breaking(),
        }
    }

    /// The hook that this stage is about, which runs once.
    pub fn hook(&self) -> Option<HookPoint> {
        match self {
            Stage::Hooking { point, .. } => Some(*point),
            Stage::Telling { .. } => Some(HookPoint::PostDeploy),
            _ => None,
        }
    }
}
