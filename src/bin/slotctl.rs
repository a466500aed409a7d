//! The command line.

fn main() -> std::process::ExitCode {
    slotd::cli::main()
}
