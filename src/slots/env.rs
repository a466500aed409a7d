//! Environments as `EnvironmentFile=` reads them.
//!
//! The rules are those of systemd.exec(5) and of systemd's parser: inside double quotes a backslash takes the meaning
//! from `"`, `\`, `` ` `` and `$` and stands for itself before anything else, and nothing is expanded. So every value
//! is quoted. Control characters would pass, but a value of two lines reads as two variables in every other place
//! where an environment is shown, and a NUL ends it: only a tab is let through.

use std::collections::BTreeMap;

/// Longest `NAME=value`, in bytes: the kernel takes no longer string at exec (MAX_ARG_STRLEN, with its NUL).
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024 - 1;

/// Why a variable can't stand in an environment file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The name isn't `[A-Za-z_][A-Za-z0-9_]*`.
    #[error("{0:?} is no name of a variable (letters, digits and _, the first no digit)")]
    Name(String),
    /// A newline, NUL or other control character.
    #[error("the value of {name} has the control character {character:?}, which can't stand in an environment")]
    Character {
        /// The variable.
        name: String,
        /// The first such character.
        character: char,
    },
    /// More than [`MAX_VARIABLE_BYTES`].
    #[error("{name} has {bytes} bytes; a process can be given {MAX_VARIABLE_BYTES}")]
    TooLong {
        /// The variable.
        name: String,
        /// Of name, `=` and value.
        bytes: usize,
    },
}

/// The file's text: one quoted variable a line, by name.
pub fn encode(variables: &BTreeMap<String, String>) -> Result<String, EnvError> {
    let mut text = String::new();
    for (name, value) in variables {
        check(name, value)?;
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            if matches!(character, '"' | '\\' | '`' | '$') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

fn check(name: &str, value: &str) -> Result<(), EnvError> {
    let bytes = name.len() + 1 + value.len();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_name) {
        return Err(EnvError::Name(name.to_owned()));
    }
    if let Some(character) = value.chars().find(|c| c.is_ascii_control() && *c != '\t') {
        return Err(EnvError::Character { name: name.to_owned(), character });
    }
    if bytes > MAX_VARIABLE_BYTES {
        return Err(EnvError::TooLong { name: name.to_owned(), bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One line, read by the rules at the head of this file.
    fn decode(line: &str) -> (String, String) {
        let (name, quoted) = line.split_once('=').expect("an assignment");
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("quoted");
        let (mut value, mut characters) = (String::new(), inner.chars());
        while let Some(character) = characters.next() {
            match character {
                '"' => panic!("the quote ends early: {line}"),
                '\\' => match characters.next().expect("the backslash takes the closing quote") {
                    escaped @ ('"' | '\\' | '`' | '$') => value.push(escaped),
                    other => value.extend(['\\', other]),
                },
                other => value.push(other),
            }
        }
        (name.to_owned(), value)
    }

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn values_that_a_shell_or_systemd_would_change() {
        for (value, line) in [
            ("", r#"X="""#),
            ("two words ", r#"X="two words ""#),
            (r"C:\new", r#"X="C:\\new""#),
            ("$HOME `id` \"q\" 'q' # ;", r#"X="\$HOME \`id\` \"q\" 'q' # ;""#),
            ("a\tb ü", "X=\"a\tb ü\""),
        ] {
            assert_eq!(encode(&one("X", value)), Ok(format!("{line}\n")));
        }
    }

    #[test]
    fn what_a_unit_cannot_be_given_is_refused() {
        for bad in ["a\nb", "a\0b", "\r", "\u{7f}", "\u{1b}[0m"] {
            assert!(matches!(encode(&one("X", bad)), Err(EnvError::Character { .. })), "{bad:?}");
        }
        for bad in ["", "1X", "A-B", "A B", "A=B", "Ä"] {
            assert_eq!(encode(&one(bad, "")), Err(EnvError::Name(bad.to_owned())));
        }
        assert!(encode(&one("X", &"x".repeat(MAX_VARIABLE_BYTES - 2))).is_ok());
        let error = encode(&one("X", &"x".repeat(MAX_VARIABLE_BYTES - 1)));
        assert_eq!(error, Err(EnvError::TooLong { name: "X".into(), bytes: MAX_VARIABLE_BYTES + 1 }));
    }

    proptest! {
        #[test]
        fn every_value_comes_back(values in prop::collection::btree_map("[A-Z_]{1,4}", "[ -~\tüß€]{0,12}", 0..4)) {
            let text = encode(&values).expect("encoded");
            let back: BTreeMap<_, _> = text.lines().map(decode).collect();
            prop_assert_eq!(back, values);
        }
    }
}
