//! The answer to verbs that begin or end a deployment.

use serde::{Deserialize, Serialize};

use crate::model::deployment::Kind;
use crate::model::{Dependency, DeploymentId, SlotName, Timestamp};

/// The answer to `POST /v1/apps/APP/activate`, `…/rollback`, `…/cancel`, `…/promote` and `…/confirm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Accepted {
    /// Nothing to do: it is so already.
    Unchanged {
        /// The live slot.
        current: SlotName,
    },
    /// This deployment does it.
    Deployment {
        /// Its id.
        id: DeploymentId,
        /// What it is for.
        kind: Kind,
        /// The longest it may take to be undone, stated in advance ("stop 30s, start 90s").
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bound: Option<String>,
        /// The apps that it depends on, in the order in which they come up: how they do now, and what goes first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dependencies: Vec<Dependency>,
    },
    /// This deployment does it, once its time has come.
    Scheduled {
        /// Its id.
        id: DeploymentId,
        /// The slot that goes live by it.
        to: SlotName,
        /// When it begins.
        at: Timestamp,
    },
    /// The deployment under way, whose slot is live and watched, is undone.
    Undone {
        /// Its id.
        id: DeploymentId,
        /// The slot that serves again.
        to: SlotName,
    },
    /// It was cancelled before it began: nothing had to be undone.
    Cancelled {
        /// Its id.
        id: DeploymentId,
        /// The slot that doesn't go live by it.
        to: SlotName,
        /// The deployment after which it would have been tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<DeploymentId>,
    },
    /// The artifact that was being taken in is no slot.
    NotTaken {
        /// The file.
        file: String,
    },
    /// These files of the inbox, which were refused or wait for their next try, are tried now.
    Again {
        /// Their names.
        files: Vec<String>,
    },
}
