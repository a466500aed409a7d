//! A host in a temporary folder, for tests: real slots and links on a real disk, a scripted systemd.
#![allow(missing_docs, reason = "for tests")]

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::artifact::Manifest;
use crate::config::daemon::Defaults;
use crate::config::{AppSettings, parse_app};
use crate::model::deployment::Kind;
use crate::model::release::Release;
use crate::model::slot::{Origin, UnitCount};
use crate::model::{DeploymentId, Digest, Layout, Link, Report, SlotName, State, Timestamp};
use crate::routes::AnyRoute;
use crate::slots::{LinkState, NewSlot, SlotStore, compare};
use crate::units::fake::FakeUnits;

use super::driver::{Driven, drive};
use super::facts::{Facts, Plan, Side, Via};
use super::host::Host;
use super::machine::Machine;

const SETTINGS: &str = r#"
[[unit]]
name = "web@"
[route]
kind = "none"
[proof]
interval = "20ms"
timeout = "1s"
deadline = "5s"
stable_for = "20ms"
"#;

pub struct Site {
    pub base: tempfile::TempDir,
    pub store: Arc<SlotStore>,
    pub units: FakeUnits,
    pub settings: Arc<AppSettings>,
}

pub fn slot(text: &str) -> SlotName {
    text.parse().expect("a slot")
}

pub fn settings(text: &str) -> Arc<AppSettings> {
    let name = "web".parse().expect("a name");
    Arc::new(parse_app(&name, Path::new("web.toml"), text, &Defaults::default()).expect("settings"))
}

/// The bytes of the artifact of a release; what it unpacks to is an empty folder.
pub fn artifact(version: &str) -> Vec<u8> {
    format!("the artifact of {version}").into_bytes()
}

pub fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

impl Site {
    /// A host with the gate, and the releases of these versions as slots.
    pub fn with(versions: &[&str]) -> Site {
        let base = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let site = Site {
            store: Arc::new(Site::open(base.path())),
            units: FakeUnits::new(),
            settings: settings(&format!("deploy = \"manual\"\n{SETTINGS}")),
            base,
        };
        std::fs::create_dir_all(site.layout().hold().parent().expect("a folder")).expect("made");
        site.units.unit("web");
        versions.iter().for_each(|version| site.publish(version));
        site
    }

    /// The same, and the first of them is live.
    pub fn serving(versions: &[&str]) -> Site {
        let site = Site::with(versions);
        let live = slot(versions[0]);
        site.store.ensure_current(&live).expect("current");
        site.units.unit("web").runs();
        site.units.unit(&format!("web@{live}")).runs();
        site
    }

    /// The same host with these tables beside the settings that tests have.
    pub fn set(mut self, tables: &str) -> Site {
        self.settings = settings(&format!("deploy = \"manual\"\n{SETTINGS}\n{tables}"));
        self
    }

    /// The same host with these settings before those that tests have, keys without a table included.
    pub fn set_all(mut self, text: &str) -> Site {
        self.settings = settings(&format!("deploy = \"manual\"\n{text}\n{SETTINGS}"));
        self
    }

    /// The same host, on which the highest release goes live by itself.
    pub fn automatic(mut self) -> Site {
        self.settings = settings(SETTINGS);
        self
    }

    pub fn open(base: &Path) -> SlotStore {
        let layout = Layout::new(base.join("state"), base.join("run"), "web".parse().expect("a name"));
        SlotStore::open_below(base, layout).expect("opened").0
    }

    pub fn layout(&self) -> &Layout {
        self.store.layout()
    }

    pub fn publish(&self, version: &str) {
        let staging = self.layout().staging().join(format!("unpacked-{version}"));
        let packed = self.layout().spool().join(format!("spooled-{version}"));
        std::fs::create_dir(&staging).expect("made");
        std::fs::write(&packed, artifact(version)).expect("written");
        let manifest = serde_json::to_vec(&Manifest::default()).expect("JSON");
        let new = NewSlot {
            slot: slot(version),
            artifact: digest(&artifact(version)),
            units: vec![UnitCount { name: "web@".parse().expect("a template"), instances: 1 }],
            release: Release::default(),
            origin: Origin { file: format!("web-{version}.tar"), bytes: 1, by: "ann".into(), message: None },
            env: Default::default(),
            staging: Some(staging),
            manifest: &manifest,
            tree_bytes: 1,
            build: None,
            log: None,
            packed: Some(packed),
        };
        self.store.publish(&new, &compare).expect("published");
        self.units.unit(&format!("web@{version}"));
    }

    pub fn side(&self, version: &str) -> Side {
        Side { slot: slot(version), units: self.store.record(&slot(version)).expect("a record").units }
    }

    pub fn facts(&self, to: &str) -> Facts {
        let from = self.store.links().expect("links").current.slot().map(|from| self.side(&from.to_string()));
        let id: DeploymentId = "web-7".parse().expect("an id");
        let to = self.side(to);
        let plan = Plan::of(&self.settings, Default::default(), Kind::Deploy, from.as_ref(), &to).expect("a plan");
        let (needs, along) = Default::default();
        Facts { id, kind: Kind::Deploy, from, to, via: Via::Next, plan, needs, reroute: None, along }
    }

    pub fn report(&self, facts: &Facts) -> Report {
        Report {
            id: facts.id.clone(),
            kind: facts.kind,
            from: facts.from.as_ref().map(|side| side.slot.clone()),
            to: facts.to.slot.clone(),
            by: "ann".into(),
            message: None,
            attempt: 1,
            queued: Timestamp::from_unix_millis(0),
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

    pub fn host(&self) -> Host<FakeUnits> {
        let route = AnyRoute::new(&self.settings, self.layout(), self.units.clone());
        let (settings, store) = (Arc::clone(&self.settings), Arc::clone(&self.store));
        Host::new(settings, store, self.units.clone(), route, None, watch::Sender::new(None))
    }

    /// Deploys `to` to its end.
    pub async fn deploy(&self, to: &str) -> Driven {
        self.drive(self.facts(to)).await
    }

    /// Drives a deployment to its end.
    pub async fn drive(&self, facts: Facts) -> Driven {
        let (report, host) = (self.report(&facts), self.host());
        let (_verbs, mut heard) = mpsc::channel(1);
        host.learn_limits(&facts).await;
        let along = host.learn_along(&facts).await;
        drive(Machine::new(facts).beside(along), report, &host, &mut heard).await
    }

    pub fn link(&self, link: Link) -> String {
        match self.store.link(link).expect("readable") {
            LinkState::Absent => "-".into(),
            LinkState::Dangling(text) => format!("dangling {text}"),
            LinkState::Slot(slot) => slot.to_string(),
        }
    }

    /// `current`, `fallback` and `next`.
    pub fn links(&self) -> [String; 3] {
        [Link::Current, Link::Fallback, Link::Next].map(|link| self.link(link))
    }

    pub fn is_quarantined(&self, version: &str) -> bool {
        self.store.slot(&slot(version)).is_some_and(|entry| entry.quarantine.is_some())
    }

    /// Nothing of a deployment is left behind.
    pub fn assert_closed(&self) {
        assert!(!self.layout().intent().exists(), "the intent is open");
        assert!(!self.layout().hold().exists(), "the hold mark stays");
        assert_eq!(self.link(Link::Next), "-");
    }
}
