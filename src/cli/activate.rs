//! `activate`, `rollback`, `retry`, and `cancel`, `promote` and `confirm`: an operator's word about what is live.

use clap::Args;

use crate::control::api::{Accepted, ActivateRequest, RetryRequest, RollbackRequest, SayRequest, ScaleRequest};
use crate::model::deployment::Say;
use crate::model::{AppName, Exit, Migration, SlotName, StrategyName, Template, Timestamp};

use super::dependencies::dependency;
use super::ending::{During, Ending, Failure};
use super::output::field_line;
use super::text::{plain, span, stamp};
use super::{Context, moment, wait};

/// `slotctl activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The app
    app: AppName,
    /// The slot, or its version
    version: SlotName,
    /// Kept with the deployment
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end
    #[arg(long)]
    no_wait: bool,
    /// When it begins: a time as 2026-12-24T18:00:00Z or 2026-12-24 18:00+01:00, or how long from now: 3h; `cancel` takes
    /// it back
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    at: Option<Timestamp>,
    /// Only as it was planned: the token that `plan` printed; refused if anything has moved since
    #[arg(long, value_name = "TOKEN")]
    plan: Option<String>,
    /// Also if it is quarantined, barred by a breaking migration since, or the app frozen
    #[arg(long)]
    force: bool,
    /// Another strategy than the app's, for this deployment alone: stop-start, blue-green or rolling
    #[arg(long, value_name = "NAME")]
    strategy: Option<StrategyName>,
    /// What it does to the data, whatever its release says: none, compatible or breaking
    #[arg(long, value_name = "WORD")]
    migration: Option<Migration>,
    /// Bring up nothing of the apps that it depends on; they have to be up
    #[arg(long)]
    without_dependencies: bool,
}

/// `slotctl rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The app
    app: AppName,
    /// Where to, instead of the fallback
    #[arg(long, value_name = "VERSION")]
    to: Option<SlotName>,
    /// Kept with the deployment
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end
    #[arg(long)]
    no_wait: bool,
    /// Also to a slot that is quarantined, or barred by a breaking migration since
    #[arg(long)]
    force: bool,
}

/// `slotctl cancel`, `promote` and `confirm`.
#[derive(Debug, Args)]
pub struct SayArgs {
    /// The app
    app: AppName,
    /// Kept with the deployment
    #[arg(short, long)]
    message: Option<String>,
}

/// `slotctl retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The app
    app: AppName,
    /// Kept with the deployment, instead of its own
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end
    #[arg(long)]
    no_wait: bool,
    /// Also if it is quarantined
    #[arg(long)]
    force: bool,
}

/// `slotctl scale`.
#[derive(Debug, clap::Args)]
pub struct ScaleArgs {
    /// The app
    app: AppName,
    /// How many instances there are to be
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    instances: u32,
    /// Of which unit, as worker@; the first unless said
    #[arg(long)]
    unit: Option<Template>,
    /// Kept with the slot and the deployment
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end
    #[arg(long)]
    no_wait: bool,
}

/// Makes a slot live.
pub async fn activate(args: ActivateArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let ActivateArgs { app, version, message, no_wait, at, plan, force, strategy, migration, without_dependencies } =
        args;
    let step = format!("activate {app} {version}");
    let request =
        ActivateRequest { slot: version, message, force, strategy, migration, at, plan, without_dependencies };
    let accepted = context.client.post_json(&format!("/v1/apps/{app}/activate"), &request).await.during(step)?;
    see_through(&app, accepted, no_wait, context).await
}

/// Goes back.
pub async fn rollback(args: RollbackArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let RollbackArgs { app, to, message, no_wait, force } = args;
    let step = match &to {
        Some(to) => format!("rollback {app} --to {to}"),
        None => format!("rollback {app}"),
    };
    let request = RollbackRequest { to, message, force };
    let accepted = context.client.post_json(&format!("/v1/apps/{app}/rollback"), &request).await.during(step)?;
    see_through(&app, accepted, no_wait, context).await
}

/// Has another number of instances run.
pub async fn scale(args: ScaleArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let ScaleArgs { app, instances, unit, message, no_wait } = args;
    let step = format!("scale {app} {instances}");
    let request = ScaleRequest { instances, unit, message };
    let accepted = context.client.post_json(&format!("/v1/apps/{app}/scale"), &request).await.during(step)?;
    see_through(&app, accepted, no_wait, context).await
}

