//! `events`: what happened to an app, and what happens.

use crate::control::api::{Event, PastEvent};
use crate::model::{AppName, Exit};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::text::{plain, stamp};

/// `slotctl events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// How many past ones
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on with those that come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// An event a line, the oldest first.
pub async fn run(Args { app, limit, follow }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let step = format!("events {app}");
    // Listened to first: what happens meanwhile is shown twice rather than never.
    let stream = match follow {
        true => Some(context.client.events("/v1/events").await.during(&step)?),
        false => None,
    };
    let path = format!("/v1/apps/{app}/events?limit={limit}");
    let past: Vec<PastEvent> = context.client.get(&path).await.during(&step)?;
    context.out.document(&past);
    for PastEvent { at, kind, message, deployment } in past.iter().rev() {
        let deployment = deployment.as_ref().map(ToString::to_string).unwrap_or_default();
        context.out.line(line(&stamp(*at), &deployment, kind, message));
    }
    let Some(mut stream) = stream else { return Ok(Exit::Ok.into()) };
    loop {
        let event = tokio::select! {
            event = stream.next() => event.during(&step)?,
            _ = tokio::signal::ctrl_c() => return Ok(Ending::INTERRUPTED),
        };
        let Some(event) = event else { return Ok(Exit::Ok.into()) };
        if event.app == app {
            let Event { at, what, .. } = &event;
            let deployment = what.deployment().map(ToString::to_string).unwrap_or_default();
            context.out.document(&event);
            context.out.line(line(&stamp(*at), &deployment, &what.word(), &what.to_string()));
        }
    }
}

fn line(at: &str, deployment: &str, kind: &str, message: &str) -> String {
    format!("{at}  {deployment:<10} {kind:<22} {}", plain(message))
}
