//! `set`, `unset` and `cat`: what is set, and by whom.

use crate::control::api::{Origin, SetAnswer, SetRequest, Setting};
use crate::model::{AppName, Exit, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::text::{ago, plain};
use super::wait;

/// `slotctl set`.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// The app
    app: AppName,
    /// deploy, strategy, retention.keep, retention.max_age, retention.max_bytes or env.NAME
    key: String,
    /// What holds from now on, over the app's file
    value: String,
    /// Kept with the setting, and with the deployment that it brings about
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end of that deployment
    #[arg(long)]
    no_wait: bool,
}

/// `slotctl unset`.
#[derive(Debug, clap::Args)]
pub struct UnsetArgs {
    /// The app
    app: AppName,
    /// What was set: the app's file holds again
    key: String,
    /// Kept with the deployment that it brings about
    #[arg(short, long)]
    message: Option<String>,
    /// Don't wait for the end of that deployment
    #[arg(long)]
    no_wait: bool,
}

/// `slotctl cat`.
#[derive(Debug, clap::Args)]
pub struct CatArgs {
    /// The app
    app: AppName,
    /// Show values of the environment too; only for those who may operate
    #[arg(long)]
    reveal: bool,
}

/// Chooses a setting.
pub async fn set(args: SetArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let SetArgs { app, key, value, message, no_wait } = args;
    let step = format!("set {app} {key}");
    change(&app, SetRequest { key, value: Some(value), message }, step, no_wait, context).await
}

/// Lets the app's file hold again.
pub async fn unset(args: UnsetArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let UnsetArgs { app, key, message, no_wait } = args;
    let step = format!("unset {app} {key}");
    change(&app, SetRequest { key, value: None, message }, step, no_wait, context).await
}

async fn change(
    app: &AppName,
    request: SetRequest,
    step: String,
    no_wait: bool,
    context: &Context<'_>,
) -> Result<Ending, Failure> {
    let answer: SetAnswer =
        context.client.post_json(&format!("/v1/apps/{app}/settings"), &request).await.during(step)?;
    let out = context.out;
    out.document(&answer);
    let SetAnswer { key, changed, class, deployment, staged } = answer;
    if !changed {
        out.line(format!("{app}: {key} is so already"));
        return Ok(Exit::Ok.into());
    }
    match (&deployment, staged) {
        (Some(id), _) => out.line(format!("{app}: {key} is set; {id} brings it live")),
        (None, true) => {
            out.line(format!("{app}: {key} is set and staged"));
            out.line(format!("  next: slotctl deploy-staged {app}"));
        }
        (None, false) => out.line(format!("{app}: {key} is set; it holds {class}")),
    }
    match deployment {
        Some(id) if !no_wait => wait::follow(&id, context).await,
        _ => Ok(Exit::Ok.into()),
    }
}

/// A setting a line, with its origin.
pub async fn cat(CatArgs { app, reveal }: CatArgs, context: &Context<'_>) -> Result<Ending, Failure> {
    let query = if reveal { "?reveal=true" } else { "" };
    let path = format!("/v1/apps/{app}/settings{query}");
    let settings: Vec<Setting> = context.client.get(&path).await.during(format!("cat {app}"))?;
    context.out.document(&settings);
    let now = Timestamp::now();
    let row = |setting: &Setting| {
        let value = setting.value.as_deref().unwrap_or("(hidden; --reveal)");
        vec![plain(&setting.key), plain(value), origin_text(&setting.origin, now), setting.class.to_string()]
    };
    context.out.table(&["KEY", "VALUE", "FROM", "A CHANGE HOLDS"], settings.iter().map(row).collect());
    Ok(Exit::Ok.into())
}

fn origin_text(origin: &Origin, now: Timestamp) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Daemon => "slotd.toml".to_owned(),
        Origin::File { file, line } => plain(&format!("{file}:{line}")),
        Origin::Verb { said: None } => "set by a verb".to_owned(),
        Origin::Verb { said: Some(said) } => {
            let message = said.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            plain(&format!("set by {}, {}{message}", said.by, ago(said.at, now)))
        }
    }
}
