//! How a release misbehaves, for tests: the lines of its file BEHAVIOUR.
//!
//! | line | what it does |
//! |---|---|
//! | `exit-before-accept CODE` | exits at once |
//! | `slow-start MS` | accepts, and says READY=1, only then |
//! | `never-ready` | runs, and neither accepts nor says READY=1 |
//! | `ready-then-die MS` | exits with 1, MS after READY=1 |
//! | `crash-after MS` | dies by SIGABRT, MS after READY=1 |
//! | `health-500` | `/health` has status 500; all else is well |
//! | `health-file PATH` | `/health` has status 503 unless PATH is there: a fault of the environment, not of the release |
//! | `accept-unasked` | takes connections from its start on, though told to wait for SIGUSR1 |
//! | `deaf-to-accept`, `deaf-to-quiet` | does nothing on SIGUSR1, on SIGUSR2 |
//! | `hang-on-stop` | stops serving on SIGTERM, and doesn't exit |

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::orders::Order;

/// What a release that exits by itself writes on standard error.
pub const WHY_IT_EXITS: &str = "its BEHAVIOUR says so";

/// All misbehaviours; the default has none.
#[derive(Debug, Default)]
pub struct Behaviour {
    pub exit_before_accept: Option<u8>,
    pub slow_start: Option<Duration>,
    pub never_ready: bool,
    pub ready_then_die: Option<Duration>,
    pub crash_after: Option<Duration>,
    pub health: Health,
    pub accept_unasked: bool,
    pub deaf_to: Option<Order>,
    pub hang_on_stop: bool,
}

/// What `/health` says.
#[derive(Debug, Default)]
pub enum Health {
    #[default]
    Good,
    Always500,
    GoodWith(PathBuf),
}

/// A line that means nothing.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    #[error("what is {0:?}?")]
    Unknown(String),
    #[error("{0:?} needs a number")]
    Number(String),
}

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(text: &str) -> Result<Self, BehaviourError> {
        let mut all = Behaviour::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("exit-before-accept", code) => all.exit_before_accept = Some(number(line, code)?),
                ("slow-start", ms) => all.slow_start = Some(milliseconds(line, ms)?),
                ("never-ready", "") => all.never_ready = true,
                ("ready-then-die", ms) => all.ready_then_die = Some(milliseconds(line, ms)?),
                ("crash-after", ms) => all.crash_after = Some(milliseconds(line, ms)?),
                ("health-500", "") => all.health = Health::Always500,
                ("health-file", path) => all.health = Health::GoodWith(path.into()),
                ("accept-unasked", "") => all.accept_unasked = true,
                ("deaf-to-accept", "") => all.deaf_to = Some(Order::Accept),
                ("deaf-to-quiet", "") => all.deaf_to = Some(Order::BeQuiet),
                ("hang-on-stop", "") => all.hang_on_stop = true,
                _ => return Err(BehaviourError::Unknown(line.to_owned())),
            }
        }
        Ok(all)
    }
}

fn milliseconds(line: &str, text: &str) -> Result<Duration, BehaviourError> {
    number(line, text).map(Duration::from_millis)
}

fn number<T: FromStr>(line: &str, text: &str) -> Result<T, BehaviourError> {
    text.parse().map_err(|_| BehaviourError::Number(line.to_owned()))
}
