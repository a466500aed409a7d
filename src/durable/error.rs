//! What can go wrong with a file, and the code that it has for people and scripts.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Code, Fault};

/// A step on the disk that failed.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The system said no.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried: "rename", "flush" …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is there and isn't what it should be.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        source: serde_json::Error,
    },
    /// The file is larger than any that slotd writes.
    #[error("{} is damaged: more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The cap, in bytes.
        limit: u64,
    },
    /// Somebody else could change what lies below.
    #[error("{} isn't safe for slotd's state: {reason}", path.display())]
    Insecure {
        /// The folder or link that is at fault.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}

impl DurableError {
    /// Its stable code: a full disk and an insecure folder have their own.
    pub fn code(&self) -> Code {
        match self {
            DurableError::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
                _ => Code::FsIo,
            },
            DurableError::Damaged { .. } | DurableError::TooLarge { .. } => Code::FsIo,
            DurableError::Insecure { .. } => Code::ConfigInsecureDir,
        }
    }

    /// As a fault, its cause in the message.
    pub fn fault(&self) -> Fault {
        let message = match self {
            DurableError::Io { source, .. } => format!("{self}: {source}"),
            DurableError::Damaged { source, .. } => format!("{self}: {source}"),
            DurableError::TooLarge { .. } | DurableError::Insecure { .. } => self.to_string(),
        };
        Fault::new(self.code(), message)
    }

    /// Whether the file is there but unfit, rather than unreadable just now.
    pub fn is_damage(&self) -> bool {
        matches!(self, DurableError::Damaged { .. } | DurableError::TooLarge { .. })
    }

    /// Whether something was in the way of a name that had to be free.
    pub fn is_exists(&self) -> bool {
        matches!(self, DurableError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }

    /// Whether what was worked on isn't there.
    pub fn is_absent(&self) -> bool {
        matches!(self, DurableError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// For `map_err`: `action` on `path` failed.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> DurableError {
        move |source| DurableError::Io { action, path: path.to_owned(), source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_code_and_the_cause_stands_once() {
        for (errno, code) in [
            (rustix::io::Errno::NOSPC, Code::DiskFull),
            (rustix::io::Errno::DQUOT, Code::DiskFull),
            (rustix::io::Errno::IO, Code::FsIo),
        ] {
            let error = DurableError::io("write", Path::new("/state/x"))(errno);
            assert_eq!(error.code(), code);
            let cause = io::Error::from(errno).to_string();
            assert_eq!(error.fault().message, format!("can't write /state/x: {cause}"));
            assert!(!error.to_string().contains(&cause), "the source holds the cause");
        }
    }
}
