//! The command line: parses, asks the daemon over its socket, shows the answer, ends with a documented status.
//!
//! One file a group of commands. With `--json` everything that a program needs is on standard output, one JSON
//! document a line, in the types of `control::api`; what people read of an error is on standard error either way.

mod activate;
mod args;
mod check;
mod client;
mod codes;
mod completions;
mod dependencies;
mod deploy;
mod diff;
mod ending;
mod events;
mod freeze;
mod history;
mod inspect;
mod lint;
mod list;
mod logs;
mod measured;
mod moment;
mod new;
mod output;
mod pack;
mod pin;
mod plan;
mod probe;
mod prune;
mod quarantine;
mod settings;
mod staged;
mod status;
mod text;
mod wait;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::control::api::ApiError;
use crate::model::Code;
use crate::model::deployment::Say;

use args::{Args, Command};
use client::Client;
pub use codes::INTERRUPTED;
use ending::{During, Ending, Failure};
use output::Output;

/// Runs `slotctl` with the arguments of the process.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too, with status 0. A closed output leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let output = Output::new(args.json);
    let ended = run(args, &output);
    output.end(ended)
}

/// The arguments as clap knows them, for the manual.
pub fn command() -> clap::Command {
    Args::command()
}

/// What a command works with.
struct Context<'a> {
    client: Client,
    out: &'a Output,
}

fn run(args: Args, out: &Output) -> Result<Ending, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fault = |error: std::io::Error| ApiError::new(Code::Internal, format!("no runtime: {error}"));
    let runtime = runtime.map_err(fault).during("start")?;
    let context = Context { client: Client::new(args.socket), out };
    let ended = runtime.block_on(dispatch(args.command, &context));
    // A read of standard input that still waits must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn dispatch(command: Command, context: &Context<'_>) -> Result<Ending, Failure> {
    match command {
        Command::Status(args) => status::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Deploy(args) => deploy::run(args, context).await,
        Command::Plan(args) => plan::run(args, context).await,
        Command::Activate(args) => activate::activate(args, context).await,
        Command::Rollback(args) => activate::rollback(args, context).await,
        Command::Scale(args) => activate::scale(args, context).await,
        Command::Staged(args) => staged::staged(args, context).await,
        Command::DeployStaged(args) => staged::deploy(args, context).await,
        Command::Redeploy(args) => staged::redeploy(args, context).await,
        Command::Set(args) => settings::set(args, context).await,
        Command::Unset(args) => settings::unset(args, context).await,
        Command::Cat(args) => settings::cat(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::Retry(args) => activate::retry(args, context).await,
        Command::Cancel(args) => activate::cancel(args, context).await,
        Command::Promote(args) => activate::say(Say::Promote, args, context).await,
        Command::Confirm(args) => activate::say(Say::Confirm, args, context).await,
        Command::Pin(args) => pin::pin(args, context).await,
        Command::Unpin(args) => pin::unpin(args, context).await,
        Command::Freeze(args) => freeze::freeze(args, context).await,
        Command::Unfreeze(args) => freeze::unfreeze(args, context).await,
        Command::Quarantine(args) => quarantine::run(args, context).await,
        Command::Prune(args) => prune::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Why(args) => why::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Inspect(args) => inspect::run(args, context).await,
        Command::New(args) => new::run(args, context.out),
        Command::Check(args) => check::run(&args, context.out),
        Command::Pack(args) => pack::run(&args, context.out),
        Command::Probe(args) => probe::run(&args, context.out),
        Command::Lint(args) => lint::run(&args, context.out),
        Command::Codes => Ok(codes::run(context.out)),
        Command::Completions(args) => Ok(completions::run(&args)),
    }
}
