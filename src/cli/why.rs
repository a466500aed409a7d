//! `why`: the evidence on one screen. What failed in which step, what was seen, what slotd did about it, whose
//! fault it is, and the next command.

use crate::control::api::{ApiError, AppStatus};
use crate::model::deployment::Ended;
use crate::model::evidence::{JournalLine, ProbeSeen, UnitSeen, cut};
use crate::model::{AppName, AppState, Blame, Code, DeploymentId, Exit, Fault, Outcome, Report, State, Timestamp};

use super::Context;
use super::dependencies::dependency;
use super::ending::{During, Ending, Failure};
use super::history::{data, way};
use super::measured::sentence;
use super::output::field_line;
use super::status::{headline, restore, under_way};
use super::text::{clock, plain, release_text, span, stamp, when};
use super::wait::{failed_step, is_telling, step_line, verb};

/// What a terminal shows at once: all that `why` says of an app has room in it.
const SCREEN_LINES: usize = 40;

/// Lines of a run's journal that are shown: where a program died is told by the last ones.
pub const JOURNAL_LINES: usize = 12;

/// Steps that are shown, the last ones.
const STEPS: usize = 6;

/// Files, releases and warnings of a kind that are shown.
const ITEMS: usize = 3;

/// Bytes of a line that somebody else wrote.
const LINE_BYTES: usize = 240;

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
                deployment(&report, now, JOURNAL_LINES).iter().for_each(|line| context.out.line(line));
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

/// Why an app is as it is. What is the matter now stands in full, what was before it in brief.
fn app(status: &AppStatus, now: Timestamp) -> Vec<String> {
    let mut lines = vec![headline(status)];
    let mut reports = status.deployment.iter().chain(&status.last).peekable();
    let fault = match &status.state {
        AppState::Degraded { fault } => Some(fault),
        _ => None,
    };
    if status.state == AppState::Orphaned {
        lines.push(field("cause", "its settings file is gone; what is live stays so, and nothing else is done".into()));
        lines.push(field("next", restore(&status.app)));
    }
    if let Some(fault) = fault {
        lines.push(field("cause", plain(&fault.to_string())));
        lines.extend(evidence_lines(fault, JOURNAL_LINES));
        let verb = if status.fallback.is_some() { "rollback" } else { "logs" };
        lines.push(field("next", format!("slotctl {verb} {}", status.app)));
    }
    let waiting = status.waiting.iter().map(|item| format!("{}: {}", plain(&item.what), plain(&item.reason)));
    lines.extend(some("waiting", waiting.collect(), &status.app));
    let refused = status.refused.iter().map(|item| {
        let at = item.fault.evidence.entry.as_ref().map(|entry| format!(", at {}", plain(entry))).unwrap_or_default();
        format!("{}: {}{at}", plain(&item.file), plain(&item.fault.to_string()))
    });
    lines.extend(some("refused", refused.collect(), &status.app));
    if let Some(report) = reports.next_if(|_| fault.is_none()) {
        lines.push(String::new());
        // The journal takes what room is left.
        let others = lines.len() + deployment(report, now, 0).len();
        lines.extend(deployment(report, now, SCREEN_LINES.saturating_sub(others).min(JOURNAL_LINES)));
    }
    for report in reports {
        lines.push(String::new());
        lines.extend(brief(report));
    }
    lines
}

/// The first few of them, and how many more there are.
fn some(label: &str, items: Vec<String>, app: &AppName) -> Vec<String> {
    let more = items.len().saturating_sub(ITEMS);
    let mut lines: Vec<String> = items.into_iter().take(ITEMS).map(|item| field(label, item)).collect();
    if more > 0 {
        lines.push(field(label, format!("and {more} more: slotctl status {app}")));
    }
    lines
}

/// How a deployment ended, and where the rest is told.
fn brief(report: &Report) -> Vec<String> {
    let mut lines = vec![title(report)];
    if let Some(fault) = report.ended.as_ref().and_then(|ended| ended.fault.as_ref()) {
        lines.push(field("cause", plain(&fault.to_string())));
        lines.push(field("next", format!("slotctl why {}", report.id)));
    }
    lines
}

fn title(report: &Report) -> String {
    let over = report.from.as_ref().map(|from| format!(" over {from}")).unwrap_or_default();
    let result = report.ended.as_ref().map_or(report.state.as_str(), |ended| ended.outcome.as_str());
    format!("{}: {} {}{over}{}: {result}", report.id, verb(report.kind), report.to, data(report) + &way(report))
}

