//! `why`: the evidence on one screen. What failed in which step, what was seen, what slotd did about it, whose
//! fault it is, and the next command.

use crate::control::api::{ApiError, AppStatus};
use crate::model::deployment::Ended;
use crate::model::evidence::{JournalLine, ProbeSeen, UnitSeen};
use crate::model::{AppName, AppState, Blame, Code, DeploymentId, Exit, Fault, Outcome, Report, State, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::output::field_line;
use super::status::{headline, restore, under_way};
use super::text::{clock, plain, when};
use super::wait::{failed_step, is_telling, step_line, verb};

/// `slotctl why`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An app, or a deployment as web-17; of two with the same name, the deployment
    #[arg(value_name = "APP|DEPLOYMENT")]
    what: String,
}

/// Shows the evidence; in JSON the app's status or the deployment's report.
pub async fn run(Args { what }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let now = Timestamp::now();
    let step = format!("why {what}");
    if let Ok(id) = what.parse::<DeploymentId>() {
        match context.client.get::<Report>(&format!("/v1/deployments/{id}")).await {
            Ok(report) => {
                context.out.document(&report);
                deployment(&report, now).iter().for_each(|line| context.out.line(line));
                return Ok(Exit::Ok.into());
            }
            // It may be an app: web-2.
            Err(error) if error.fault.code.exit() == Exit::NotFound => {}
            Err(error) => return Err(error).during(step),
        }
    }
    let name: AppName = what
        .parse()
        .map_err(|error| {
            let message = format!("{error}; nor is it a deployment, as web-17");
            ApiError::new(Code::UnknownApp, message)
        })
        .during(&step)?;
    let status: AppStatus = context.client.get(&format!("/v1/apps/{name}")).await.during(step)?;
    context.out.document(&status);
    app(&status, now).iter().for_each(|line| context.out.line(line));
    Ok(Exit::Ok.into())
}

/// Why an app is as it is.
fn app(status: &AppStatus, now: Timestamp) -> Vec<String> {
    let mut lines = vec![headline(status)];
    if let AppState::Degraded { fault } = &status.state {
        lines.push(field("cause", plain(&fault.to_string())));
        lines.extend(evidence_lines(fault));
        let verb = if status.fallback.is_some() { "rollback" } else { "logs" };
        lines.push(field("next", format!("slotctl {verb} {}", status.app)));
    }
    if status.state == AppState::Orphaned {
        lines.push(field("cause", "its settings file is gone; what is live stays so, and nothing else is done".into()));
        lines.push(field("next", restore(&status.app)));
    }
    for item in &status.waiting {
        lines.push(field("waiting", format!("{}: {}", plain(&item.what), plain(&item.reason))));
    }
    for item in &status.refused {
        lines.push(field("refused", format!("{}: {}", plain(&item.file), plain(&item.fault.to_string()))));
        lines.extend(evidence_lines(&item.fault));
    }
    for report in status.deployment.iter().chain(&status.last) {
        lines.push(String::new());
        lines.extend(deployment(report, now));
    }
    lines
}

/// Why a deployment ended as it did, or where it stands.
fn deployment(report: &Report, now: Timestamp) -> Vec<String> {
    let over = report.from.as_ref().map(|from| format!(" over {from}")).unwrap_or_default();
    let result = report.ended.as_ref().map_or(report.state.as_str(), |ended| ended.outcome.as_str());
    let mut lines = vec![format!("{}: {} {}{over}: {result}", report.id, verb(report.kind), report.to)];
    if report.ended.is_none() {
        lines.push(field("stands at", under_way(report, now)));
    }
    if let Some(step) = failed_step(report) {
        lines.push(field("failed in", format!("{}: {}", step.state, plain(&step.what))));
    }
    if let Some(fault) = report.ended.as_ref().and_then(|ended| ended.fault.as_ref()) {
        lines.push(field("cause", plain(&fault.to_string())));
        lines.extend(evidence_lines(fault));
    }
    if let Some(ended) = &report.ended {
        lines.push(field("slotd", deed(report, ended)));
        lines.extend(ended.blame.map(|blame| field("blame", blame_text(blame).to_owned())));
        lines.extend(ended.warnings.iter().map(|warning| field("warning", plain(warning))));
    }
    let attempt = if report.attempt > 1 { format!(", attempt {}", report.attempt) } else { String::new() };
    let message = report.message.as_ref().map(|text| format!(": {}", plain(text))).unwrap_or_default();
    lines.push(field("asked by", format!("{}, {}{attempt}{message}", plain(&report.by), when(report.queued, now))));
    if !report.steps.is_empty() {
        lines.push(field("steps", String::new()));
        let telling: Vec<_> = report.steps.iter().filter(|step| is_telling(step)).collect();
        lines.extend(telling.iter().map(|step| format!("  {}", step_line(step))));
        match report.steps.len() - telling.len() {
            0 => {}
            more => lines.push(format!("    and {more} that took no time; --json shows them")),
        }
    }
    lines.extend(next_command(report).map(|next| field("next", plain(&next))));
    lines
}

