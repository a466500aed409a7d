//! An app's settings after validation: every value is there and makes sense.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::time::duration_text;
use crate::model::{AppName, Hooks, Outcome, Retention, Template, UnitName, VersionOrder};

use super::origins::Origins;
use super::pattern::Pattern;
use super::reach::Reach;

pub use super::build::Build;
pub use super::traffic::{Accept, Ports, Route, Soak, Strategy, SwitchMode};

/// One app.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppSettings {
    /// Its name: the stem of the file.
    pub name: AppName,
    /// Whether releases go live by themselves.
    pub deploy: DeployMode,
    /// How it moves from slot to slot.
    pub strategy: Strategy,
    /// Which version is the higher.
    pub versions: VersionOrder,
    /// Whether a release has to say its version: none is generated.
    pub require_version: bool,
    /// The apps that have to be up for it to run.
    pub depends_on: Vec<AppName>,
    /// Where artifacts come from.
    pub inbox: Inbox,
    /// The units of a slot, in the order of starting; at least one.
    pub units: Vec<Unit>,
    /// How traffic reaches them.
    pub route: Route,
    /// The address that users call, where it is known.
    pub outside: Option<Outside>,
    /// The checks of readiness, by the unit whose instances they ask; without any, systemd's word (`notify`) is the
    /// proof.
    pub probes: BTreeMap<Template, Vec<Probe>>,
    /// How often and how long they are asked.
    pub proof: Proof,
    /// How the new slot is watched after the switch.
    pub soak: Soak,
    /// What is run for a candidate at which point of its deployment.
    pub hooks: Hooks,
    /// What a build gets beside the artifact.
    pub build: Build,
    /// Which slots are kept beside `current` and `fallback`.
    pub retention: Retention,
    /// The environment of a slot; a change holds for slots that are published from then on.
    pub env: BTreeMap<String, String>,
    /// When a live slot counts as crash-looping.
    pub crash_loop: CrashLoop,
    /// What is done then.
    pub on_crash_loop: OnCrashLoop,
    /// Which results of deployments are told to somebody.
    pub on_result: Vec<Outcome>,
    /// Bounds on what comes in.
    pub limits: Limits,
    /// Where all that was said.
    #[serde(skip)]
    pub origins: Origins,
    /// How users are to come by what is set, where that has to wait for an operator's word: until then they come as
    /// before, and the settings above say how.
    #[serde(skip)]
    pub waits: Option<Box<Reach>>,
}

/// Whether the highest newer release goes live by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployMode {
    /// It does.
    Automatic,
    /// It waits for an operator.
    Manual,
}

/// The drop-in directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inbox {
    /// Which names are this app's, and where the version stands in them.
    pub pattern: Pattern,
    /// Whether accepted files stay.
    pub keep: bool,
}

/// A unit of every slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// The template.
    pub name: Template,
    /// N.
    pub instances: u32,
    /// Whether old and new may run at once.
    pub overlap: bool,
}

/// A check of readiness, addressed to one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Probe {
    /// systemd's word: the unit is active.
    Notify,
    /// An HTTP request.
    Http {
        /// Where to.
        address: Address,
        /// The path, `/` first.
        path: String,
        /// Which status is good; 200 to 299 by default.
        status: Vec<u16>,
        /// Headers that must be there with this value; `{version}` stands for the slot's version.
        headers: BTreeMap<String, String>,
        /// Text that the body must contain; `{version}` as above.
        body: Option<String>,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// `HOST:PORT`.
        address: String,
    },
    /// A connection to a Unix socket is accepted.
    Unix {
        /// Its path; `{instance}` stands for the instance's encoded name.
        path: String,
    },
    /// A oneshot unit, template or not, succeeds; a template gets the instance's name.
    Unit {
        /// `web-check@` or `web-check.service`.
        name: String,
    },
}

