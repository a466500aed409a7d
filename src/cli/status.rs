//! `status`: every app on a line, what is wrong below; or one app in full.

use crate::control::api::{AppStatus, DaemonStatus};
use crate::model::{AppName, AppState, Exit, Freeze, Outcome, Report, SlotName, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::output::Output;
use super::text::{ago, freeze_text, pin_text, plain, span, stamp, when};
use super::wait::{verb, waiting_text};

/// `slotctl status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this app
    app: Option<AppName>,
}

/// Shows the state; the status says whether all is well.
pub async fn run(Args { app }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let now = Timestamp::now();
    let well = match app {
        Some(app) => {
            let status: AppStatus =
                context.client.get(&format!("/v1/apps/{app}")).await.during(format!("status {app}"))?;
            context.out.document(&status);
            show_app(&status, context.out, now);
            is_well(&status)
        }
        None => {
            let status: DaemonStatus = context.client.get("/v1/status").await.during("status")?;
            context.out.document(&status);
            show_daemon(&status, context.out, now);
            status.health.is_empty() && status.apps.iter().all(is_well)
        }
    };
    Ok(if well { Exit::Ok } else { Exit::Degraded }.into())
}

/// Not degraded, and the last deployment needs no hand.
fn is_well(app: &AppStatus) -> bool {
    let stuck = app.last.as_ref().and_then(|last| last.ended.as_ref()).is_some_and(|e| e.outcome == Outcome::Stuck);
    !stuck && !matches!(app.state, AppState::Degraded { .. })
}

