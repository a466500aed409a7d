//! Sizes, addresses and placeholders as text, and the nearest word to a misspelt one.

use std::net::IpAddr;

/// The placeholder of the asked slot's version.
pub const VERSION: &str = "version";

/// The placeholder of an instance's encoded name.
pub const INSTANCE: &str = "instance";

/// The placeholder of an instance's own port.
pub const PORT: &str = "port";

const UNITS: [(&str, u64); 5] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

/// Bytes from a text such as "2GiB" or "500 MiB"; a bare number is bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
        .unwrap_or((text, 1));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()?.checked_mul(factor)).flatten()
}

/// Whether `text` is `HOST:PORT` or `HOST:{port}`: a name, an IPv4 address, or an IPv6 address in brackets, and a port
/// from 1 on, or that of the instance.
pub(super) fn is_host_port(text: &str) -> bool {
    let filled = text.strip_suffix(":{port}").map(|host| format!("{host}:1"));
    let Some((host, port)) = filled.as_deref().unwrap_or(text).rsplit_once(':') else { return false };
    let good_port = !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0);
    let good_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)),
    };
    good_port && good_host
}

/// The names in `{name}` placeholders. Braces around anything but lower-case letters and `_` are just text, so
/// that a body such as `{"ok":true}` can be expected.
pub(super) fn placeholders(text: &str) -> Vec<&str> {
    let inside = text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    inside.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).collect()
}

/// The one of `known` that `word` most likely was meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let allowed = 1 + word.len() / 4;
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out or replaced.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            (size("2GiB"), size("500 MiB"), size("7"), size("7B")),
            (Some(2 << 30), Some(500 << 20), Some(7), Some(7))
        );
        for bad in ["", "GiB", "-1", "+1", "1.5GiB", "2GB", "99999999TiB", "99999999999999999999"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses() {
        for good in ["127.0.0.1:8080", "[::1]:80", "localhost:1", "web-1.internal:65535", "127.0.0.1:{port}"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "localhost",
            "::1:80",
            "[::1]",
            "a:0",
            "a:65536",
            "a:+80",
            "a b:80",
            "[1.2.3.4]:80",
            "{port}",
            ":{port}",
            "a:{port}0",
        ] {
            assert!(!is_host_port(bad), "{bad}");
        }
    }

    #[test]
    fn placeholders_are_told_from_json() {
        assert_eq!(placeholders("v{version} {\"ok\":true} {x_y} {} {open"), vec!["version", "x_y"]);
    }

    #[test]
    fn a_misspelt_word_is_recognised() {
        let known = ["interval", "timeout", "deadline"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("time_out", known), Some("timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
