//! `logs`: the journal of an app's units, by `journalctl`, which takes this process's place; or what a build said.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::control::api::{ApiError, BuildLog};
use crate::model::{AppName, Code, Exit, SlotName};

use super::Context;
use super::client::encoded;
use super::ending::{During, Ending, Failure};
use super::text::plain;

/// `slotctl logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// Only of this slot
    version: Option<SlotName>,
    /// What its build said, or says
    #[arg(long, requires = "version")]
    build: bool,
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    lines: u32,
}

/// Returns only if `journalctl` can't be run.
pub async fn run(args: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let Args { app, version, build, follow, lines } = args;
    if let Some(slot) = version.as_ref().filter(|_| build) {
        return of_build(&app, slot, (follow, lines), context).await;
    }
    let slot = version.map(|slot| format!("?slot={}", encoded(&slot.encoded()))).unwrap_or_default();
    let step = format!("logs {app}");
    let units: Vec<String> = context.client.get(&format!("/v1/apps/{app}/units{slot}")).await.during(&step)?;
    let refused = match units.as_slice() {
        // Without a unit, journalctl would show the whole host's journal.
        [] => ApiError::new(Code::UnitMissing, format!("{app} has no units to show"))
            .next(format!("slotctl status {app}")),
        units => journal(units, (follow, lines), context),
    };
    Err(refused).during(step)
}

/// What the build of a slot said; while it runs, what it says.
async fn of_build(
    app: &AppName,
    slot: &SlotName,
    shown: (bool, u32),
    context: &Context<'_>,
) -> Result<Ending, Failure> {
    let step = format!("logs {app} {slot} --build");
    let path = format!("/v1/apps/{app}/slots/{}/build", encoded(&slot.encoded()));
    let build: BuildLog = context.client.get(&path).await.during(&step)?;
    if let Some(unit) = &build.running {
        return Err(journal(&[unit.to_string()], shown, context)).during(step);
    }
    context.out.document(&build);
    build.log.iter().flat_map(|log| log.lines()).for_each(|line| context.out.line(plain(line)));
    Ok(Exit::Ok.into())
}

/// Lets `journalctl` show what these units wrote: why it can't be run.
fn journal(units: &[String], (follow, lines): (bool, u32), context: &Context<'_>) -> ApiError {
    let mut command = Command::new("journalctl");
    command.arg(format!("--lines={lines}"));
    command.args(units.iter().map(|unit| format!("--unit={unit}")));
    command.args(follow.then_some("--follow"));
    command.args(context.out.json.then_some("--output=json"));
    let error = command.exec();
    ApiError::new(Code::Internal, format!("can't run journalctl: {error}"))
}
