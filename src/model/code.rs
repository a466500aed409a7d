//! Codes: the stable name of every refusal and fault, with its exit status and its line in the manual.
//!
//! They are part of the interface: scripts match on them. One table holds all three, so a new code
//! does not compile without an exit status and an explanation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How `slotctl` ends. The numbers are documented in README and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is so.
    Ok = 0,
    /// slotd's own fault.
    Internal = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `status`: an app is degraded, failed or stuck. `check`: something was found.
    Degraded = 3,
    /// No such app, slot or deployment.
    NotFound = 4,
    /// The request can't be carried out as things stand.
    Refused = 5,
    /// Another deployment is in the way.
    Busy = 6,
    /// The caller may not.
    Denied = 7,
    /// The daemon doesn't answer.
    Unreachable = 8,
    /// `plan`: there would be nothing to do.
    Unchanged = 9,
    /// The deployment was undone; the old slot serves as before.
    RolledBack = 10,
    /// The deployment failed: before any effect, or with nothing to go back to.
    Failed = 11,
    /// The deployment was cancelled or superseded.
    Cancelled = 12,
    /// The deployment needs a hand.
    Stuck = 13,
    /// The release is ready and doesn't go live by itself.
    ReadyNotLive = 20,
    /// The artifact was refused.
    Artifact = 21,
    /// No room on the disk.
    DiskFull = 22,
}

impl Exit {
    /// All of them, in rising order.
    pub const ALL: [Exit; 17] = [
        Exit::Ok,
        Exit::Internal,
        Exit::Usage,
        Exit::Degraded,
        Exit::NotFound,
        Exit::Refused,
        Exit::Busy,
        Exit::Denied,
        Exit::Unreachable,
        Exit::Unchanged,
        Exit::RolledBack,
        Exit::Failed,
        Exit::Cancelled,
        Exit::Stuck,
        Exit::ReadyNotLive,
        Exit::Artifact,
        Exit::DiskFull,
    ];

