//! `slotd-gate`: starts and stops what `current` names. It needs no slotd, no bus and no settings file.
//!
//! It is what runs at boot, under `systemctl start|stop|restart APP`, and when a connection arrives at a socket
//! whose service is down. It reads two things that slotd wrote, the link `current` and the slot's `slot.json`,
//! and takes from them a slot's name and counts, nothing more: which templates there are, and in which order, the
//! administrator's unit says. All the rest goes through `systemctl`, which works while the bus is down.
//! [`route`] is the root helper of routes on which each instance has a port of its own, and [`lend`] that of builds.
//!
//! Every call ends: the waits are bounded by the units' own limits, the pauses by [`pacing`], the hold mark by
//! its deadline.

pub mod current;
pub mod hold;
pub mod lend;
pub mod pacing;
pub mod route;
pub mod settle;
pub mod start;
pub mod stop;
pub mod systemctl;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::model::layout::{DEFAULT_RUN_DIR, DEFAULT_STATE_DIR};
use crate::model::names::NameError;
use crate::model::route::{RouteCall, RouteCallError};
use crate::model::{AppName, Layout, Template, UnitName};

use lend::Borrower;
use systemctl::Systemctl;

const USAGE: &str = "usage: slotd-gate [--state-dir DIR] [--run-dir DIR] start|stop|reload APP TEMPLATE@...
       slotd-gate [--state-dir DIR] [--run-dir DIR] settle APP:UNIT...
       slotd-gate [--state-dir DIR] [--run-dir DIR] lend|take-back APP:UNIT
       slotd-gate [--state-dir DIR] [--run-dir DIR] route APP nftables --port PORT --ports FIRST-LAST TEMPLATE@
       slotd-gate [...] route APP haproxy --backend NAME --socket PATH --servers N --ports FIRST-LAST TEMPLATE@
       slotd-gate [...] route APP nginx --include FILE --ports FIRST-LAST TEMPLATE@";

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Start what `current` names.
    Start(AppName, Vec<Template>),
    /// Stop every instance of the templates.
    Stop(AppName, Vec<Template>),
    /// Reload the running instances of `current`.
    Reload(AppName, Vec<Template>),
    /// Stop the gates of apps whose live slot is gone.
    Settle(Vec<Ended>),
    /// Give the tree of a build to the build's user.
    Lend(Borrower),
    /// Give it back.
    TakeBack(Borrower),
    /// Send users to the instances that are to have them.
    Route(RouteCall),
}

/// `APP:UNIT`: an app, and the unit whose end is the reason to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The app.
    pub app: AppName,
    /// The unit that ended, for the message only.
    pub unit: UnitName,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where state lies.
    pub state: PathBuf,
    /// Where the runtime marks lie.
    pub run: PathBuf,
    /// What to do.
    pub verb: Verb,
}

/// Why a command line is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// No verb, or a word too few.
    #[error("something is missing")]
    Missing,
    /// An unknown verb or option.
    #[error("{0:?} is neither a verb nor an option")]
    Unknown(String),
    /// Not text.
    #[error("{0:?} is not UTF-8")]
    NotText(OsString),
    /// An app or template that can't be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A template given twice.
    #[error("{0} stands there twice")]
    Twice(Template),
    /// Not `APP:UNIT`.
    #[error("{0:?} is not APP:UNIT")]
    NotEnded(String),
    /// Not a route.
    #[error(transparent)]
    Route(#[from] RouteCallError),
}

