//! slotctl(1), made from the arguments as the program knows them and from the tables of codes.

use clap::{Arg, Command};
use slotd::model::{Code, Exit};

/// What stands before the commands.
const HEAD: &str = r#".\" Made from the program itself: WRITE_MANUAL=1 cargo test --test docs
.TH SLOTCTL 1 "" "slotd" "User commands"
.SH NAME
slotctl \- deploys versioned artifacts into slots of systemd services, by way of slotd
.SH SYNOPSIS
.B slotctl
.RI [ OPTION ]... " COMMAND " [ ARGUMENT ]...
.SH DESCRIPTION
slotctl asks
.BR slotd (8)
over its socket and shows the answer. Root and members of the group slotd\-deploy may do everything, members of slotd\-read may look.
new, check, pack, lint, codes and completions work without the daemon.
.PP
A command that waits for a deployment shows its steps as they pass, and ends as the deployment does. Ctrl\-C ends the waiting, not the deployment.
What couldn't be done is told on standard error: the step, the cause with its code, and the next command.
"#;

/// What stands after them.
const TAIL: &str = r#".SH ENVIRONMENT
.TP
.B SLOTD_SOCKET
The daemon's socket, where \-\-socket isn't given.
.SH FILES
.TP
.I /var/lib/slotd/inbox/APP/
Where artifacts can be dropped instead of being sent.
.TP
.I /etc/slotd/apps/APP.toml
An app's settings.
.SH EXAMPLES
.nf
slotctl new web \-\-exec /srv/web/bin/web \-\-port 8080 \-\-health /health
slotctl pack build \-o web\-1.4.2.tar.zst
slotctl deploy web\-1.4.2.tar.zst \-\-app web \-m "ticket 4711"
slotctl why web
slotctl rollback web \-m "search is slow"
.fi
.SH SEE ALSO
.BR slotd (8),
.BR slotd\-app (5),
.BR slotd\-gate (8)
"#;

/// The page.
pub fn slotctl_page() -> String {
    let command = slotd::cli::command();
    let mut page = HEAD.to_owned();
    page.push_str(".SH OPTIONS\n");
    command.get_arguments().for_each(|argument| item(argument, &mut page));
    page.push_str(".SH COMMANDS\n");
    command.get_subcommands().for_each(|sub| section("slotctl", sub, &mut page));
    page.push_str(".SH EXIT STATUS\n");
    for exit in Exit::ALL {
        tagged(&(exit as u8).to_string(), exit.meaning(), &mut page);
    }
    tagged("130", slotd::cli::INTERRUPTED, &mut page);
    page.push_str(".SH ERROR CODES\nEach with the status that a command ends with.\n");
    for code in Code::ALL {
        tagged(&format!("{code} ({})", code.exit() as u8), code.meaning(), &mut page);
    }
    page.push_str(TAIL);
    page
}

/// A command with its arguments; one that has commands of its own is theirs.
fn section(before: &str, command: &Command, page: &mut String) {
    let name = format!("{before} {}", command.get_name());
    if command.has_subcommands() {
        command.get_subcommands().for_each(|sub| section(&name, sub, page));
        return;
    }
    let words: Vec<String> = command.get_arguments().map(usage).collect();
    page.push_str(&format!(".SS {}\n", escaped([name, words.join(" ")].join(" ").trim_end())));
    sentence(&command.get_about().map(ToString::to_string).unwrap_or_default(), page);
    command.get_arguments().for_each(|argument| item(argument, page));
}

/// An argument as it stands in the usage: optional ones in brackets.
fn usage(argument: &Arg) -> String {
    match argument.is_required_set() {
        true => spelled(argument),
        false => format!("[{}]", spelled(argument)),
    }
}

/// As it is typed: the long form, else the short one, with its value.
fn spelled(argument: &Arg) -> String {
    let option = match (argument.get_long(), argument.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => return value(argument),
    };
    if argument.get_action().takes_values() { format!("{option} {}", value(argument)) } else { option }
}

fn value(argument: &Arg) -> String {
    match argument.get_value_names() {
        Some([name, ..]) => name.to_string(),
        _ => argument.get_id().as_str().to_uppercase(),
    }
}

fn item(argument: &Arg, page: &mut String) {
    let short = argument.get_short().filter(|_| argument.get_long().is_some());
    let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        text.push_str(&format!(" (default: {})", defaults.join(" ")));
    }
    tagged(&format!("{short}{}", spelled(argument)), &text, page);
}

fn tagged(tag: &str, text: &str, page: &mut String) {
    page.push_str(&format!(".TP\n.B {}\n", escaped(tag)));
    sentence(text, page);
}

fn sentence(text: &str, page: &mut String) {
    let text = escaped(text.trim());
    let stop = if text.is_empty() || text.ends_with('.') { "" } else { "." };
    page.push_str(&format!("{text}{stop}\n"));
}

/// Text in which nothing means anything to roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
