//! `codes`: the manual's tables of error codes and exit statuses, from the code itself.

use serde::Serialize;

use crate::model::{Code, Exit};

use super::ending::Ending;
use super::output::Output;

/// A row of the first table.
#[derive(Debug, Serialize)]
struct CodeRow {
    code: Code,
    exit: u8,
    meaning: &'static str,
}

/// All exit statuses, in rising order.
const EXITS: [Exit; 16] = [
    Exit::Ok,
    Exit::Internal,
    Exit::Usage,
    Exit::Degraded,
    Exit::NotFound,
    Exit::Refused,
    Exit::Busy,
    Exit::Denied,
    Exit::Unreachable,
    Exit::RolledBack,
    Exit::Failed,
    Exit::Cancelled,
    Exit::Stuck,
    Exit::ReadyNotLive,
    Exit::Artifact,
    Exit::DiskFull,
];

/// Both tables; as JSON only the codes, each with its status.
pub fn run(out: &Output) -> Ending {
    let rows: Vec<CodeRow> = Code::ALL
        .iter()
        .map(|code| CodeRow { code: *code, exit: code.exit() as u8, meaning: code.meaning() })
        .collect();
    out.document(&rows);
    let row = |row: &CodeRow| vec![row.code.to_string(), row.exit.to_string(), row.meaning.to_owned()];
    out.table(&["CODE", "EXIT", "MEANING"], rows.iter().map(row).collect());
    out.line("");
    let mut exits: Vec<_> =
        EXITS.iter().map(|exit| vec![(*exit as u8).to_string(), meaning(*exit).to_owned()]).collect();
    exits.push(vec!["130".to_owned(), "Ctrl-C while it waited: the deployment goes on.".to_owned()]);
    out.table(&["EXIT", "MEANING"], exits);
    Exit::Ok.into()
}

/// An exit status in the words of the manual.
fn meaning(exit: Exit) -> &'static str {
    match exit {
        Exit::Ok => "What was asked for is so.",
        Exit::Internal => "A fault of slotd itself.",
        Exit::Usage => "The command line is wrong.",
        Exit::Degraded => "status: an app is degraded or stuck, or slotd isn't well. check: something was found.",
        Exit::NotFound => "There is no such app, slot or deployment.",
        Exit::Refused => "The request can't be carried out as things stand.",
        Exit::Busy => "Another deployment is in the way.",
        Exit::Denied => "The caller may not.",
        Exit::Unreachable => "The daemon doesn't answer.",
        Exit::RolledBack => "The deployment was undone: the old slot serves as before.",
        Exit::Failed => "The deployment failed before any effect, or with nothing to go back to.",
        Exit::Cancelled => "The deployment was cancelled or superseded.",
        Exit::Stuck => "The deployment needs a hand.",
        Exit::ReadyNotLive => "The release is ready and doesn't go live by itself.",
        Exit::Artifact => "The artifact was refused.",
        Exit::DiskFull => "No room on the disk.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_ends_with_a_status_of_the_table() {
        assert!(EXITS.is_sorted());
        for code in Code::ALL {
            assert!(EXITS.contains(&code.exit()), "{code}");
        }
    }
}
