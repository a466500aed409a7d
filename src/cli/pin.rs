//! `pin` and `unpin`: a slot that is kept, or an app that stays on what is live.

use crate::control::api::{PinRequest, Pinned, UnpinRequest};
use crate::model::{AppName, Exit, SlotName};

use super::Context;
use super::ending::{During, Ending, Failure};

/// `slotctl pin`.
#[derive(Debug, clap::Args)]
pub struct PinArgs {
    /// The app
    app: AppName,
    /// The slot to keep, or its version; without it the app stays on what is live, and nothing goes live by itself
    version: Option<SlotName>,
    /// Kept with the pin, and shown
    #[arg(short, long)]
    message: Option<String>,
}

/// `slotctl unpin`.
#[derive(Debug, clap::Args)]
pub struct UnpinArgs {
    /// The app
    app: AppName,
    /// The slot, or its version; without it the app
    version: Option<SlotName>,
    /// Kept with the event
    #[arg(short, long)]
    message: Option<String>,
}

/// Pins.
pub async fn pin(args: PinArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let PinArgs { app, version, message } = args;
    let request = PinRequest { slot: version, message };
    let pinned: Pinned =
        context.client.post_json(&format!("/v1/apps/{app}/pin"), &request).await.during(format!("pin {app}"))?;
    context.out.document(&pinned);
    let again = if pinned.changed { "" } else { ", as before" };
    context.out.line(match &pinned.slot {
        Some(slot) => format!("{app}: {slot} is kept until it is unpinned{again}"),
        None => format!("{app}: nothing goes live by itself until it is unpinned{again}"),
    });
    Ok(Exit::Ok.into())
}

/// Lifts a pin.
pub async fn unpin(args: UnpinArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let UnpinArgs { app, version, message } = args;
    let request = UnpinRequest { slot: version, message };
    let unpinned: Pinned =
        context.client.post_json(&format!("/v1/apps/{app}/unpin"), &request).await.during(format!("unpin {app}"))?;
    context.out.document(&unpinned);
    let what = unpinned.slot.as_ref().map_or_else(|| app.to_string(), |slot| format!("{app}: {slot}"));
    context.out.line(match unpinned.changed {
        true => format!("{what} is no longer pinned"),
        false => format!("{what} wasn't pinned"),
    });
    Ok(Exit::Ok.into())
}
