//! Why an artifact isn't taken: the rules, and the codes that they carry.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use crate::model::{Code, Evidence, Fault};

use super::archive::HeaderError;
use super::index::DuplicateError;
use super::limits::LimitError;
use super::links::LinkError;
use super::path::PathError;

/// Why an artifact was not taken, packed or checked.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// A rule refuses it.
    #[error("{}{rule}", prefix(.entry))]
    Refused {
        /// The entry of the archive, or the file, that the rule is about, fit to be shown.
        entry: Option<String>,
        /// Which rule.
        rule: Rule,
    },
    /// slotd's own side failed.
    #[error("failed to {step} {}", .path.display())]
    Io {
        /// What was tried: "write", "open".
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Too little room was left before the disk was full.
    #[error("{} has {free} {unit} free, and {needed} are needed (the reserve included)", .path.display())]
    NoRoom {
        /// A folder of the file system.
        path: PathBuf,
        /// "bytes" or "inodes".
        unit: &'static str,
        /// What is free.
        free: u64,
        /// What has to be.
        needed: u64,
    },
    /// Something else changes slotd's private folders.
    #[error("another process is at work in {}: {what}", .path.display())]
    Race {
        /// Where.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// The unpack worker refused it, or failed.
    #[error("{}", .0.message)]
    Reported(Box<Fault>),
    /// The unpack worker ended without an answer.
    #[error("the unpack worker {how}{}", stderr_suffix(.stderr))]
    WorkerDied {
        /// "was killed by SIGKILL (out of memory?)", "exited with status 1".
        how: String,
        /// Whether a limit is the likely cause.
        by_limit: bool,
        /// The last that it wrote to standard error.
        stderr: String,
    },
    /// The unpack worker's answer can't be read.
    #[error("the unpack worker's answer can't be read: {0}")]
    WorkerAnswer(String),
    /// The caller gave up.
    #[error("unpacking was cancelled")]
    Cancelled,
}

/// The rules that an artifact has to keep. Each has a code.
#[derive(Debug, Error)]
pub enum Rule {
    /// A header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A path twice.
    #[error(transparent)]
    Duplicate(#[from] DuplicateError),
    /// A bound.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A setuid, setgid or sticky bit.
    #[error("mode {0:04o} has a setuid, setgid or sticky bit")]
    Mode(u32),
    /// A device, FIFO or socket.
    #[error("it is a {0}, and only files, folders and links are taken")]
    SpecialFile(&'static str),
    /// The archive is cut short.
    #[error("the archive is cut short")]
    Truncated,
    /// The archive's bytes don't add up.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// The archive holds no entry.
    #[error("the archive holds nothing")]
    Empty,
    /// Bytes follow the compressed stream.
    #[error("bytes follow the end of the compressed stream")]
    AfterStream,
    /// The name has none of the endings.
    #[error("the name ends in none of .tar, .tar.gz, .tgz, .tar.zst, .tar.xz")]
    UnknownEnding,
    /// The content isn't what the ending says.
    #[error("the content isn't {0}, which the name says")]
    WrongMagic(&'static str),
    /// The dropped thing isn't a plain file.
    #[error("it is a {0}, not a plain file")]
    NotRegular(&'static str),
    /// The dropped file can't be read.
    #[error("it can't be read by slotd: {0}")]
    Unreadable(String),
    /// The dropped file changed while it was read.
    #[error("it changed while it was read: {0}")]
    Changed(&'static str),
    /// The digest beside the artifact is another.
    #[error("its SHA-256 is {actual}, and {beside} says {said}")]
    DigestMismatch {
        /// The file with the digest.
        beside: String,
        /// What it says.
        said: String,
        /// What the bytes have.
        actual: String,
    },
    /// The digest beside the artifact can't be read.
    #[error("{beside} holds no SHA-256 of it: {why}")]
    DigestMalformed {
        /// The file with the digest.
        beside: String,
        /// What is wrong.
        why: String,
    },
    /// The release file is wrong.
    #[error("{}{why}", at_line(.line))]
    Release {
        /// Where, from 1; `None` where it is about the whole file.
        line: Option<usize>,
        /// What is wrong.
        why: String,
    },
}

impl Rule {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Rule::Header(error) => error.code(),
            Rule::Path(_) => Code::ArchivePathEscape,
            Rule::Link(error) => error.code(),
            Rule::Duplicate(_) => Code::ArchiveDuplicate,
            Rule::Limit(_) => Code::ArchiveLimit,
            Rule::Mode(_) => Code::ArchiveMode,
            Rule::SpecialFile(_) => Code::ArchiveSpecialFile,
            Rule::Truncated | Rule::Damaged(_) | Rule::Empty => Code::ArchiveDamaged,
            Rule::AfterStream => Code::ArchiveAmbiguous,
            Rule::UnknownEnding | Rule::WrongMagic(_) => Code::ArchiveFormat,
            Rule::NotRegular(_) => Code::IngestNotRegular,
            Rule::Unreadable(_) => Code::IngestUnreadable,
            Rule::Changed(_) => Code::IngestChanged,
            Rule::DigestMismatch { .. } | Rule::DigestMalformed { .. } => Code::TrustDigestMismatch,
            Rule::Release { .. } => Code::ReleaseInvalid,
        }
    }
}

impl<T: Into<Rule>> From<T> for ArtifactError {
    fn from(rule: T) -> Self {
        ArtifactError::Refused { entry: None, rule: rule.into() }
    }
}

impl ArtifactError {
    /// An I/O error of slotd's own side; for `map_err`.
    pub(super) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ArtifactError {
        let path = path.into();
        move |source| ArtifactError::Io { step, path, source }
    }

    /// The same for system calls.
    pub(super) fn os(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> ArtifactError {
        let io = Self::io(step, path);
        move |errno| io(errno.into())
    }

    /// Names the entry that it is about, where that isn't said yet.
    #[must_use]
    pub(super) fn about(mut self, name: &str) -> Self {
        if let ArtifactError::Refused { entry: entry @ None, .. } = &mut self {
            *entry = Some(name.to_owned());
        }
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            ArtifactError::Refused { rule, .. } => rule.code(),
            ArtifactError::Io { source, .. } if is_full(source) => Code::DiskFull,
            ArtifactError::Io { .. } => Code::FsIo,
            ArtifactError::NoRoom { .. } => Code::DiskFull,
            ArtifactError::Race { .. } => Code::FsRace,
            ArtifactError::Reported(fault) => fault.code,
            ArtifactError::WorkerDied { by_limit: true, .. } => Code::ArchiveLimit,
            ArtifactError::WorkerDied { .. } | ArtifactError::WorkerAnswer(_) => Code::Internal,
            ArtifactError::Cancelled => Code::Cancelled,
        }
    }

    /// Whether the artifact itself is at fault, rather than slotd or the host.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self.code(),
            Code::FsIo | Code::FsRace | Code::DiskFull | Code::Internal | Code::Cancelled | Code::IngestUnreadable
        )
    }

    /// For records and people: code, one sentence with its causes, and the entry.
    pub fn fault(&self) -> Fault {
        if let ArtifactError::Reported(fault) = self {
            return Fault::clone(fault);
        }
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        let entry = match self {
            ArtifactError::Refused { entry, .. } => entry.clone(),
            ArtifactError::Io { path, .. } | ArtifactError::NoRoom { path, .. } | ArtifactError::Race { path, .. } => {
                Some(path.display().to_string())
            }
            _ => None,
        };
        Fault::new(self.code(), message).with(Evidence { entry, ..Evidence::default() })
    }
}

/// No space, or no quota, left.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A name from an archive as it can be shown: control characters escaped, so that none reaches a terminal.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

fn prefix(entry: &Option<String>) -> String {
    entry.as_ref().map(|entry| format!("{entry}: ")).unwrap_or_default()
}

fn at_line(line: &Option<usize>) -> String {
    line.map(|line| format!("line {line}: ")).unwrap_or_default()
}

fn stderr_suffix(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; it said: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_code_and_the_cause_stands_once() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = ArtifactError::os("write", "/x/y")(errno);
            assert_eq!(error.code(), Code::DiskFull);
            let message = error.fault().message;
            assert!(message.starts_with("failed to write /x/y: "), "{message}");
        }
        assert_eq!(ArtifactError::os("write", "/x")(Errno::IO).code(), Code::FsIo);
    }

    #[test]
    fn the_entry_is_named_and_can_not_speak_to_a_terminal() {
        let error = ArtifactError::from(Rule::Mode(0o4755)).about(&shown(b"bin/\x1b[31msu"));
        let fault = error.about("other").fault();
        assert_eq!(fault.evidence.entry.as_deref(), Some("bin/\\u{1b}[31msu"));
        assert_eq!(fault.message, "bin/\\u{1b}[31msu: mode 4755 has a setuid, setgid or sticky bit");
    }
}
