//! Hooks: oneshot units of the administrator's that are run for a slot, and at which points: one builds it, the others
//! belong to a deployment, which runs them for its candidate.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::Template;

/// At which point of a deployment a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// Before a release becomes a slot, with write access to its tree: a part of no deployment.
    Build,
    /// Before anything is touched.
    Preflight,
    /// Before a breaking migration, once the old slot has stopped.
    Snapshot,
    /// Before the candidate's first instance starts.
    Deploy,
    /// Once the candidate is live for good.
    PostDeploy,
    /// On the way back from a breaking migration, before the old slot starts.
    Restore,
}

impl HookPoint {
    /// All of them, in their order.
    pub const ALL: [HookPoint; 6] = [
        HookPoint::Build,
        HookPoint::Preflight,
        HookPoint::Snapshot,
        HookPoint::Deploy,
        HookPoint::PostDeploy,
        HookPoint::Restore,
    ];

    /// The word of the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            HookPoint::Build => "build",
            HookPoint::Preflight => "preflight",
            HookPoint::Snapshot => "snapshot",
            HookPoint::Deploy => "deploy",
            HookPoint::PostDeploy => "post_deploy",
            HookPoint::Restore => "restore",
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which template runs at which point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hooks(BTreeMap<HookPoint, Template>);

impl Hooks {
    /// That of a point.
    pub fn at(&self, point: HookPoint) -> Option<&Template> {
        self.0.get(&point)
    }

    /// Those whose points are good.
    pub fn at_points(&self, good: impl Fn(HookPoint) -> bool) -> Hooks {
        self.all().filter(|(point, _)| good(*point)).map(|(point, template)| (point, template.clone())).collect()
    }

    /// All of them, in the order of their points.
    pub fn all(&self) -> impl Iterator<Item = (HookPoint, &Template)> {
        self.0.iter().map(|(point, template)| (*point, template))
    }
}

impl FromIterator<(HookPoint, Template)> for Hooks {
    fn from_iter<I: IntoIterator<Item = (HookPoint, Template)>>(hooks: I) -> Self {
        Hooks(hooks.into_iter().collect())
    }
}