/// Stops the deployment under way, or what waits.
pub async fn cancel(SayArgs { app, message }: SayArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let (path, request) = (format!("/v1/apps/{app}/cancel"), SayRequest { message });
    let accepted: Accepted = context.client.post_json(&path, &request).await.during(format!("cancel {app}"))?;
    context.out.document(&accepted);
    match accepted {
        Accepted::Unchanged { current } => context.out.line(format!("{app}: nothing to cancel, {current} is live")),
        Accepted::Deployment { id, bound, .. } => {
            context.out.line(format!("{id} is being undone{}", at_most(bound)));
            context.out.line(format!("  next: slotctl status {app}"));
        }
        // Not asked for.
        Accepted::Scheduled { id, at, .. } => context.out.line(format!("{id} is scheduled for {}", stamp(at))),
        Accepted::Undone { id, to } => context.out.line(format!("{id} is being undone: {to} serves again")),
        Accepted::Again { files } => taken_again(&app, &files, context),
        Accepted::NotTaken { file } => not_taken(&app, &file, context),
        Accepted::Cancelled { id, to, again: None } => {
            context.out.line(format!("{id} is cancelled before it began: {to} doesn't go live by it"));
        }
        Accepted::Cancelled { id, to, again: Some(before) } => {
            context.out.line(format!("{id} is cancelled before it began: {to} isn't tried again after {before}"));
            context.out.line(format!("  next: slotctl why {before}"));
        }
    }
    Ok(Exit::Ok.into())
}

/// Has the deployment under way go on, or stay.
pub async fn say(say: Say, SayArgs { app, message }: SayArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let (path, request) = (format!("/v1/apps/{app}/{say}"), SayRequest { message });
    let accepted: Accepted = context.client.post_json(&path, &request).await.during(format!("{say} {app}"))?;
    see_through(&app, accepted, false, context).await
}

/// Tries again what failed last.
pub async fn retry(args: RetryArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let RetryArgs { app, message, no_wait, force } = args;
    let request = RetryRequest { message, force };
    let accepted = context.client.post_json(&format!("/v1/apps/{app}/retry"), &request).await;
    see_through(&app, accepted.during(format!("retry {app}"))?, no_wait, context).await
}

fn not_taken(app: &AppName, file: &str, context: &Context<'_>) {
    context
        .out
        .line(format!("{app}: {} is cancelled before it became a slot\n  next: slotctl retry {app}", plain(file)));
}

fn taken_again(app: &AppName, files: &[String], context: &Context<'_>) {
    let files = files.iter().map(|file| plain(file)).collect::<Vec<_>>().join(", ");
    context.out.line(format!("{app}: tried again is {files}\n  next: slotctl status {app}"));
}

/// Shows what was accepted, and waits for its end.
pub async fn see_through(
    app: &AppName,
    accepted: Accepted,
    no_wait: bool,
    context: &Context<'_>,
) -> Result<Ending, Failure> {
    let out = context.out;
    out.document(&accepted);
    match accepted {
        Accepted::Unchanged { current } => {
            out.line(format!("{app}: nothing to do, {current} is live already"));
            Ok(Exit::Ok.into())
        }
        Accepted::Deployment { id, bound, dependencies, .. } => {
            out.line(format!("{id}{}", at_most(bound)));
            dependencies.iter().for_each(|it| out.line(field_line(&("needs", dependency(it)))));
            if no_wait { Ok(Exit::Ok.into()) } else { wait::follow(&id, context).await }
        }
        Accepted::Undone { id, to } => {
            out.line(format!("{id}, whose slot is live, is being undone: {to} serves again"));
            if no_wait { Ok(Exit::Ok.into()) } else { wait::follow_back(&id, &to, context).await }
        }
        Accepted::Again { files } => {
            taken_again(app, &files, context);
            Ok(Exit::Ok.into())
        }
        Accepted::Scheduled { id, to, at } => {
            let now = Timestamp::now();
            out.line(format!("{id}: {to} goes live at {}, in {}", stamp(at), span(now.until(at))));
            out.line(format!("  next: slotctl status {app}; slotctl cancel {app} takes it back"));
            Ok(Exit::Ok.into())
        }
        Accepted::NotTaken { file } => {
            not_taken(app, &file, context);
            Ok(Exit::Ok.into())
        }
        // No daemon answers these two with it; its end is told as any other's.
        Accepted::Cancelled { id, .. } => wait::follow(&id, context).await,
    }
}

fn at_most(bound: Option<String>) -> String {
    bound.map(|bound| format!(", at most: {bound}")).unwrap_or_default()
}
