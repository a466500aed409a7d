//! The arguments: what every command has, and the list of commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{
    activate, check, completions, deploy, diff, events, freeze, history, inspect, lint, list, logs, new, pack, pin,
    plan, probe, prune, quarantine, settings, staged, status, why,
};

/// Where the daemon listens unless it is told otherwise.
const DEFAULT_SOCKET: &str = "/run/slotd/slotd.sock";

/// Deploys versioned artifacts into slots of systemd services, by way of slotd.
#[derive(Debug, Parser)]
#[command(name = "slotctl", version, after_help = "Exit statuses and error codes: slotctl codes")]
pub struct Args {
    /// Answer in JSON, one document a line
    #[arg(long, global = true)]
    pub json: bool,

    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH", env = "SLOTD_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the apps do; ends with 3 if one is degraded or stuck
    Status(status::Args),
    /// The slots of an app, highest version first
    List(list::Args),
    /// Send an artifact, and wait until it is live
    Deploy(deploy::Args),
    /// What a deployment to a slot would do; ends with 5 if it can't be
    Plan(plan::Args),
    /// Make a slot live; or at a time to come
    Activate(activate::ActivateArgs),
    /// Go back to the fallback, or to another slot
    Rollback(activate::RollbackArgs),
    /// Have another number of instances run, of what is live and of all that comes
    Scale(activate::ScaleArgs),
    /// What waits to be deployed by hand: releases, and settings that what is live hasn't
    Staged(staged::StagedArgs),
    /// Bring all that is staged live in one deployment
    DeployStaged(staged::DeployStagedArgs),
    /// Deploy what is live once more, without anything that is staged
    Redeploy(staged::RedeployArgs),
    /// Choose a setting, over the app's file
    Set(settings::SetArgs),
    /// Let the app's file hold again for a setting that was chosen
    Unset(settings::UnsetArgs),
    /// Every setting of an app, with its origin and when a change of it holds
    Cat(settings::CatArgs),
    /// How what is live differs from what is set, or two slots from one another
    Diff(diff::Args),
    /// Try again, at once, what failed last: the deployment, or else the refused files of the inbox
    Retry(activate::RetryArgs),
    /// Stop an app's deployment: one that waits, the one under way, which is undone, the next try of one that failed, or
    /// what is scheduled; else the intake under way
    Cancel(activate::SayArgs),
    /// Have a deployment that waits for it go on: behind the canary, or with the switch
    Promote(activate::SayArgs),
    /// Say that what is live and watched is good: it stays, and doesn't go back at the end of the time
    Confirm(activate::SayArgs),
    /// Keep a slot until it is unpinned; or have an app stay on what is live
    Pin(pin::PinArgs),
    /// Lift a pin: what waited for that goes live
    Unpin(pin::UnpinArgs),
    /// Have an app, or all of them, go forward no more, for a time; going back is always possible
    Freeze(freeze::FreezeArgs),
    /// Lift a freeze: what waited for its end goes live
    Unfreeze(freeze::UnfreezeArgs),
    /// Releases that failed by their own fault
    Quarantine(quarantine::Args),
    /// Remove the slots that retention doesn't keep
    Prune(prune::Args),
    /// Past deployments, newest first
    History(history::Args),
    /// What happened to an app, phase by phase and word by word, and what happens
    Events(events::Args),
    /// Why an app or a deployment is as it is: step, cause, evidence, next command
    Why(why::Args),
    /// The journal of an app's units
    Logs(logs::Args),
    /// All that is known of one slot
    Inspect(inspect::Args),
    /// The files of a new app; shown, or written with --write
    New(new::Args),
    /// Whether settings and units are as they must be; ends with 3 if something was found
    Check(check::Args),
    /// Make an artifact of a folder, and its checksum
    Pack(pack::Args),
    /// Try an artifact as slotd would take it, without a daemon
    Lint(lint::Args),
    /// Whether a program can be replaced without losing a request; ends with 3 if not
    Probe(probe::Args),
    /// Every error code and exit status, with its meaning
    Codes,
    /// Completions for a shell, on standard output
    Completions(completions::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_agree_with_themselves() {
        Args::command().debug_assert();
    }
}
