//! `freeze` and `unfreeze`: a time in which nothing goes forward, of one app or of all.

use crate::control::api::{FreezeRequest, Frozen};
use crate::model::{AppName, Exit, Timestamp};

use super::ending::{During, Ending, Failure};
use super::text::{freeze_text, plain};
use super::{Context, moment};

/// `slotctl freeze`.
#[derive(Debug, clap::Args)]
pub struct FreezeArgs {
    /// The app; all of them without it
    app: Option<AppName>,
    /// Its end: a time as 2026-12-24T18:00:00Z or 2026-12-24 18:00+01:00, or how long from now: 3d; without it the
    /// freeze holds until it is lifted
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Timestamp>,
    /// Kept with the freeze, and shown
    #[arg(short, long)]
    message: Option<String>,
}

/// `slotctl unfreeze`.
#[derive(Debug, clap::Args)]
pub struct UnfreezeArgs {
    /// The app; without it the freeze of all
    app: Option<AppName>,
}

/// Freezes.
pub async fn freeze(args: FreezeArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let FreezeArgs { app, until, message } = args;
    let request = FreezeRequest { until, message };
    let path = path(app.as_ref(), "freeze");
    let frozen: Frozen = context.client.post_json(&path, &request).await.during(step("freeze", app.as_ref()))?;
    context.out.document(&frozen);
    let until = match frozen.freeze.as_ref().and_then(|freeze| freeze.until) {
        Some(until) => format!("until {}", until.to_the_second()),
        None => format!("until `{}`", step("slotctl unfreeze", app.as_ref())),
    };
    let again = if frozen.changed { "" } else { "; it was frozen before" };
    context.out.line(format!("{}: nothing goes forward {until}{again}", name(app.as_ref())));
    Ok(Exit::Ok.into())
}

/// Lifts a freeze.
pub async fn unfreeze(UnfreezeArgs { app }: UnfreezeArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let path = path(app.as_ref(), "unfreeze");
    let unfrozen: Frozen = context.client.post(&path).await.during(step("unfreeze", app.as_ref()))?;
    context.out.document(&unfrozen);
    context.out.line(match unfrozen.changed {
        true => format!("{}: no longer frozen", name(app.as_ref())),
        false => format!("{}: not frozen", name(app.as_ref())),
    });
    // An app may be frozen with all others.
    if let Some(freeze) = &unfrozen.freeze {
        context.out.line(format!("  still frozen {}", plain(&freeze_text(freeze, Timestamp::now()))));
        context.out.line("  next: slotctl unfreeze");
    }
    Ok(Exit::Ok.into())
}

fn path(app: Option<&AppName>, verb: &str) -> String {
    app.map_or_else(|| format!("/v1/{verb}"), |app| format!("/v1/apps/{app}/{verb}"))
}

fn step(verb: &str, app: Option<&AppName>) -> String {
    app.map_or_else(|| verb.to_owned(), |app| format!("{verb} {app}"))
}

fn name(app: Option<&AppName>) -> String {
    app.map_or_else(|| "all apps".to_owned(), ToString::to_string)
}
