//! Whether HAProxy tries another server for who meets an instance that has just died, as far as its file tells.
//!
//! This reads `/etc/haproxy/haproxy.cfg` and nothing beside it: a hint where the backend stands there, silence where it
//! doesn't. That the servers are there, the helper asks the running process.

use std::path::Path;

use super::super::unitfile::SearchPath;
use super::{Findings, Place};

const FILE: &str = "/etc/haproxy/haproxy.cfg";

/// The keywords that begin a section.
const SECTIONS: [&str; 14] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "mailers",
    "userlist",
    "cache",
    "program",
    "ring",
    "http-errors",
    "log-forward",
];

pub(super) fn check(backend: &str, path: &SearchPath, findings: &mut Findings) {
    let Some(text) = path.host_file(FILE) else { return };
    let Some(line) = without_redispatch(&text, backend) else { return };
    findings.warning(
        Place { file: Path::new(FILE), line: Some(line) },
        format!("backend {backend} has no `option redispatch 1`"),
        "who meets an instance that dies while it is watched is tried on the same one again, and gets 503, though the old \
         slot stands by",
        "option redispatch 1, in this backend, and reload haproxy.service",
    );
}

/// The line of the backend, if neither it nor the defaults before it have connections tried on another server at once.
fn without_redispatch(text: &str, backend: &str) -> Option<u32> {
    let (mut by_default, mut found, mut here) = (false, None, "");
    for (number, line) in (1u32..).zip(text.lines()) {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        match words.as_slice() {
            [section, rest @ ..] if SECTIONS.contains(section) => {
                here = section;
                match (*section, rest) {
                    // Its own are told apart by who says `from`; a hint follows only the last.
                    ("defaults", _) => by_default = false,
                    ("backend", [name, ..]) if *name == backend => found = Some((number, by_default)),
                    ("backend", _) => here = "another",
                    _ => {}
                }
            }
            ["option", "redispatch", "1"] => match (here, &mut found) {
                ("defaults", _) => by_default = true,
                ("backend", Some((_, set))) => *set = true,
                _ => {}
            },
            _ => {}
        }
    }
    found.filter(|(_, set)| !set).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_tries_a_dead_instance_again_is_seen() {
        let line = |text: &str| without_redispatch(text, "web");
        let (plain, with) = ("backend web\n balance roundrobin\n", "backend web\n option  redispatch 1 # at once\n");
        for (text, seen) in [
            (plain.to_owned(), Some(1)),
            (with.to_owned(), None),
            (format!("defaults\n option redispatch 1\n{plain}"), None),
            (format!("defaults\n option redispatch\n{plain}"), Some(3)),
            (format!("defaults\n option redispatch 1\ndefaults\n mode http\n{plain}"), Some(5)),
            (format!("{plain}backend api\n option redispatch 1\n"), Some(1)),
            (format!("{plain}frontend web\n option redispatch 1\n"), Some(1)),
            (format!("{plain} # option redispatch 1\n"), Some(1)),
            ("backend api\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(line(&text), seen, "{text}");
        }
    }
}
