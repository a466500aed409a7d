//! Where answers go: tables and lines for people, JSON for programs, colours only where they are seen.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::ending::{Ending, Failure};

/// The process's output. A reader that went away is no error: nobody is left to tell.
#[derive(Debug)]
pub struct Output {
    /// Whether a program reads.
    pub json: bool,
    colour_out: bool,
    colour_err: bool,
    live: bool,
}

/// A colour, by what it says.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Look here.
    Bad,
}

impl Output {
    /// For people unless `json`.
    pub fn new(json: bool) -> Self {
        // https://no-color.org: set and not empty.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Output {
            json,
            colour_out: wanted && io::stdout().is_terminal(),
            colour_err: wanted && io::stderr().is_terminal(),
            live: !json && io::stderr().is_terminal(),
        }
    }

    /// Whether there is a terminal on which a line can change in place.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A line for people.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(io::stdout().lock(), "{}", text.as_ref());
        }
    }

    /// A document for programs.
    pub fn document(&self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(value)
        {
            let _ = writeln!(io::stdout().lock(), "{text}");
        }
    }

    /// What people should know whatever reads the answer.
    pub fn note(&self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    /// Rows under a head, aligned; nothing without rows.
    pub fn table(&self, head: &[&str], rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(head.iter().copied()).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(table.trim_fmt());
    }

    /// Labels and values below one another, indented.
    pub fn fields(&self, fields: &[(&str, String)]) {
        fields.iter().for_each(|field| self.line(field_line(field)));
    }

    /// `text`, coloured if standard output shows colours.
    pub fn tone(&self, tone: Tone, text: &str) -> String {
        paint(self.colour_out, tone, text)
    }

    /// Tells how it ended, and gives the process's status.
    pub fn end(&self, ended: Result<Ending, Failure>) -> ExitCode {
        match ended {
            Ok(ending) => ending.into(),
            Err(failure) => {
                self.document(&failure.error);
                let text = failure.to_string();
                let text = match text.strip_prefix("slotctl:") {
                    Some(rest) => paint(self.colour_err, Tone::Bad, "slotctl:") + rest,
                    None => text,
                };
                self.note(text);
                failure.ending().into()
            }
        }
    }
}

/// One label with its value.
pub fn field_line((label, value): &(&str, String)) -> String {
    format!("  {label:<12}{value}").trim_end().to_owned()
}

fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => 32,
        Tone::Bad => 31,
    };
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
