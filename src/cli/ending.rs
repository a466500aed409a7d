//! How a command ends: with a status, or with a failure that names the step.

use std::fmt;
use std::process::ExitCode;

use crate::control::api::ApiError;
use crate::model::{Code, Exit};

use super::text::{plain, quoted};

/// The command line of this process, so that a shell takes it again.
pub fn as_typed() -> String {
    let arguments = std::env::args_os().skip(1);
    let words = arguments.map(|argument| quoted(&argument.to_string_lossy()));
    ["slotctl".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// The status that a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending(u8);

impl Ending {
    /// Ended by Ctrl-C while it waited: 128 and the signal's number, as shells have it.
    pub const INTERRUPTED: Ending = Ending(130);
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        Ending(exit as u8)
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> ExitCode {
        ExitCode::from(ending.0)
    }
}

/// A command that couldn't do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// What it was at: "activate web 2.0.0".
    pub step: String,
    /// Why it couldn't.
    pub error: ApiError,
}

/// Names the step in which something was refused.
pub trait During<T> {
    /// The same result; a refusal is one in `step`.
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, ApiError> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step.into(), error })
    }
}

impl Failure {
    /// The status that it ends with.
    pub fn ending(&self) -> Ending {
        self.error.fault.code.exit().into()
    }

    /// The command to try next: the daemon's word, or what follows from the code.
    fn next(&self) -> Option<String> {
        let by_code = || match self.error.fault.code {
            Code::AuthDenied => Some(format!("sudo {}", as_typed())),
            Code::UnknownApp => Some("slotctl status".to_owned()),
            _ => None,
        };
        self.error.next.clone().or_else(by_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { step, error } = self;
        write!(f, "slotctl: {step}: {} ({})", plain(&error.fault.message), error.fault.code)?;
        if let Some(entry) = &error.fault.evidence.entry {
            write!(f, "\n  at: {}", plain(entry))?;
        }
        match self.next() {
            Some(next) => write!(f, "\n  next: {}", plain(&next)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_step_cause_and_next_command() {
        let denied = ApiError::new(Code::AuthDenied, "ann may not");
        let failure = Err::<(), _>(denied).during("cancel web").expect_err("failure");
        let text = failure.to_string();
        assert!(text.starts_with("slotctl: cancel web: ann may not (auth.denied)\n  next: sudo slotctl"), "{text}");
        assert_eq!(failure.ending(), Ending::from(Exit::Denied));
        let told = ApiError::new(Code::RequestBusy, "web-3 is under way").next("slotctl status web");
        let failure = Err::<(), _>(told).during("cancel web").expect_err("failure");
        assert!(failure.to_string().ends_with("\n  next: slotctl status web"));
    }
}
