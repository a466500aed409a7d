//! `list`: the slots of an app.

use crate::control::api::SlotInfo;
use crate::model::{AppName, Exit, SlotState, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::text::{ago, plain, release_text, size};

/// `slotctl list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
}

/// A slot a line.
pub async fn run(Args { app }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let slots: Vec<SlotInfo> =
        context.client.get(&format!("/v1/apps/{app}/slots")).await.during(format!("list {app}"))?;
    context.out.document(&slots);
    if slots.is_empty() {
        context.out.line(format!("{app} has no slots yet"));
    }
    let now = Timestamp::now();
    let head = ["SLOT", "STATE", "CREATED", "SIZE", "BY", "RELEASE", "NOTE"];
    context.out.table(&head, slots.iter().map(|slot| row(slot, now)).collect());
    Ok(Exit::Ok.into())
}

fn row(info: &SlotInfo, now: Timestamp) -> Vec<String> {
    let fallback = if info.fallback { ", fallback" } else { "" };
    let pinned = if info.pinned.is_some() { ", pinned" } else { "" };
    let barred = if info.barred.is_some() { ", barred" } else { "" };
    let note = match &info.state {
        SlotState::Waiting { reason } => reason.clone(),
        SlotState::Failed { fault, .. } => fault.to_string(),
        _ => info.waits.clone().or_else(|| info.message.clone()).unwrap_or_default(),
    };
    vec![
        info.slot.to_string(),
        format!("{}{fallback}{pinned}{barred}", info.state.word()),
        ago(info.created, now),
        size(info.bytes),
        plain(&info.by),
        release_text(&info.release),
        plain(&note),
    ]
}
