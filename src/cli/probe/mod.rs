//! `probe --contract`: whether a program keeps the contract of its route, without a daemon.
//!
//! The program runs as the caller, outside of its unit: what the unit itself would forbid it isn't seen. `bench` is what
//! systemd would be to it (`ear`: who hears it), `trial` what slotd and users would do, `sheet` the rules, `app` finds the program of an app.

mod app;
mod bench;
mod client;
mod ear;
mod sheet;
mod trial;

use std::ffi::OsString;
use std::time::Duration;

use serde::Serialize;

use crate::control::api::ApiError;
use crate::model::{AppName, Code, Exit};

use super::ending::{During, Ending, Failure};
use super::output::{Output, Tone};
use super::text::plain;
use bench::{Bench, Given, Target};
use sheet::{Line, Outcome, Rules, Sheet};
use trial::Trial;

/// How many lines of the program's own are shown after a failure.
const LAST_LINES: usize = 5;

/// `slotctl probe`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "slotctl probe --contract [OPTIONS] APP\n       slotctl probe --contract [OPTIONS] -- COMMAND..."
)]
pub struct Args {
    /// Start, tell, ask and stop the program as slotd and its users would
    #[arg(long, required = true)]
    contract: bool,
    /// Whose rules; by default those of the app's route, of a command socket-ready
    #[arg(long, value_enum)]
    route: Option<Rules>,
    /// The path of a request that is answered at once
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The path of a health question
    #[arg(long, value_name = "PATH", default_value = "/health")]
    health: String,
    /// How long the start may take
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = humantime::parse_duration)]
    start_limit: Duration,
    /// How long the stop may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    stop_limit: Duration,
    /// An app: its live slot's program, as its user; needs root
    #[arg(required_unless_present = "command")]
    app: Option<AppName>,
    /// A command with its arguments
    #[arg(last = true, conflicts_with = "app")]
    command: Vec<OsString>,
}

/// What was seen, in JSON.
#[derive(Debug, Serialize)]
struct Report {
    /// Program and arguments.
    program: Vec<String>,
    /// Whose rules.
    route: Rules,
    /// Whether none failed.
    kept: bool,
    rules: Vec<Line>,
    /// What the program wrote last; only if a rule failed.
    output: Vec<String>,
}

/// Shows a line for each rule; the status says whether all are kept.
pub fn run(args: &Args, out: &Output) -> Result<Ending, Failure> {
    let step = match &args.app {
        Some(app) => format!("probe {app}"),
        None => "probe".to_owned(),
    };
    let report = tried(args).during(step)?;
    out.document(&report);
    for line in &report.rules {
        let word = format!("{:<9}", line.outcome.to_string());
        let word = match line.outcome {
            Outcome::Ok => out.tone(Tone::Good, &word),
            Outcome::Failed => out.tone(Tone::Bad, &word),
            Outcome::Note | Outcome::Untested => word,
        };
        out.line(format!("{word} {:<15} {}", line.rule, plain(&line.seen)));
        if line.outcome != Outcome::Ok {
            out.line(format!("{:27}asked: {}", "", line.asks));
        }
    }
    for line in &report.output {
        out.line(format!("  it wrote: {}", plain(line)));
    }
    let failed = report.rules.iter().filter(|line| line.outcome == Outcome::Failed).count();
    match failed {
        0 => out.line("\nthe contract is kept"),
        1 => out.line("\n1 rule isn't kept: README.md, \"Making an app ready for zero downtime\""),
        n => out.line(format!("\n{n} rules aren't kept: README.md, \"Making an app ready for zero downtime\"")),
    }
    Ok(if report.kept { Exit::Ok } else { Exit::Degraded }.into())
}

fn tried(args: &Args) -> Result<Report, ApiError> {
    let (target, rules) = match &args.app {
        Some(name) => {
            let found = app::find(name)?;
            (found.target, args.route.unwrap_or(found.rules))
        }
        None => {
            let target = Target { command: args.command.clone(), environment: None, user: None };
            (target, args.route.unwrap_or(Rules::SocketReady))
        }
    };
    let given = if rules == Rules::Port { Given::Port } else { Given::Listener };
    let failed = |error: std::io::Error| ApiError::new(Code::FsIo, format!("the program can't be tried: {error}"));
    let bench = Bench::new(given, target.user).map_err(failed)?;
    let mut sheet = Sheet::default();
    let trial = Trial {
        bench: &bench,
        target: &target,
        rules,
        path: &args.path,
        health: &args.health,
        start_limit: args.start_limit,
        stop_limit: args.stop_limit,
    };
    trial.run(&mut sheet).map_err(failed)?;
    let lines = sheet.lines(rules);
    let kept = lines.iter().all(|line| matches!(line.outcome, Outcome::Ok | Outcome::Note));
    Ok(Report {
        program: target.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        route: rules,
        kept,
        output: if kept { Vec::new() } else { bench.last_lines(LAST_LINES) },
        rules: lines,
    })
}
