//! What is wrong with a settings file, shown at its place: `file:line:column`, the line, a caret, a help.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::model::{Code, Fault};

/// How much of a long line is shown, in characters.
const MAX_SHOWN: usize = 120;

/// One thing that is wrong with a settings file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// `config.invalid`, or `config.insecure_dir` for a file that anybody can write.
    pub code: Code,
    /// The file.
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
    /// How many characters are meant; at least 1 where there is a line.
    pub width: usize,
    /// One sentence.
    pub message: String,
    /// The line as it stands in the file; not there where the file as a whole is meant.
    pub source_line: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl ConfigError {
    /// Something wrong with the file as a whole.
    pub fn of_file(code: Code, file: &Path, message: impl Into<String>, help: Option<String>) -> Self {
        let (file, message) = (file.to_owned(), message.into());
        ConfigError { code, file, line: 0, column: 0, width: 0, message, source_line: None, help }
    }

    /// Something wrong at `place`, in bytes of `text`.
    pub fn at(file: &Path, text: &str, place: Range<usize>, message: impl Into<String>, help: Option<String>) -> Self {
        let start = (0..=place.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = (place.end.clamp(start, line_end)..=line_end).find(|at| text.is_char_boundary(*at));
        ConfigError {
            code: Code::ConfigInvalid,
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end.unwrap_or(line_end)].chars().count().max(1),
            message: message.into(),
            source_line: Some(text[line_start..line_end].trim_end_matches('\r').to_owned()),
            help,
        }
    }

    /// As a fault for `status`: place and sentence in one line.
    pub fn fault(&self) -> Fault {
        Fault::new(self.code, self.headline())
    }

    fn headline(&self) -> String {
        match self.line {
            0 => format!("{}: {}", self.file.display(), self.message),
            line => format!("{}:{line}:{}: {}", self.file.display(), self.column, self.message),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        if let Some(line) = &self.source_line {
            let column = self.column.saturating_sub(1);
            let from = column.saturating_sub(MAX_SHOWN / 2);
            let shown: Vec<char> = line.chars().skip(from).take(MAX_SHOWN).map(harmless).collect();
            // Tabs stay tabs below the line, so that the caret stands where the eye looks for it.
            let blank = |c: &char| if *c == '\t' { '\t' } else { ' ' };
            let margin: String = shown.iter().take(column - from).map(blank).collect();
            let carets = self.width.min((shown.len() + from).saturating_sub(column)).max(1);
            write!(f, "\n{}\n{margin}{}", shown.iter().collect::<String>(), "^".repeat(carets))?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

/// A terminal must not obey what stands in a settings file.
fn harmless(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_points_at_the_place() {
        let text = "deploy = \"manual\"\n\tkeeep = 5 # ü\n";
        let at = text.find("keeep").expect("there");
        let error =
            ConfigError::at(Path::new("/etc/web.toml"), text, at..at + 5, "unknown key", Some("`keep`?".into()));
        assert_eq!(error.to_string(), "/etc/web.toml:2:2: unknown key\n\tkeeep = 5 # ü\n\t^^^^^\nhelp: `keep`?");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}BAD\x1b[31m{}", "a".repeat(500), "b".repeat(500));
        let shown = ConfigError::at(Path::new("f"), &text, 500..503, "no", None).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].chars().count(), MAX_SHOWN);
        assert_eq!(lines[1].find("BAD"), lines[2].find("^^^"));
        assert!(!shown.contains('\x1b'));
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(text in "[\\PC\\n\\tü]{0,40}", a in 0usize..60, b in 0usize..60) {
            let shown = ConfigError::at(Path::new("f"), &text, a..b, "m", None).to_string();
            prop_assert!(shown.contains('^'));
        }
    }
}
