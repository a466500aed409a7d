//! `staged`, `deploy-staged` and `redeploy`: what waits for an operator, and what brings it live.

use crate::control::api::{Accepted, DeployedStaged, RedeployRequest, Staged, StagedWhat};
use crate::model::{AppName, Exit, Migration, StrategyName, Timestamp};

use super::activate::see_through;
use super::ending::{During, Ending, Failure};
use super::text::{ago, plain};
use super::{Context, wait};

/// `slotctl staged`.
#[derive(Debug, clap::Args)]
pub struct StagedArgs {
    /// The app
    app: AppName,
}

/// What both deployments take.
#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// The app
    app: AppName,
    /// Another strategy than the app's, for this deployment alone: stop-start, blue-green or rolling
    #[arg(long, value_name = "NAME")]
    strategy: Option<StrategyName>,
    /// What it does to the data, whatever the release says: none, compatible or breaking
    #[arg(long, value_name = "WORD")]
    migration: Option<Migration>,
    /// Kept with the deployment
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end
    #[arg(long)]
    no_wait: bool,
}

/// `slotctl redeploy`.
#[derive(Debug, clap::Args)]
pub struct RedeployArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// By the route and addresses that are set, where users still come by others
    #[arg(long)]
    route: bool,
}

/// `slotctl deploy-staged`.
#[derive(Debug, clap::Args)]
pub struct DeployStagedArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Bring up nothing of the apps that it depends on; they have to be up
    #[arg(long)]
    without_dependencies: bool,
}

/// What waits, a thing a line.
pub async fn staged(StagedArgs { app }: StagedArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let staged: Vec<Staged> =
        context.client.get(&format!("/v1/apps/{app}/staged")).await.during(format!("staged {app}"))?;
    context.out.document(&staged);
    if staged.is_empty() {
        context.out.line(format!("{app}: nothing is staged"));
    } else {
        table(&staged, None, context);
        if staged.iter().any(|it| !it.what.is_apart()) {
            context.out.line(format!("  next: slotctl deploy-staged {app}"));
        }
        if staged.iter().any(|it| it.what.is_apart()) {
            context.out.line(format!("  next: slotctl plan {app} --route; slotctl redeploy {app} --route"));
        }
    }
    Ok(Exit::Ok.into())
}

/// Brings it live.
pub async fn deploy(args: DeployStagedArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let DeployStagedArgs { common, without_dependencies } = args;
    let CommonArgs { app, strategy, migration, message, no_wait } = common;
    let request = RedeployRequest { strategy, migration, message, without_dependencies, route: false };
    let path = format!("/v1/apps/{app}/deploy-staged");
    let answer: DeployedStaged =
        context.client.post_json(&path, &request).await.during(format!("deploy-staged {app}"))?;
    // One document, whatever is waited for.
    if context.out.json {
        return match &answer.accepted {
            Accepted::Deployment { id, .. } if !no_wait => {
                let id = id.clone();
                wait::follow_in(&id, answer, context).await
            }
            _ => {
                context.out.document(&answer);
                Ok(Exit::Ok.into())
            }
        };
    }
    let DeployedStaged { staged, accepted, .. } = answer;
    if staged.is_empty() {
        context.out.line(format!("{app}: nothing is staged"));
        return Ok(Exit::Ok.into());
    }
    table(&staged, Some(&accepted), context);
    see_through(&app, accepted, no_wait, context).await
}

/// Deploys what is live once more.
pub async fn redeploy(args: RedeployArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let RedeployArgs { common, route } = args;
    let CommonArgs { app, strategy, migration, message, no_wait } = common;
    let request = RedeployRequest { strategy, migration, message, without_dependencies: true, route };
    let accepted: Accepted = context
        .client
        .post_json(&format!("/v1/apps/{app}/redeploy"), &request)
        .await
        .during(format!("redeploy {app}{}", if route { " --route" } else { "" }))?;
    if let (true, Accepted::Unchanged { current }) = (route, &accepted) {
        context.out.document(&accepted);
        context.out.line(format!("{app}: nothing to do, users come to {current} by what is set"));
        return Ok(Exit::Ok.into());
    }
    see_through(&app, accepted, no_wait, context).await
}

/// With what becomes of each, once it is being deployed.
fn table(staged: &[Staged], accepted: Option<&Accepted>, context: &Context<'_>) {
    let now = Timestamp::now();
    let highest = staged.iter().find_map(|staged| match &staged.what {
        StagedWhat::Release { slot } => Some(slot),
        StagedWhat::Setting(_) => None,
    });
    let becomes = |staged: &Staged| match (&staged.what, accepted, highest) {
        (StagedWhat::Release { slot }, Some(_), Some(highest)) if slot != highest => {
            format!("stays ready, {highest} is higher")
        }
        (_, Some(Accepted::Deployment { id, .. }), _) => id.to_string(),
        _ => String::new(),
    };
    let row = |staged: &Staged| {
        let what = match &staged.what {
            StagedWhat::Release { slot } => format!("release {slot}"),
            StagedWhat::Setting(change) if change.hidden => format!("{} (hidden)", change.key),
            StagedWhat::Setting(change) => {
                let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
                let apart = if staged.what.is_apart() { format!(", {}", change.class) } else { String::new() };
                format!("{}: {} to {}{apart}", change.key, side(&change.from), side(&change.to))
            }
        };
        let message = staged.message.as_deref().unwrap_or_default();
        let id = staged.id.to_string();
        vec![id, ago(staged.at, now), plain(&staged.by), plain(&what), plain(message), becomes(staged)]
    };
    let last = if accepted.is_some() { "BROUGHT BY" } else { "" };
    context.out.table(&["ID", "SINCE", "BY", "WHAT", "MESSAGE", last], staged.iter().map(row).collect());
}