    /// Its line in the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "What was asked for is so.",
            Exit::Internal => "A fault of slotd itself.",
            Exit::Usage => "The command line is wrong.",
            Exit::Degraded => {
                "status: an app is degraded or stuck, or slotd isn't well. check, probe: something was found."
            }
            Exit::NotFound => "There is no such app, slot or deployment.",
            Exit::Refused => "The request can't be carried out as things stand.",
            Exit::Busy => "Another deployment is in the way.",
            Exit::Denied => "The caller may not.",
            Exit::Unreachable => "The daemon doesn't answer.",
            Exit::Unchanged => "plan: there would be nothing to do.",
            Exit::RolledBack => "The deployment was undone: the old slot serves as before.",
            Exit::Failed => "The deployment failed before any effect, or with nothing to go back to.",
            Exit::Cancelled => "The deployment was cancelled or superseded.",
            Exit::Stuck => "The deployment needs a hand.",
            Exit::ReadyNotLive => "The release is ready and doesn't go live by itself.",
            Exit::Artifact => "The artifact was refused.",
            Exit::DiskFull => "No room on the disk.",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $exit:ident;)*) => {
        /// A stable code.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// All codes, in the order of the manual.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The code as scripts see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The exit status of a command that ends with it.
            pub fn exit(self) -> Exit {
                match self { $(Code::$name => Exit::$exit,)* }
            }

            /// Its line in the manual.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// The dropped file is not complete yet, or stayed incomplete past the grace time.
    IngestIncomplete = "ingest.incomplete", Artifact;
    /// The dropped file changed while it was read.
    IngestChanged = "ingest.changed", Artifact;
    /// The dropped thing is neither a plain file nor a directory.
    IngestNotRegular = "ingest.not_regular", Artifact;
    /// The dropped file can't be read by slotd.
    IngestUnreadable = "ingest.unreadable", Artifact;
    /// The dropped file's name doesn't match the app's pattern.
    IngestMisnamed = "ingest.misnamed", Artifact;
    /// A slot of this version has other bytes already.
    ReleaseConflict = "release.conflict", Artifact;
    /// The version is none, or not of the order that the app uses.
    ReleaseVersion = "release.version", Artifact;
    /// The release file inside the artifact is wrong.
    ReleaseInvalid = "release.invalid", Artifact;
    /// The release failed by its own fault; `activate --force` or `quarantine clear` overrules.
    ReleaseQuarantined = "release.quarantined", Refused;
    /// The data was migrated since, and the slot is from before; `--force` overrules.
    ReleaseBarred = "release.barred", Refused;
    /// The release breaks the data for the slot that is live, and no hook restores it.
    ReleaseIrreversible = "release.irreversible", Refused;
    /// A header of the archive can be read in two ways.
    ArchiveAmbiguous = "archive.ambiguous", Artifact;
    /// An entry's path leaves the tree or can't stand in one.
    ArchivePathEscape = "archive.path_escape", Artifact;
    /// A symbolic link leaves the tree.
    ArchiveLinkEscape = "archive.link_escape", Artifact;
    /// A hard link to something that isn't a file of this archive.
    ArchiveHardlink = "archive.hardlink", Artifact;
    /// Two entries of one path, case and Unicode folded.
    ArchiveDuplicate = "archive.duplicate", Artifact;
    /// A device, FIFO or socket.
    ArchiveSpecialFile = "archive.special_file", Artifact;
    /// A setuid, setgid or sticky bit.
    ArchiveMode = "archive.mode", Artifact;
    /// Extended attributes or ACLs.
    ArchiveXattr = "archive.xattr", Artifact;
    /// A sparse file.
    ArchiveSparse = "archive.sparse", Artifact;
    /// A limit on bytes, entries, a file's size, ratio, memory or time was reached.
    ArchiveLimit = "archive.limit", Artifact;
    /// The archive is cut short or damaged.
    ArchiveDamaged = "archive.damaged", Artifact;
    /// Not one of tar, tar.gz, tar.zst, tar.xz.
    ArchiveFormat = "archive.format", Artifact;
    /// The digest beside the artifact isn't the artifact's.
    TrustDigestMismatch = "trust.digest_mismatch", Artifact;
    /// No room, or no inodes, on the file system of the state.
    DiskFull = "disk.full", DiskFull;
    /// Another process is at work in slotd's private folders.
    FsRace = "fs.race", Internal;
    /// Reading or writing slotd's state failed.
    FsIo = "fs.io", Internal;
    /// A folder of slotd can be changed by others.
    ConfigInsecureDir = "config.insecure_dir", Refused;
    /// A settings file is wrong.
    ConfigInvalid = "config.invalid", Refused;
    /// A unit lacks a line that it needs, or has one that breaks the promises.
    ConfigUnit = "config.unit", Refused;
    /// The caller may not do this.
    AuthDenied = "auth.denied", Denied;
    /// The request is malformed or too large.
    RequestInvalid = "request.invalid", Refused;
    /// Another deployment of the app, or too many requests, are in the way.
    RequestBusy = "request.busy", Busy;
    /// What the approved plan was made of has changed since.
    PlanMoved = "plan.moved", Refused;
    /// There is no such app.
    UnknownApp = "unknown.app", NotFound;
    /// There is no such slot.
    UnknownSlot = "unknown.slot", NotFound;
    /// There is no such deployment.
    UnknownDeployment = "unknown.deployment", NotFound;
    /// The app is told to rest: nothing of it is deployed until it isn't any more.
    AppPaused = "app.paused", Refused;
    /// The app, or all of slotd, is frozen: nothing moves it forward until that is over. Going back is always possible.
    AppFrozen = "app.frozen", Refused;
    /// There is no slot to go back to.
    NothingToGoBackTo = "rollback.no_target", Refused;
    /// The files of the slot are not those that were published.
    SlotTampered = "slot.tampered", Refused;
    /// The unit doesn't exist.
    UnitMissing = "unit.missing", Refused;
    /// The unit is masked.
    UnitMasked = "unit.masked", Refused;
    /// The unit's start job failed.
    UnitStart = "unit.start", RolledBack;
    /// The unit's start didn't end in time.
    UnitStartTimeout = "unit.start_timeout", RolledBack;
    /// The candidate's process ended before the deployment did.
    UnitExited = "unit.exited", RolledBack;
    /// The unit couldn't be stopped.
    UnitStop = "unit.stop", Stuck;
    /// Somebody else stopped a unit of the deployment.
    UnitStoppedByOther = "unit.stopped_by_other", Cancelled;
    /// systemd doesn't answer on D-Bus, or refuses slotd.
    UnitControl = "unit.control", Failed;
    /// A hook of a deployment failed, or didn't end in time.
    HookFailed = "hook.failed", RolledBack;
    /// The build of a release failed, or didn't end in time.
    BuildFailed = "build.failed", Artifact;
    /// The candidate gave wrong answers up to the deadline.
    ProbeFailed = "probe.failed", RolledBack;
    /// The candidate gave no answer up to the deadline.
    ProbeSilent = "probe.silent", RolledBack;
    /// The candidate didn't stay up for `stable_for`.
    ProofUnstable = "proof.unstable", RolledBack;
    /// The address that users call didn't answer from the new slot.
    RouteOutside = "route.outside", RolledBack;
    /// An instance that should take users doesn't say that it accepts.
    RouteNotAccepting = "route.not_accepting", RolledBack;
    /// An instance that should take no users doesn't say that it is quiet.
    RouteNotQuiet = "route.not_quiet", RolledBack;
    /// The route can't give what the strategy asks of it.
    RouteUnsupported = "route.unsupported", Refused;
    /// The root helper of the route failed, or open connections can't be counted.
    RouteHelper = "route.helper", RolledBack;
    /// A probe can't be told which instance it reaches.
    RouteProbeUnaddressed = "route.probe_unaddressed", Refused;
    /// The new slot failed while it was watched after the switch.
    SoakFailed = "soak.failed", RolledBack;
    /// Nobody said `confirm` within the soak time.
    SoakUnconfirmed = "soak.unconfirmed", RolledBack;
    /// The live slot crashes again and again.
    CrashLoop = "unit.crash_loop", Degraded;
    /// An operator cancelled the deployment.
    Cancelled = "deployment.cancelled", Cancelled;
    /// A newer release or an operator's change took its place.
    Superseded = "deployment.superseded", Cancelled;
    /// slotd or the host stopped in the middle.
    Interrupted = "deployment.interrupted", RolledBack;
    /// No side of the deployment could be brought up.
    Stuck = "deployment.stuck", Stuck;
    /// A step didn't end by its deadline.
    StepTimeout = "deployment.step_timeout", RolledBack;
    /// An app that this one depends on isn't live, or doesn't answer.
    DependencyDown = "dependency.down", Failed;
    /// The deployment of an app that this one depends on, which went first, didn't end well.
    DependencyFailed = "dependency.failed", Failed;
    /// The history can't be written or read; deployments go on without it.
    HistoryUnavailable = "history.unavailable", Internal;
    /// Another slotd runs on this state.
    AlreadyRunning = "daemon.already_running", Refused;
    /// The daemon doesn't answer on its socket.
    Unreachable = "daemon.unreachable", Unreachable;
    /// A fault of slotd itself.
    Internal = "internal", Internal;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_ends_with_a_status_of_the_table() {
        assert!(Exit::ALL.is_sorted());
        for code in Code::ALL {
            assert!(Exit::ALL.contains(&code.exit()), "{code}");
        }
    }

    #[test]
    fn codes_are_distinct_and_come_back() {
        for code in Code::ALL {
            let json = serde_json::to_string(code).expect("JSON");
            assert_eq!(json, format!("{:?}", code.as_str()).replace('\'', ""));
            assert_eq!(serde_json::from_str::<Code>(&json).expect("back"), *code);
            assert_eq!(Code::ALL.iter().filter(|other| other.as_str() == code.as_str()).count(), 1);
        }
    }
}