fn show_daemon(status: &DaemonStatus, out: &Output, now: Timestamp) {
    out.line(format!("slotd {}, up for {}", status.version, span(status.since.until(now))));
    for fault in &status.health {
        // A broken settings file is shown with its line and a caret below it.
        fault.to_string().lines().for_each(|line| out.line(format!("  {}", plain(&line.replace('\t', " ")))));
    }
    if let Some(freeze) = &status.frozen {
        out.line(format!(
            "  all apps are frozen, {}",
            plain(&freeze_text(&Freeze { all: false, ..freeze.clone() }, now))
        ));
        out.line("  next: slotctl unfreeze");
    }
    let rows = status.apps.iter().map(|app| {
        vec![
            app.app.to_string(),
            app.state.word().to_owned(),
            name(app.current.as_ref()),
            name(app.fallback.as_ref()),
            app.deploy.clone(),
            last_word(app, now),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        out.line("no apps\n  next: slotctl new APP --exec COMMAND");
        return;
    }
    out.line("");
    out.table(&["APP", "STATE", "LIVE", "FALLBACK", "DEPLOY", "DEPLOYMENT"], rows);
    for app in &status.apps {
        let mut lines = Vec::new();
        if let AppState::Degraded { fault } = &app.state {
            lines.push(format!("degraded: {}", plain(&fault.to_string())));
        }
        lines.extend(app.waiting.iter().map(|item| format!("waiting: {}: {}", plain(&item.what), plain(&item.reason))));
        lines.extend(
            app.refused
                .iter()
                .map(|item| format!("refused: {}: {}", plain(&item.file), plain(&item.fault.to_string()))),
        );
        if app.state == AppState::Orphaned {
            lines.push(format!("orphaned: its settings file is gone; next: {}", restore(&app.app)));
        }
        if !lines.is_empty() || !is_well(app) {
            out.line(format!("\n{}: slotctl why {}", app.app, app.app));
            lines.iter().for_each(|line| out.line(format!("  {line}")));
        }
    }
}

/// What brings an app back whose settings file is gone.
pub fn restore(app: &AppName) -> String {
    format!("restore /etc/slotd/apps/{app}.toml; slotctl check {app}")
}

/// "web: online on 1.4.2".
pub fn headline(app: &AppStatus) -> String {
    let live = match (&app.current, &app.state) {
        (None, _) => String::new(),
        (Some(slot), AppState::Deploying) => format!(", {slot} was live"),
        (Some(slot), _) => format!(" on {slot}"),
    };
    format!("{}: {}{live}", app.app, app.state.word())
}

/// One app, a fact a line.
fn show_app(app: &AppStatus, out: &Output, now: Timestamp) {
    out.line(headline(app));
    let mut fields = vec![];
    if let AppState::Degraded { fault } = &app.state {
        fields.push(("because", plain(&fault.to_string())));
    }
    fields.push(("fallback", name(app.fallback.as_ref())));
    fields.push(("deploy", format!("{}, {}", app.deploy, app.strategy)));
    fields.extend(app.pinned.iter().map(|pin| ("pinned", plain(&pin_text(pin, now)))));
    fields.extend(app.frozen.iter().map(|freeze| ("frozen", plain(&freeze_text(freeze, now)))));
    fields.extend(app.scheduled.iter().map(|report| ("scheduled", schedule_text(report, now))));
    fields.extend(app.units.iter().map(|unit| ("unit", plain(unit))));
    if let Some(report) = &app.deployment {
        fields.push(("under way", under_way(report, now)));
    }
    if let Some(report) = &app.last {
        fields.push(("last", ended_text(report, now)));
    }
    fields
        .extend(app.waiting.iter().map(|item| ("waiting", format!("{}: {}", plain(&item.what), plain(&item.reason)))));
    for item in &app.refused {
        fields.push(("refused", format!("{}: {}", plain(&item.file), plain(&item.fault.to_string()))));
    }
    fields.extend(app.notes.iter().map(|note| ("note", plain(note))));
    match &app.state {
        AppState::Orphaned => fields.push(("next", restore(&app.app))),
        _ if !is_well(app) => fields.push(("next", format!("slotctl why {}", app.app))),
        _ => {}
    }
    out.fields(&fields);
}

/// Where a deployment stands and what it waits for.
pub fn under_way(report: &Report, now: Timestamp) -> String {
    let waits = match &report.waiting {
        Some(waiting) => format!("; waits for {}", waiting_text(waiting, now)),
        None => String::new(),
    };
    format!("{} {} {}: {}{waits}", report.id, verb(report.kind), report.to, report.state)
}

/// What is wanted at a time to come, or why it came to nothing.
fn schedule_text(report: &Report, now: Timestamp) -> String {
    let time = report.scheduled.map(|at| match now < at {
        true => format!("{}, in {}", stamp(at), span(now.until(at))),
        false => when(at, now),
    });
    let message = report.message.as_ref().map(|message| format!(": {}", plain(message))).unwrap_or_default();
    let end = report.ended.as_ref().and_then(|ended| ended.fault.as_ref()).map(|fault| format!("; {fault}"));
    let (time, end) = (time.unwrap_or_default(), end.unwrap_or_default());
    format!("{} {} {}, by {}, at {time}{message}{}", report.id, verb(report.kind), report.to, report.by, plain(&end))
}

/// How the last one ended and when.
fn ended_text(report: &Report, now: Timestamp) -> String {
    let end = match &report.ended {
        Some(ended) => format!("{}, {}", ended.outcome, when(ended.at, now)),
        None => report.state.to_string(),
    };
    format!("{} {} {}: {end}", report.id, verb(report.kind), report.to)
}

fn last_word(app: &AppStatus, now: Timestamp) -> String {
    match (&app.deployment, app.last.as_ref().map(|last| (&last.id, &last.ended))) {
        (Some(report), _) => format!("{} {}", report.id, report.state),
        (None, Some((id, Some(ended)))) => format!("{id} {}, {}", ended.outcome, ago(ended.at, now)),
        _ => String::new(),
    }
}

/// A slot's name, or a dash.
pub fn name(slot: Option<&SlotName>) -> String {
    slot.map_or_else(|| "-".to_owned(), SlotName::to_string)
}
