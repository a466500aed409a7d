//! Whether the host's own packet filter lets redirected connections in, as far as its file tells.
//!
//! A filter sees a redirected connection with the instance's port, not with the one that the user called, and what one
//! table drops no other can accept. This reads `/etc/nftables.conf` and nothing that it includes: a hint where it is plain,
//! silence where it isn't.

use std::path::Path;

use crate::model::route::PortRange;

use super::super::unitfile::SearchPath;
use super::{Findings, Place};

const FILE: &str = "/etc/nftables.conf";

pub(super) fn check(port: u16, ports: PortRange, path: &SearchPath, findings: &mut Findings) {
    let Some(text) = path.host_file(FILE) else { return };
    let Some(line) = shut_at(&text, ports) else { return };
    findings.warning(
        Place { file: Path::new(FILE), line: Some(line) },
        format!("this filter of what comes in has no rule that accepts redirected connections (to {ports})"),
        &format!(
            "it sees the port of the instance, not {port}: users elsewhere are dropped, though clients on this host get through"
        ),
        "ct status dnat accept, in this chain; what comes to those ports directly stays closed",
    );
}

/// The line of a chain that filters what comes in and drops by its policy, if nothing in it accepts what was redirected.
fn shut_at(text: &str, ports: PortRange) -> Option<u32> {
    let code = |line: &str| line.split('#').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(code).collect();
    let begins = |line: &String| line.contains("hook input") && line.contains("type filter");
    let (mut at, mut found) = (0, None);
    while let Some(begin) = lines[at..].iter().position(begins) {
        let begin = at + begin;
        // To the end of the chain: the first closing brace that none was opened for.
        let mut depth = 0i32;
        let end = lines[begin..].iter().position(|line| {
            depth += i32::try_from(line.matches('{').count()).unwrap_or(0)
                - i32::try_from(line.matches('}').count()).unwrap_or(0);
            depth < 0
        });
        let end = end.map_or(lines.len(), |end| begin + end);
        let chain = &lines[begin..end];
        let drops = chain.iter().any(|line| line.contains("policy drop"));
        let accepts = |line: &String| {
            line.contains("accept")
                && (line.contains("ct status dnat")
                    || line.contains("ct original")
                    || line.contains(&ports.to_string()))
                || line.contains("jump ")
        };
        if drops && !chain.iter().any(accepts) {
            found = found.or(u32::try_from(begin + 1).ok());
        }
        at = end.max(begin + 1).min(lines.len());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_drops_what_was_redirected_is_seen() {
        let chain = |head: &str, rules: &str| {
            format!(
                "flush ruleset\ntable inet filter {{\n  chain input {{\n    {head}\n{rules}\n  }}\n  chain forward {{ }}\n}}\n"
            )
        };
        let drop = "type filter hook input priority filter; policy drop;";
        for (text, line) in [
            (chain(drop, "tcp dport { 22, 8080 } accept"), Some(4)),
            (chain(drop, "# ct status dnat accept"), Some(4)),
            (chain(drop, "tcp dport 22 accept\nct status dnat accept"), None),
            (chain(drop, "tcp dport 20000-20099 accept"), None),
            (chain(drop, "tcp dport { 22 } accept\n  ct  status dnat   accept"), None),
            (chain("type filter hook input priority 0; policy accept;", ""), None),
            // What that does isn't known here.
            (chain(drop, "jump mine"), None),
            (chain("type filter hook forward priority 0; policy drop;", ""), None),
            (String::new(), None),
            (
                "table inet x { chain y { type filter hook input priority 0; policy drop; tcp dport 1 accept".into(),
                Some(1),
            ),
        ] {
            let found = shut_at(&text, PortRange::between(20000, 20099));
            assert_eq!(found, line, "{text}");
        }
    }
}
