//! The small grammars inside unit files' values: booleans, time spans, specifiers, words. After systemd.syntax(7),
//! systemd.time(7) and the tables of specifiers in systemd.unit(5); as much of them as `check` needs.

use std::time::Duration;

/// A time span as unit files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// This long.
    Finite(Duration),
    /// Without end.
    Infinity,
}

/// "1", "yes", "y", "true", "t", "on", and their opposites, in any case.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// "90", "1min 30s", "500ms", "infinity". A number alone is seconds.
pub fn span(text: &str) -> Option<Span> {
    let text = text.trim();
    if text == "infinity" {
        return Some(Span::Infinity);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, tail) = split(tail.trim_start(), |c| c.is_ascii_alphabetic() || c == 'µ');
        seconds += number.parse::<f64>().ok()? * seconds_of(unit)?;
        rest = tail.trim_start();
    }
    Duration::try_from_secs_f64(seconds).ok().map(Span::Finite)
}

/// Words as `ExecStart=` and lists have them: parted by blanks, quotes and backslashes understood.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Puts in the specifiers of a unit `PREFIX@INSTANCE.service`. Unknown ones stay as they are.
pub fn expand(text: &str, prefix: &str, instance: &str) -> String {
    let name = if instance.is_empty() { prefix.to_owned() } else { format!("{prefix}@{instance}") };
    let last = prefix.rsplit('-').next().unwrap_or(prefix);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('i') => out.push_str(instance),
            Some('N') => out.push_str(&name),
            Some('n') => out.push_str(&format!("{name}.service")),
            Some('p') => out.push_str(prefix),
            Some('j') => out.push_str(last),
            Some('S') => out.push_str("/var/lib"),
            Some('t') => out.push_str("/run"),
            Some('E') => out.push_str("/etc"),
            other => {
                out.push('%');
                out.extend(other);
            }
        }
    }
    out
}

fn split(text: &str, class: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !class(c)).unwrap_or(text.len()))
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" | "usec" | "µs" => 1e-6,
        "ms" | "msec" => 1e-3,
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        "M" | "month" | "months" => 2_629_800.0,
        "y" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let secs = |n| Some(Span::Finite(Duration::from_secs(n)));
        assert_eq!(span("90"), secs(90));
        assert_eq!(span("1min 30s"), secs(90));
        assert_eq!(span("1min30"), secs(90));
        assert_eq!(span("0.5h"), secs(1800));
        assert_eq!(span("500ms"), Some(Span::Finite(Duration::from_millis(500))));
        assert_eq!(span("infinity"), Some(Span::Infinity));
        for bad in ["", "s", "-1", "1 fortnight", "1..2", "infinity s"] {
            assert_eq!(span(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(r#"/bin/a  "b c" 'd"e' f\ g """#), ["/bin/a", "b c", "d\"e", "f g", ""]);
        assert!(words("  ").is_empty());
    }

    #[test]
    fn specifiers() {
        assert_eq!(
            expand("%N|%i|%n|%p|%j|%%|%S/x|%Z", "my-web", "1@2"),
            "my-web@1@2|1@2|my-web@1@2.service|my-web|web|%|/var/lib/x|%Z"
        );
        assert_eq!(expand("%N", "web", ""), "web");
        assert_eq!(expand("100%", "web", ""), "100%");
    }
}
