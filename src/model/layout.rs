//! Where everything of an app lies, as paths. Nothing here touches the disk.

use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::names::{AppName, InstanceName, SlotName};
use super::version::Version;

/// Where state lies unless the settings say otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/slotd";

/// Of a slot's files the one that says by which way users come.
pub const SLOT_ROUTE: &str = "route.json";

/// Where the runtime marks lie; made by tmpfiles, so that it outlives the daemon.
pub const DEFAULT_RUN_DIR: &str = "/run/slotd";

/// The folders and files of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    state: PathBuf,
    run: PathBuf,
    app: AppName,
}

impl Layout {
    /// The app's layout below the state and runtime folders.
    pub fn new(state: impl Into<PathBuf>, run: impl Into<PathBuf>, app: AppName) -> Self {
        Layout { state: state.into(), run: run.into(), app }
    }

    /// The app.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// `apps/web`, 0700, all that is below belongs to slotd.
    pub fn root(&self) -> PathBuf {
        self.state.join("apps").join(self.app.as_str())
    }

    /// `inbox/web`, where artifacts are dropped.
    pub fn inbox(&self) -> PathBuf {
        self.state.join("inbox").join(self.app.as_str())
    }

    /// Private copies of what is being read; swept at start.
    pub fn spool(&self) -> PathBuf {
        self.root().join("spool")
    }

    /// Trees being unpacked; swept at start.
    pub fn staging(&self) -> PathBuf {
        self.root().join("staging")
    }

    /// Packed bytes.
    pub fn artifacts(&self) -> PathBuf {
        self.root().join("artifacts")
    }

    /// The packed bytes of one artifact.
    pub fn artifact(&self, digest: &Digest) -> PathBuf {
        self.artifacts().join(digest.to_string())
    }

    /// Frozen trees.
    pub fn trees(&self) -> PathBuf {
        self.root().join("trees")
    }

    /// One tree.
    pub fn tree(&self, key: &Digest) -> PathBuf {
        self.trees().join(key.to_string())
    }

    /// A tree's content manifest.
    pub fn manifest(&self, key: &Digest) -> PathBuf {
        self.trees().join(format!("{key}.json"))
    }

    /// Slots.
    pub fn slots(&self) -> PathBuf {
        self.root().join("slots")
    }

    /// One slot.
    pub fn slot(&self, slot: &SlotName) -> PathBuf {
        self.slots().join(slot.encoded())
    }

    /// By which way users come to a slot while it is live: written before `current` names it.
    pub fn slot_route(&self, slot: &SlotName) -> PathBuf {
        self.slot(slot).join(SLOT_ROUTE)
    }

    /// Records of slots that were removed, so that a version means the same bytes for good.
    pub fn gone(&self) -> PathBuf {
        self.root().join("gone")
    }

    /// The record of the last removed slot of a version.
    pub fn gone_slot(&self, version: &Version) -> PathBuf {
        self.gone().join(SlotName::first(version.clone()).encoded())
    }

    /// Trees that are being built, lent to the user of the build.
    pub fn builds(&self) -> PathBuf {
        self.root().join("builds")
    }

    /// One build: its environment, and the tree.
    pub fn build(&self, slot: &SlotName) -> PathBuf {
        self.builds().join(slot.encoded())
    }

    /// Instances.
    pub fn instances(&self) -> PathBuf {
        self.root().join("instances")
    }

    /// What a template reads as `instances/%i`.
    pub fn instance(&self, instance: &InstanceName) -> PathBuf {
        self.instances().join(instance.encoded())
    }

    /// One of the three links: `current`, `fallback`, `next`.
    pub fn link(&self, link: Link) -> PathBuf {
        self.root().join(link.as_str())
    }

    /// What a link to `slot` contains.
    pub fn link_target(&self, slot: &SlotName) -> PathBuf {
        Path::new("slots").join(slot.encoded())
    }

    /// The open deployment.
    pub fn intent(&self) -> PathBuf {
        self.root().join("intent.json")
    }

    /// The deployment that waits for its turn, if somebody was told its id.
    pub fn queued(&self) -> PathBuf {
        self.root().join("queued.json")
    }

    /// The deployment that ended last.
    pub fn last(&self) -> PathBuf {
        self.root().join("last.json")
    }

    /// The breaking migrations that the data has behind it.
    pub fn breaks(&self) -> PathBuf {
        self.root().join("breaks.json")
    }

    /// The highest release ever live or tried.
    pub fn mark(&self) -> PathBuf {
        self.root().join("mark.json")
    }

    /// What operators chose by verbs, over the app's file.
    pub fn chosen(&self) -> PathBuf {
        self.root().join("settings.toml")
    }

    /// What waits to be deployed by hand: since when, and under which number.
    pub fn staged(&self) -> PathBuf {
        self.root().join("staged.json")
    }

    /// Told to rest.
    pub fn paused(&self) -> PathBuf {
        self.root().join("paused")
    }

    /// The pin of the app: while it is there nothing goes live by itself.
    pub fn pinned(&self) -> PathBuf {
        self.root().join("pinned")
    }

    /// While it holds nothing moves the app forward.
    pub fn frozen(&self) -> PathBuf {
        self.root().join("frozen")
    }

    /// The same for all apps.
    pub fn all_frozen(&self) -> PathBuf {
        all_frozen(&self.state)
    }

    /// The deployment that an operator wants at a time to come; or that ended without having begun.
    pub fn scheduled(&self) -> PathBuf {
        self.root().join("scheduled.json")
    }

    /// Which ends of deployments were told to whoever wants to know, and which are to be.
    pub fn told(&self) -> PathBuf {
        self.root().join("told.json")
    }

    /// The hold mark.
    pub fn hold(&self) -> PathBuf {
        self.run.join("hold").join(self.app.as_str())
    }

    /// The states of servers that HAProxy loads; root's.
    pub fn server_states(&self) -> PathBuf {
        self.run.join("haproxy").join(self.app.as_str())
    }

    /// What nginx was last told; root's.
    pub fn told_to_nginx(&self) -> PathBuf {
        self.run.join("nginx").join(self.app.as_str())
    }

    /// The set of backends that slotd wants, for routes with sets of their own.
    pub fn route(&self) -> PathBuf {
        self.run.join("route").join(self.app.as_str())
    }
}

/// The freeze of all apps, below the state folder.
pub fn all_frozen(state: &Path) -> PathBuf {
    state.join("frozen")
}

/// The symbolic links that name slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// The live slot.
    Current,
    /// The one to go back to.
    Fallback,
    /// The one on its way, and after the exchange the one it left.
    Next,
}

impl Link {
    /// All of them.
    pub const ALL: [Link; 3] = [Link::Current, Link::Fallback, Link::Next];

    /// The link's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Link::Current => "current",
            Link::Fallback => "fallback",
            Link::Next => "next",
        }
    }
}
