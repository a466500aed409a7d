//! What can go wrong with slots, and the code that it has for people and scripts.

use crate::durable::DurableError;
use crate::model::route::PortRange;
use crate::model::{Code, Digest, Fault, InstanceName, SlotName, Version};

use super::env::EnvError;

/// A step on slots that failed or was refused.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The disk said no.
    #[error("can't {action} {what}")]
    Disk {
        /// What was tried: "publish", "remove" …
        action: &'static str,
        /// On what: "slot 1.4.2".
        what: String,
        /// The step on the disk, and why not.
        source: DurableError,
    },
    /// A slot of this name has other bytes.
    #[error("{slot} is there already with other bytes (sha256 {}, and these are {}); give the release another version",
        there.short(), new.short())]
    Conflict {
        /// The slot.
        slot: SlotName,
        /// The artifact that it was made from.
        there: Digest,
        /// The artifact at hand.
        new: Digest,
    },
    /// A slot of this version had other bytes, and was removed.
    #[error("{version} had other bytes (sha256 {}, and these are {}) until it was removed, and a version means the same \
        bytes for good; give the release another version", there.short(), new.short())]
    Taken {
        /// The version.
        version: Version,
        /// The artifact that it was made from.
        there: Digest,
        /// The artifact at hand.
        new: Digest,
    },
    /// There is no slot of this name that could be activated.
    #[error("there is no slot {0}")]
    Unknown(SlotName),
    /// The slot was refused when it came in.
    #[error("{slot} was refused: {}", fault.message)]
    Refused {
        /// The slot.
        slot: SlotName,
        /// Why.
        fault: Box<Fault>,
    },
    /// The slot's own files can't be made sense of.
    #[error("slot {slot} is damaged: {reason}")]
    Damaged {
        /// The slot.
        slot: SlotName,
        /// What is wrong.
        reason: String,
    },
    /// The slot's files aren't those that were published, or that can't be told.
    #[error("the files of tree {} don't pass the check: {}", tree.short(), fault.message)]
    Unverified {
        /// The tree.
        tree: Digest,
        /// What was found.
        fault: Box<Fault>,
    },
    /// The slot is in the keep-set.
    #[error("{slot} isn't removed: {reason}")]
    Kept {
        /// The slot.
        slot: SlotName,
        /// Why it is kept.
        reason: String,
    },
    /// The environment can't be handed to a unit.
    #[error("the environment of {slot} can't be handed to a unit")]
    Env {
        /// The slot.
        slot: SlotName,
        /// Which variable, and why.
        source: EnvError,
    },
    /// All ports are in use.
    #[error("instance {instance} gets no port: all of {ports} are other instances', or somebody listens there")]
    NoPort {
        /// The instance.
        instance: InstanceName,
        /// Where one was looked for.
        ports: PortRange,
    },
    /// Not all slots can be read, so it isn't known which trees are in use.
    #[error("trees and artifacts are left alone: slot {slot} is damaged, so what it uses isn't known")]
    Unsure {
        /// The slot that can't be read.
        slot: SlotName,
    },
}

impl SlotError {
    /// Its stable code.
    pub fn code(&self) -> Code {
        match self {
            SlotError::Disk { source, .. } => source.code(),
            SlotError::Conflict { .. } | SlotError::Taken { .. } => Code::ReleaseConflict,
            SlotError::Unknown(_) => Code::UnknownSlot,
            SlotError::Refused { fault, .. } | SlotError::Unverified { fault, .. } => fault.code,
            SlotError::Damaged { .. } | SlotError::Unsure { .. } => Code::FsIo,
            SlotError::Kept { .. } => Code::Internal,
            SlotError::Env { .. } => Code::ConfigInvalid,
            SlotError::NoPort { .. } => Code::RouteUnsupported,
        }
    }

    /// As a fault, its causes in the message and what was seen beside it.
    pub fn fault(&self) -> Fault {
        match self {
            SlotError::Disk { source, .. } => Fault::new(self.code(), format!("{self}: {}", source.fault().message)),
            SlotError::Env { source, .. } => Fault::new(self.code(), format!("{self}: {source}")),
            SlotError::Refused { fault, .. } | SlotError::Unverified { fault, .. } => {
                Fault::new(self.code(), self.to_string()).with(fault.evidence.clone())
            }
            _ => Fault::new(self.code(), self.to_string()),
        }
    }

    /// For `map_err`: `action` on `what` failed on the disk.
    pub(super) fn disk(action: &'static str, what: impl Into<String>) -> impl FnOnce(DurableError) -> SlotError {
        move |source| SlotError::Disk { action, what: what.into(), source }
    }
}
