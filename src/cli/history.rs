//! `history`: past deployments.

use crate::model::{AppName, Exit, Report, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::status::name;
use super::text::{ago, plain, span};
use super::wait::verb;

/// `slotctl history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// A deployment a line.
pub async fn run(Args { app, limit }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let path = format!("/v1/apps/{app}/deployments?limit={limit}");
    let reports: Vec<Report> = context.client.get(&path).await.during(format!("history {app}"))?;
    context.out.document(&reports);
    if reports.is_empty() {
        context.out.line(format!("{app} has no deployments yet"));
    }
    let now = Timestamp::now();
    let head = ["DEPLOYMENT", "WHAT", "FROM", "RESULT", "TOOK", "WHEN", "BY", "NOTE"];
    context.out.table(&head, reports.iter().map(|report| row(report, now)).collect());
    Ok(Exit::Ok.into())
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
        format!("{} {}", verb(report.kind), report.to),
        name(report.from.as_ref()),
        result,
        took,
        ago(report.queued, now),
        plain(&report.by),
        plain(report.message.as_deref().unwrap_or_default()),
    ]
}
