//! `history`: past deployments.

use crate::model::deployment::Said;
use crate::model::{AppName, Exit, Report, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::measured::{Summary, brief_or_nothing};
use super::status::name;
use super::text::{ago, plain, release_text, span};
use super::wait::verb;

/// `slotctl history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only the median and the worst of what was measured of those that ended done: README.md says of what
    #[arg(long)]
    measured: bool,
}

/// A deployment a line, and what was measured of them all.
pub async fn run(Args { app, limit, measured }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let path = format!("/v1/apps/{app}/deployments?limit={limit}");
    let reports: Vec<Report> = context.client.get(&path).await.during(format!("history {app}"))?;
    let summary = Summary::of(&reports);
    if measured {
        context.out.document(&summary);
    } else {
        context.out.document(&reports);
        let now = Timestamp::now();
        let head =
            ["DEPLOYMENT", "WHAT", "FROM", "RESULT", "READY", "SWITCH", "GAP", "TOOK", "WHEN", "BY", "RELEASE", "NOTE"];
        context.out.table(&head, reports.iter().map(|report| row(report, now)).collect());
        context.out.line("");
    }
    if reports.is_empty() {
        context.out.line(format!("{app} has no deployments yet"));
    }
    context.out.table(&["OF THOSE DONE", "MEDIAN", "WORST", "KNOWN OF"], summary.rows());
    context.out.line(summary.counts());
    Ok(Exit::Ok.into())
}

/// What it did to the data, if that was something.
pub(super) fn data(report: &Report) -> String {
    let migration = report.migration.filter(|migration| !migration.is_none());
    migration.map(|migration| format!(", {migration}")).unwrap_or_default()
}

/// Which way users came by it, if it was another one.
pub(super) fn way(report: &Report) -> String {
    report.reroute.as_ref().map(|it| format!(", by {}", plain(&it.to))).unwrap_or_default()
}

fn row(report: &Report, now: Timestamp) -> Vec<String> {
    let (result, took) = match &report.ended {
        Some(ended) => {
            let code = ended.fault.as_ref().map(|fault| format!(" ({})", fault.code)).unwrap_or_default();
            (format!("{}{code}", ended.outcome), span(report.queued.until(ended.at)))
        }
        None => (report.state.to_string(), String::new()),
    };
    vec![
        report.id.to_string(),
        format!("{} {}{}{}", verb(report.kind), report.to, data(report), way(report)),
        name(report.from.as_ref()),
        result,
        brief_or_nothing(report.measured.ready_ms),
        brief_or_nothing(report.measured.switch_ms),
        brief_or_nothing(report.measured.gap_ms),
        took,
        ago(report.queued, now),
        plain(&report.by),
        release_text(&report.release),
        plain(
            &report
                .message
                .iter()
                .cloned()
                .chain(report.said.iter().map(Said::to_string))
                .collect::<Vec<_>>()
                .join("; "),
        ),
    ]
}