/// The address that users call: asked while a deployment is under way, to see what they see, and after a switch, to see
/// the new slot there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// What is asked there: HTTP or a TCP connection.
    pub probe: Probe,
    /// How often, while a deployment is under way.
    #[serde(with = "duration_text")]
    pub interval: Duration,
}

impl Outside {
    /// `HOST:PORT`.
    pub fn address(&self) -> Option<&str> {
        self.probe.tcp_address()
    }
}

impl Probe {
    /// `HOST:PORT`, if it asks there.
    pub fn tcp_address(&self) -> Option<&str> {
        match self {
            Probe::Http { address: Address::Tcp(address), .. } | Probe::Tcp { address } => Some(address),
            _ => None,
        }
    }
}

/// Where an HTTP probe connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    /// A Unix socket; `{instance}` stands for the instance's encoded name.
    Unix(PathBuf),
}

/// How readiness is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Between two attempts.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// For one attempt.
    #[serde(with = "duration_text")]
    pub timeout: Duration,
    /// Good answers in a row.
    pub successes: u32,
    /// From the start job's end to the last success.
    #[serde(with = "duration_text")]
    pub deadline: Duration,
    /// How long the instance must then stay up.
    #[serde(with = "duration_text")]
    pub stable_for: Duration,
}

/// When restarts become a crash loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CrashLoop {
    /// This many restarts by systemd …
    pub restarts: u32,
    /// … within this time.
    #[serde(with = "duration_text")]
    pub within: Duration,
}

/// What a crash loop of the live slot does outside a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrashLoop {
    /// It is told.
    Report,
    /// It goes back to the fallback.
    Rollback,
}

/// Bounds on what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of the packed artifact.
    pub packed_bytes: u64,
    /// Bytes of all unpacked files together.
    pub unpacked_bytes: u64,
    /// Bytes of one unpacked file.
    pub file_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Unpacked bytes for one packed byte.
    pub ratio: u64,
    /// Time to unpack.
    #[serde(with = "duration_text")]
    pub time: Duration,
    /// How long a dropped file may stay incomplete before it is told.
    #[serde(with = "duration_text")]
    pub grace: Duration,
}

impl AppSettings {
    /// The checks of an instance of `unit`.
    pub fn probes_of(&self, unit: &Template) -> &[Probe] {
        self.probes.get(unit).map_or(&[], Vec::as_slice)
    }

    /// The checks of the instance that `unit` runs.
    pub fn probes_for(&self, unit: &UnitName) -> &[Probe] {
        let template = self.units.iter().find(|it| it.name.instance_of(unit).is_some());
        template.map_or(&[], |it| self.probes_of(&it.name))
    }

    /// The unit that the route sends users to: the first.
    pub fn routed(&self) -> Option<&Unit> {
        self.units.first()
    }

    /// The checks of an instance that the route sends users to.
    pub fn routed_probes(&self) -> &[Probe] {
        self.routed().map_or(&[], |unit| self.probes_of(&unit.name))
    }

    /// The units that probes run: templates with their `@`, others with `.service`.
    pub fn probe_units(&self) -> Vec<String> {
        let unit_of = |probe: &Probe| match probe {
            Probe::Unit { name } => Some(name.clone()),
            _ => None,
        };
        self.all_probes().filter_map(unit_of).collect()
    }

    /// All checks.
    pub fn all_probes(&self) -> impl Iterator<Item = &Probe> {
        self.probes.values().flatten()
    }
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Limits {
            packed_bytes: 2 * GIB,
            unpacked_bytes: 8 * GIB,
            file_bytes: 4 * GIB,
            entries: 500_000,
            ratio: 200,
            time: Duration::from_secs(600),
            grace: Duration::from_secs(300),
        }
    }
}

impl Default for Proof {
    fn default() -> Self {
        Proof {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            successes: 2,
            deadline: Duration::from_secs(60),
            stable_for: Duration::from_secs(3),
        }
    }
}

impl Default for CrashLoop {
    fn default() -> Self {
        CrashLoop { restarts: 5, within: Duration::from_secs(60) }
    }
}