/// Why a verb didn't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Starting failed.
    #[error(transparent)]
    Start(#[from] start::StartError),
    /// Stopping failed.
    #[error(transparent)]
    Stop(#[from] stop::StopError),
    /// Settling failed.
    #[error(transparent)]
    Settle(#[from] settle::SettleError),
    /// A tree isn't lent, or not given back.
    #[error(transparent)]
    Lend(#[from] lend::LendError),
    /// The route isn't as it should be.
    #[error(transparent)]
    Route(#[from] route::RouteError),
}

/// Runs the command line of this process; the answer is its exit code: 0 done, 1 not done, 2 a wrong command line.
/// What there is to say goes to standard error, which is the unit's journal.
pub fn main() -> ExitCode {
    systemctl::close_listeners();
    let environment = |name| std::env::var_os(name).map(PathBuf::from);
    let call = Call::parse(std::env::args_os().skip(1), environment("SLOTD_STATE_DIR"), environment("SLOTD_RUN_DIR"));
    let call = match call {
        Ok(call) => call,
        Err(error) => {
            eprintln!("slotd-gate: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match call.run(&Systemctl::new()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slotd-gate: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Call {
    /// Reads a command line (without the program's name). `state` and `run` are what the environment says; options
    /// go before it, the built-in folders behind.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        state: Option<PathBuf>,
        run: Option<PathBuf>,
    ) -> Result<Call, UsageError> {
        let mut words = arguments.into_iter().map(|word| word.into_string().map_err(UsageError::NotText));
        let mut next = || words.next().transpose();
        let (mut state, mut run) = (state, run);
        let verb = loop {
            match next()?.ok_or(UsageError::Missing)?.as_str() {
                "--state-dir" => state = Some(next()?.ok_or(UsageError::Missing)?.into()),
                "--run-dir" => run = Some(next()?.ok_or(UsageError::Missing)?.into()),
                other => break other.to_owned(),
            }
        };
        let rest = words.collect::<Result<Vec<String>, _>>()?;
        let verb = match verb.as_str() {
            "start" => app_and_templates(&rest).map(|(app, templates)| Verb::Start(app, templates))?,
            "stop" => app_and_templates(&rest).map(|(app, templates)| Verb::Stop(app, templates))?,
            "reload" => app_and_templates(&rest).map(|(app, templates)| Verb::Reload(app, templates))?,
            "settle" if rest.is_empty() => return Err(UsageError::Missing),
            "settle" => Verb::Settle(rest.iter().map(|word| ended(word)).collect::<Result<_, _>>()?),
            "lend" => Verb::Lend(borrower(&rest)?),
            "take-back" => Verb::TakeBack(borrower(&rest)?),
            "route" => Verb::Route(RouteCall::parse(&rest)?),
            other => return Err(UsageError::Unknown(other.to_owned())),
        };
        let state = state.unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let run = run.unwrap_or_else(|| DEFAULT_RUN_DIR.into());
        Ok(Call { state, run, verb })
    }

    /// Does it.
    pub fn run(&self, systemctl: &Systemctl) -> Result<(), GateError> {
        let layout = |app: &AppName| Layout::new(&self.state, &self.run, app.clone());
        match &self.verb {
            Verb::Start(app, templates) => start::start(&layout(app), &self.run, templates, systemctl)?,
            Verb::Stop(app, templates) => stop::stop(app, templates, systemctl)?,
            Verb::Reload(app, templates) => start::reload(&layout(app), templates, systemctl)?,
            Verb::Settle(all) => {
                for ended in all {
                    settle::settle(&layout(&ended.app), &ended.unit, systemctl)?;
                }
            }
            Verb::Lend(to) => lend::lend(&layout(&to.app), to, systemctl)?,
            Verb::TakeBack(from) => lend::take_back(&layout(&from.app), from)?,
            Verb::Route(call) => route::route(&layout(&call.app), call, systemctl)?,
        }
        Ok(())
    }
}

/// Says something that isn't an error.
fn say(app: &AppName, text: &str) {
    eprintln!("slotd-gate: {app}: {text}");
}

/// Looks every [`LOOK_EVERY`] until `seen` gives something or `at_most` has passed.
fn wait_for<T>(at_most: Duration, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + at_most;
    loop {
        if let Some(found) = seen() {
            return Some(found);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "a level is waited for, and the gate has no event loop")]
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

fn app_and_templates(words: &[String]) -> Result<(AppName, Vec<Template>), UsageError> {
    let [app, templates @ ..] = words else { return Err(UsageError::Missing) };
    let app = app.parse()?;
    let mut known: Vec<Template> = Vec::new();
    for word in templates {
        let template: Template = word.parse()?;
        if known.contains(&template) {
            return Err(UsageError::Twice(template));
        }
        known.push(template);
    }
    if known.is_empty() { Err(UsageError::Missing) } else { Ok((app, known)) }
}

fn borrower(words: &[String]) -> Result<Borrower, UsageError> {
    let [word] = words else { return Err(UsageError::Missing) };
    Borrower::parse(word).ok_or_else(|| UsageError::NotEnded(word.clone()))
}

fn ended(word: &str) -> Result<Ended, UsageError> {
    let (app, unit) = word.split_once(':').ok_or_else(|| UsageError::NotEnded(word.to_owned()))?;
    Ok(Ended { app: app.parse()?, unit: UnitName::new(unit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Call, UsageError> {
        Call::parse(line.split_whitespace().map(OsString::from), Some("/env".into()), None)
    }

    #[test]
    fn a_command_line() {
        let call = parse("--run-dir /r start web web@ worker@").expect("a call");
        assert_eq!((call.state, call.run), ("/env".into(), "/r".into()));
        let templates = vec!["web@".parse().expect("template"), "worker@".parse().expect("template")];
        assert_eq!(call.verb, Verb::Start("web".parse().expect("app"), templates));
        let call = parse("--state-dir /s settle web:web@1.4.2@2").expect("a call");
        assert_eq!((call.state, call.run), ("/s".into(), DEFAULT_RUN_DIR.into()));
        let ended = Ended { app: "web".parse().expect("app"), unit: UnitName::new("web@1.4.2@2") };
        assert_eq!(call.verb, Verb::Settle(vec![ended]));
    }

    #[test]
    fn what_is_no_command_line() {
        for (line, words) in [
            ("", "missing"),
            ("start", "missing"),
            ("start web", "missing"),
            ("settle", "missing"),
            ("start Web web@", "no app name"),
            ("start web web", "no unit template"),
            ("stop web web@ web@", "twice"),
            ("begin web web@", "neither a verb"),
            ("settle web@1", "not APP:UNIT"),
            ("route web", "missing after `route`"),
            ("--state-dir", "missing"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(words), "{line:?}: {error}");
        }
    }
}
