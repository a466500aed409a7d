//! `prune`: removes what retention doesn't keep, or says what it would remove.

use crate::control::api::{PruneItem, Pruned};
use crate::model::{AppName, Exit};

use super::Context;
use super::client::encoded;
use super::ending::{During, Ending, Failure};
use super::text::plain;

/// `slotctl prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Kept with the event
    #[arg(short, long)]
    message: Option<String>,
}

/// Every slot with what becomes of it, and why.
pub async fn run(Args { app, dry_run, message }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let step = format!("prune {app}");
    let message = message.map(|message| format!("&message={}", encoded(&message))).unwrap_or_default();
    let path = format!("/v1/apps/{app}/prune?dry_run={dry_run}{message}");
    let pruned: Pruned = context.client.post(&path).await.during(step)?;
    context.out.document(&pruned);
    let fate = |item: &PruneItem| match (item.kept, dry_run) {
        (true, _) => "kept",
        (false, true) => "would go",
        (false, false) => "removed",
    };
    let row = |item: &PruneItem| vec![item.slot.to_string(), fate(item).to_owned(), plain(&item.reason)];
    context.out.table(&["SLOT", "FATE", "WHY"], pruned.slots.iter().map(row).collect());
    let gone = pruned.slots.iter().filter(|item| !item.kept).count();
    let verb = if dry_run { "would be removed" } else { "removed" };
    context.out.line(format!("{app}: {gone} of {} {verb}", pruned.slots.len()));
    pruned.warnings.iter().for_each(|warning| context.out.note(format!("  warning: {}", plain(warning))));
    Ok(Exit::Ok.into())
}