/// What was seen: the probe's last answer, the unit's end, its journal, the entry.
pub fn evidence_lines(fault: &Fault) -> Vec<String> {
    let mut lines = Vec::new();
    let evidence = &fault.evidence;
    if let Some(ProbeSeen { probe, asked, instance, attempts, last, at }) = &evidence.probe {
        let probe = asked.as_ref().unwrap_or(probe);
        lines.push(field("probe", format!("{} of {instance}, {attempts} attempts", plain(probe))));
        lines.push(field("last answer", format!("{} (at {}Z)", plain(last), clock(*at))));
    }
    if let Some(unit) = &evidence.unit {
        lines.push(field("unit", unit_text(unit)));
    }
    lines.extend(evidence.entry.as_ref().map(|entry| field("at", plain(entry))));
    if !evidence.journal.is_empty() {
        let run = evidence.unit.as_ref().and_then(|unit| unit.invocation.as_ref());
        let run = run.map(|id| format!("of run {}", plain(id))).unwrap_or_default();
        lines.push(field("journal", run));
        lines.extend(evidence.journal.iter().map(journal_line));
    }
    lines
}

fn unit_text(unit: &UnitSeen) -> String {
    let exit = unit.exit.as_ref().map(|exit| format!(", {}", plain(exit))).unwrap_or_default();
    let restarts = match unit.restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        n => format!(", {n} restarts"),
    };
    format!("{}: {}, result {}{exit}{restarts}", unit.unit, plain(&unit.state), plain(&unit.result))
}

fn journal_line(line: &JournalLine) -> String {
    let priority = match line.priority {
        0..=2 => "crit",
        3 => "err",
        4 => "warn",
        _ => "",
    };
    format!("    {} {priority:<5}{}: {}", clock(line.at), plain(&line.source), plain(&line.text))
}

/// What slotd did about it.
fn deed(report: &Report, ended: &Ended) -> String {
    let began = report.steps.iter().any(|step| !matches!(step.state, State::Queued | State::Preparing));
    match (ended.outcome, &report.from) {
        (Outcome::Done, _) => format!("made {} live", report.to),
        (Outcome::RolledBack, Some(from)) => format!("returned to {from}, which serves as before"),
        (Outcome::RolledBack, None) => "undid it".to_owned(),
        (Outcome::Failed, _) if !began => "changed nothing".to_owned(),
        (Outcome::Failed, _) => "had nothing to go back to".to_owned(),
        (Outcome::Cancelled, Some(from)) if began => format!("undid it: {from} serves as before"),
        (Outcome::Cancelled, _) => "stopped it".to_owned(),
        (Outcome::Superseded, _) => "left it to what took its place".to_owned(),
        (Outcome::Stuck, _) => "could bring up neither side: it needs a hand".to_owned(),
    }
}

fn blame_text(blame: Blame) -> &'static str {
    match blame {
        Blame::Release => "the release: it is quarantined and not tried again by itself",
        Blame::Environment => "the environment, not the release: it is tried again by itself",
        Blame::Interruption => "an interruption, not the release: it is tried again by itself",
        Blame::Operator => "nobody: an operator wanted it so",
    }
}

/// The daemon's word, or what follows from where it stands.
fn next_command(report: &Report) -> Option<String> {
    let (app, to) = (&report.id.app, &report.to);
    match &report.ended {
        None => Some(format!("slotctl cancel {app}")),
        Some(Ended { next: Some(next), .. }) => Some(next.clone()),
        Some(Ended { outcome: Outcome::Done, .. }) => None,
        Some(Ended { blame: Some(Blame::Release), .. }) => Some(format!("slotctl logs {app} {to}")),
        Some(Ended { outcome: Outcome::Stuck, .. }) => Some(format!("slotctl logs {app}")),
        Some(_) => Some(format!("slotctl activate {app} {to}")),
    }
}

fn field(label: &str, value: String) -> String {
    field_line(&(label, value))
}
