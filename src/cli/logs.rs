//! `logs`: the journal of an app's units, by `journalctl`, which takes this process's place.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::control::api::ApiError;
use crate::model::{AppName, Code, SlotName};

use super::Context;
use super::client::encoded;
use super::ending::{During, Ending, Failure};

/// `slotctl logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// Only of this slot
    version: Option<SlotName>,
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    lines: u32,
}

/// Returns only if `journalctl` can't be run.
pub async fn run(args: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let Args { app, version, follow, lines } = args;
    let slot = version.map(|slot| format!("?slot={}", encoded(&slot.encoded()))).unwrap_or_default();
    let step = format!("logs {app}");
    let units: Vec<String> = context.client.get(&format!("/v1/apps/{app}/units{slot}")).await.during(&step)?;
    let refused = match units.as_slice() {
        // Without a unit, journalctl would show the whole host's journal.
        [] => ApiError::new(Code::UnitMissing, format!("{app} has no units to show"))
            .next(format!("slotctl status {app}")),
        units => {
            let mut command = Command::new("journalctl");
            command.arg(format!("--lines={lines}"));
            command.args(units.iter().map(|unit| format!("--unit={unit}")));
            command.args(follow.then_some("--follow"));
            command.args(context.out.json.then_some("--output=json"));
            let error = command.exec();
            ApiError::new(Code::Internal, format!("can't run journalctl: {error}"))
        }
    };
    Err(refused).during(step)
}
