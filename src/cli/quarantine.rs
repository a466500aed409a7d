//! `quarantine`: releases that failed by their own fault.

use crate::control::api::QuarantineItem;
use crate::model::{AppName, Exit, SlotName, Timestamp};

use super::Context;
use super::client::encoded;
use super::ending::{During, Ending, Failure};
use super::text::{ago, plain};

/// `slotctl quarantine`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The quarantined slots of an app
    List {
        /// The app
        app: AppName,
    },
    /// Let a slot be tried again
    Clear {
        /// The app
        app: AppName,
        /// The slot, or its version
        version: SlotName,
        /// Kept with the event
        #[arg(short, long)]
        message: Option<String>,
    },
}

/// Lists or lifts.
pub async fn run(args: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    match args.verb {
        Verb::List { app } => list(&app, context).await,
        Verb::Clear { app, version, message } => clear(&app, &version, message, context).await,
    }
}

async fn list(app: &AppName, context: &Context<'_>) -> Result<Ending, Failure> {
    let path = format!("/v1/apps/{app}/quarantine");
    let items: Vec<QuarantineItem> = context.client.get(&path).await.during(format!("quarantine list {app}"))?;
    context.out.document(&items);
    if items.is_empty() {
        context.out.line(format!("{app} has no quarantined slots"));
    }
    let now = Timestamp::now();
    let row = |QuarantineItem { slot, quarantine }: &QuarantineItem| {
        let cause = plain(&quarantine.fault.to_string());
        vec![slot.to_string(), ago(quarantine.at, now), plain(&quarantine.deployment), cause]
    };
    context.out.table(&["SLOT", "SINCE", "BY", "CAUSE"], items.iter().map(row).collect());
    Ok(Exit::Ok.into())
}

async fn clear(
    app: &AppName,
    version: &SlotName,
    message: Option<String>,
    context: &Context<'_>,
) -> Result<Ending, Failure> {
    let message = message.map(|message| format!("?message={}", encoded(&message))).unwrap_or_default();
    let path = format!("/v1/apps/{app}/quarantine/{}{message}", version.encoded());
    let () = context.client.delete(&path).await.during(format!("quarantine clear {app} {version}"))?;
    context.out.document(&());
    context.out.line(format!("{app}: {version} is no longer quarantined\n  next: slotctl activate {app} {version}"));
    Ok(Exit::Ok.into())
}