/// Why a deployment ended as it did, or where it stands, with so many lines of the journal.
fn deployment(report: &Report, now: Timestamp, journal: usize) -> Vec<String> {
    let mut lines = vec![title(report)];
    if report.ended.is_none() {
        lines.push(field("stands at", under_way(report, now)));
    }
    match (failed_step(report), report.ended.as_ref().and_then(|ended| ended.phase)) {
        (Some(step), _) => lines.push(field("failed in", format!("{}: {}", step.state, plain(&step.what)))),
        (None, Some(phase)) => lines.push(field("ended in", phase.to_string())),
        (None, None) => {}
    }
    if let Some(ended) = &report.ended {
        // What is live may have a hook behind it that failed.
        let fault = ended.fault.as_ref().or_else(|| failed_step(report)?.fault.as_ref());
        lines.extend(fault.map(|fault| field("cause", plain(&fault.to_string()))));
        lines.extend(fault.into_iter().flat_map(|fault| evidence_lines(fault, journal)));
    }
    if let Some(ended) = &report.ended {
        lines.push(field("slotd", deed(report, ended)));
        lines.extend(ended.blame.map(|blame| field("blame", blame_text(blame).to_owned())));
        lines.extend(ended.warnings.iter().take(ITEMS).map(|warning| field("warning", plain(warning))));
        if let Some(more) = ended.warnings.len().checked_sub(ITEMS).filter(|more| *more > 0) {
            lines.push(field("warning", format!("and {more} more; --json shows them")));
        }
    }
    if !report.measured.is_empty() {
        lines.push(field("measured", sentence(&report.measured)));
    }
    let attempt = if report.attempt > 1 { format!(", attempt {}", report.attempt) } else { String::new() };
    let message = report.message.as_ref().map(|text| format!(": {}", plain(text))).unwrap_or_default();
    lines.push(field("asked by", format!("{}, {}{attempt}{message}", plain(&report.by), when(report.queued, now))));
    let release = release_text(&report.release);
    if !release.is_empty() {
        lines.push(field("release", release));
    }
    lines.extend(
        report.said.iter().map(|said| field("said", format!("{}, {}", plain(&said.to_string()), when(said.at, now)))),
    );
    lines.extend(report.scheduled.map(|at| field("scheduled", scheduled_text(report, at))));
    lines.extend(report.dependencies.iter().map(|seen| field("needs", dependency(seen))));
    if !report.steps.is_empty() {
        lines.push(field("steps", String::new()));
        let telling: Vec<_> = report.steps.iter().filter(|step| is_telling(step)).collect();
        // How it came to its end is told by the last ones.
        let shown = &telling[telling.len().saturating_sub(STEPS)..];
        lines.extend(shown.iter().map(|step| format!("  {}", step_line(step))));
        match report.steps.len() - shown.len() {
            0 => {}
            more if telling.len() > shown.len() => lines.push(format!("    and {more} others; --json shows them")),
            more => lines.push(format!("    and {more} that took no time; --json shows them")),
        }
    }
    lines.extend(next_command(report).map(|next| field("next", plain(&next))));
    lines
}

/// What was seen: the probe's last answer, the unit's end, the last lines of its journal, the entry.
pub fn evidence_lines(fault: &Fault, journal: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let evidence = &fault.evidence;
    if let Some(ProbeSeen { probe, asked, instance, attempts, last, at }) = &evidence.probe {
        let probe = asked.as_ref().unwrap_or(probe);
        lines.push(field("probe", format!("{} of {instance}, {attempts} attempts", plain(probe))));
        lines.push(field("last answer", format!("{} (at {}Z)", shortened(last), clock(*at))));
    }
    if let Some(unit) = &evidence.unit {
        lines.push(field("unit", unit_text(unit)));
    }
    lines.extend(evidence.entry.as_ref().map(|entry| field("at", plain(entry))));
    if !evidence.journal.is_empty() {
        let run = evidence.unit.as_ref().and_then(|unit| unit.invocation.as_ref());
        lines.push(field("journal", run.map(|id| format!("of run {}", plain(id))).unwrap_or_default()));
        let earlier = evidence.journal.len().saturating_sub(journal);
        if earlier > 0 {
            let all = run.map(|id| format!("; all: journalctl _SYSTEMD_INVOCATION_ID={}", plain(id)));
            lines.push(format!("    {earlier} earlier lines in --json{}", all.unwrap_or_default()));
        }
        lines.extend(evidence.journal[earlier..].iter().map(journal_line));
    }
    lines
}

/// Text from elsewhere, of which the beginning tells enough.
fn shortened(text: &str) -> String {
    cut(&plain(text), LINE_BYTES)
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
    format!("    {} {priority:<5}{}: {}", clock(line.at), plain(&line.source), shortened(&line.text))
}

/// For when it was wanted, and how much later it began, if that is more than a moment.
fn scheduled_text(report: &Report, at: Timestamp) -> String {
    let late = report.steps.first().map(|step| at.until(step.began)).filter(|late| late.as_secs() > 5);
    let late = late.map(|late| format!(", began {} late", span(late))).unwrap_or_default();
    format!("for {}{late}", stamp(at))
}

/// What slotd did about it.
fn deed(report: &Report, ended: &Ended) -> String {
    // On the way back from where nothing was touched nothing is.
    let untouched = |state| matches!(state, State::Queued | State::Preparing | State::Reverting | State::Post);
    let began = report.steps.iter().any(|step| !untouched(step.state));
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
