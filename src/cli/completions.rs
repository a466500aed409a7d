//! `completions`: what a shell completes, from the definitions of the arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::model::Exit;

use super::ending::Ending;

/// `slotctl completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Writes them to standard output.
pub fn run(args: &Args) -> Ending {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::args::Args::command(), "slotctl", &mut script);
    // Whoever closed the output doesn't want the rest.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), &script);
    Exit::Ok.into()
}
