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

/// What 130 means, which no answer of the daemon ends with.
pub const INTERRUPTED: &str = "Ctrl-C while it waited: the deployment goes on.";

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
        Exit::ALL.iter().map(|exit| vec![(*exit as u8).to_string(), exit.meaning().to_owned()]).collect();
    exits.push(vec!["130".to_owned(), INTERRUPTED.to_owned()]);
    out.table(&["EXIT", "MEANING"], exits);
    Exit::Ok.into()
}
