//! nftables: the kernel redirects the public port to the instances' own.
//!
//! An app has a table of its own, `inet slotd_APP`, whose rules each call replaces in one transaction: a new connection
//! goes by the old rules or by the new ones, and one that is open keeps its translation (that is conntrack's). The chains
//! stay: a new chain beside an old one of the same hook would be asked first, and a packet that passes both while the
//! kernel goes from one generation to the next could find neither in force. Only
//! connections to addresses of this host are meant (`fib daddr type local`): what it forwards, or calls elsewhere on the
//! same port, isn't touched.
//!
//! The instances' own ports are closed to the outside, whole range, so that a candidate gets no users before the switch;
//! what was redirected carries `ct status dnat`. A host's own filter sees the redirected connection with the instance's
//! port, and no table can overrule another one's drop: that filter has to accept `ct status dnat`.
//!
//! A client whose first packet got no answer (a full queue) repeats it, and conntrack sends the repetition where the first
//! one went, though that instance may have left the set and stopped by then. Its refusal is kept from the client: conntrack
//! forgets the connection by it all the same, so that the next repetition goes by the rules. The same holds for an instance
//! of the set that ends while another one stands by: slotd is about to send users there.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::model::AppName;
use crate::model::route::{PortRange, RouteBackend};

/// What is run.
const PROGRAM: &str = "nft";

/// Connections by turns: of each 0 to `turns` - 1, which port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turns(Vec<(u32, u32, u16)>);

/// What a table of an app does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<'a> {
    /// Whose.
    pub app: &'a AppName,
    /// The ports that users call: one, or while they move to another one both.
    pub public: &'a [u16],
    /// The range that is closed to the outside.
    pub ports: PortRange,
    /// Whom users are sent to; nobody: they are refused.
    pub backends: &'a [RouteBackend],
    /// Whether somebody stands by, so that who finds none of `backends` is to wait.
    pub standby: bool,
}

/// Why a table isn't in force.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It couldn't be run.
    #[error("can't run nft (Debian's package nftables): {0}")]
    Run(io::Error),
    /// It said no; the kernel has what it had before.
    #[error("nft refuses: {0}")]
    Refused(String),
    /// It said yes, and what it lists is something else.
    #[error("nft took the table, and lists another one: {0}")]
    Differs(String),
}

impl Table<'_> {
    /// Puts it in force, in place of the one that was, and reads it back.
    pub fn apply(&self) -> Result<(), NftError> {
        run(&["-f", "-"], &self.ruleset())?;
        let listed = run(&["--json", "list", "table", "inet", &self.name()], "")?;
        self.is_what_is_listed(&String::from_utf8_lossy(&listed.stdout)).map_err(NftError::Differs)
    }

    fn name(&self) -> String {
        format!("slotd_{}", self.app)
    }

    /// The transaction, in nft's language.
    fn ruleset(&self) -> String {
        let (name, ports) = (self.name(), self.ports);
        let to = match self.turns().0.as_slice() {
            // Nobody listens there: the kernel refuses.
            [] => None,
            [(_, _, own)] => Some(format!("redirect to :{own}")),
            turns => {
                let all = turns.last().map_or(0, |(_, last, _)| last + 1);
                // A range of one turn is none to nft.
                let key = |first: &u32, last: &u32| match first == last {
                    true => first.to_string(),
                    false => format!("{first}-{last}"),
                };
                let map: Vec<String> =
                    turns.iter().map(|(first, last, own)| format!("{} : {own}", key(first, last))).collect();
                let map = map.join(", ");
                Some(format!("redirect to :numgen inc mod {all} map {{ {map} }}"))
            }
        };
        let rule = |to: &String| {
            let rules = self.public.iter().map(|port| format!("fib daddr type local tcp dport {port} {to}"));
            rules.collect::<Vec<_>>().join("\n        ")
        };
        let redirect = to.as_ref().map(rule).unwrap_or_default();
        let told = match self.told().as_slice() {
            [] => String::new(),
            told => format!("tcp sport != {{ {} }} ", told.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")),
        };
        // Where table and chains are there already, the first part says what is so.
        format!(
            "table inet {name} {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
    }}
    chain output {{
        type nat hook output priority -100; policy accept;
    }}
    chain input {{
        type filter hook input priority filter - 10; policy accept;
    }}
    chain refusals {{
        type filter hook output priority filter - 10; policy accept;
    }}
}}
flush table inet {name}
table inet {name} {{
    # Clients elsewhere.
    chain prerouting {{
        {redirect}
    }}
    # Clients on this host.
    chain output {{
        {redirect}
    }}
    chain input {{
        iif \"lo\" accept
        ct status dnat accept
        tcp dport {ports} drop
    }}
    # RFC 9293, 3.5.2: only the refusal of a first packet has the sequence number 0.
    chain refusals {{
        tcp sport {ports} {told}ct status dnat tcp flags & (rst | ack) == rst | ack tcp sequence 0 drop
    }}
}}
"
        )
    }

    /// The instances' ports whose refusals reach users.
    fn told(&self) -> Vec<u16> {
        let mut told: Vec<u16> = self.backends.iter().filter(|_| !self.standby).map(|backend| backend.port).collect();
        told.sort_unstable();
        told
    }

    /// The shares as whole turns, as few as may be.
    fn turns(&self) -> Turns {
        let divisor = self.backends.iter().fold(0, |divisor, backend| gcd(divisor, backend.weight)).max(1);
        let mut begin = 0;
        let turns = self.backends.iter().map(|backend| {
            let first = begin;
            begin += backend.weight / divisor;
            (first, begin - 1, backend.port)
        });
        Turns(turns.collect())
    }

    /// Whether `nft --json list table` shows this table.
    fn is_what_is_listed(&self, json: &str) -> Result<(), String> {
        let listed: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let items = listed["nftables"].as_array().ok_or("no list")?;
        let rules = |chain: &'static str| {
            let rules = items.iter().map(|item| &item["rule"]);
            rules.filter(move |rule| rule["chain"] == chain).filter_map(|rule| rule["expr"].as_array())
        };
        for chain in ["prerouting", "output"] {
            let found: Vec<(Option<u64>, Turns)> = rules(chain)
                .filter_map(|expr| {
                    let port = expr.iter().find_map(|it| port_of(it, "dport")?.1.as_u64());
                    Some((port, expr.iter().find_map(|it| redirected(&it["redirect"]["port"]))?))
                })
                .collect();
            let turns = self.turns();
            let public = self.public.iter().filter(|_| !turns.0.is_empty());
            let wanted: Vec<_> = public.map(|port| (Some(u64::from(*port)), turns.clone())).collect();
            if found != wanted {
                return Err(format!("chain {chain} has {found:?}, and should have {wanted:?}"));
            }
        }
        let drops = |expr: &&Vec<Value>| expr.iter().any(|it| it.get("drop").is_some());
        let dropped = |chain, field: &str| -> Vec<Vec<(bool, Vec<u64>)>> {
            let of = |it: &Value| port_of(it, field).map(|(is, right)| (is, ports(right)));
            rules(chain).filter(drops).map(|expr| expr.iter().filter_map(of).collect()).collect()
        };
        let mut range = vec![u64::from(*self.ports.all().start()), u64::from(*self.ports.all().end())];
        // One port alone is listed as a number.
        range.dedup();
        if dropped("input", "dport") != [[(true, range.clone())]] {
            return Err(format!("chain input doesn't close {} to the outside", self.ports));
        }
        let told: Vec<u64> = self.told().into_iter().map(u64::from).collect();
        let kept = [(true, range), (false, told)].into_iter().filter(|(_, ports)| !ports.is_empty());
        match dropped("refusals", "sport") == [kept.collect::<Vec<_>>()] {
            true => Ok(()),
            false => Err(format!("chain refusals doesn't keep those of {} that it should", self.ports)),
        }
    }
}

/// Of a match on this field of TCP: whether it is for what is equal, and to what.
fn port_of<'a>(expression: &'a Value, field: &str) -> Option<(bool, &'a Value)> {
    let matched = &expression["match"];
    (matched["left"]["payload"]["field"] == field).then(|| (matched["op"] == "==", &matched["right"]))
}

/// A port, the ends of a range, or the members of a set, in their order.
fn ports(value: &Value) -> Vec<u64> {
    let many = value["range"].as_array().or(value["set"].as_array());
    let mut ports: Vec<u64> =
        many.map_or(std::slice::from_ref(value), Vec::as_slice).iter().filter_map(Value::as_u64).collect();
    ports.sort_unstable();
    ports
}

/// Where `redirect to :…` leads.
fn redirected(port: &Value) -> Option<Turns> {
    let own = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(port) = own(port) {
        return Some(Turns(vec![(0, 0, port)]));
    }
    let turn = |pair: &Value| {
        let number = |value: &Value| value.as_u64().and_then(|turn| u32::try_from(turn).ok());
        let key = &pair[0];
        let (first, last) = match number(key) {
            Some(turn) => (turn, turn),
            None => (number(&key["range"][0])?, number(&key["range"][1])?),
        };
        Some((first, last, own(&pair[1])?))
    };
    let mut turns: Vec<_> = port["map"]["data"]["set"].as_array()?.iter().map(turn).collect::<Option<_>>()?;
    turns.sort_unstable();
    Some(Turns(turns))
}

fn run(arguments: &[&str], input: &str) -> Result<Output, NftError> {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NftError::Run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why in its own words.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ");
    Err(NftError::Refused(if said.is_empty() { output.status.to_string() } else { said }))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(weights: &[u32]) -> Vec<RouteBackend> {
        let backend = |(n, weight): (u16, &u32)| RouteBackend {
            instance: format!("1{}", if n == 0 { String::new() } else { format!("@{}", n + 1) }).parse().expect("name"),
            port: 20000 + n,
            weight: *weight,
        };
        (0u16..).zip(weights).map(backend).collect()
    }

    fn with<T>(weights: &[u32], look: impl Fn(Table<'_>) -> T) -> T {
        let (app, backends) = ("my-app".parse().expect("app"), backends(weights));
        let ports = PortRange::new(20000, 20099).expect("a range");
        look(Table { app: &app, public: &[8080], ports, backends: &backends, standby: false })
    }

    #[test]
    fn shares_are_turns_without_gaps() {
        for (weights, turns) in [
            (&[][..], &[][..]),
            (&[7], &[(0, 0, 20000)]),
            (&[1, 1], &[(0, 0, 20000), (1, 1, 20001)]),
            (&[90, 10], &[(0, 8, 20000), (9, 9, 20001)]),
            (&[256, 255, 1], &[(0, 255, 20000), (256, 510, 20001), (511, 511, 20002)]),
        ] {
            assert_eq!(with(weights, |table| table.turns().0), turns, "{weights:?}");
        }
    }

    #[test]
    fn both_chains_lead_to_the_same_and_the_old_rules_go() {
        let text = with(&[3, 1], |table| table.ruleset());
        let (before, after) = text.split_once("flush table inet slotd_my-app\n").expect("a flush");
        assert!(before.contains("type nat hook output") && !before.contains("redirect"), "{text}");
        assert!(!after.contains("type nat hook"), "{text}");
        let line = "fib daddr type local tcp dport 8080 redirect to :numgen inc mod 4 map { 0-2 : 20000, 3 : 20001 }\n";
        assert_eq!(text.matches(line).count(), 2, "{text}");
        assert!(text.contains("tcp dport 20000-20099 drop\n"), "{text}");
        let text = with(&[1], |table| table.ruleset());
        assert_eq!(text.matches("tcp dport 8080 redirect to :20000\n").count(), 2, "{text}");
        assert!(!with(&[], |table| table.ruleset()).contains("redirect"));
    }

    #[test]
    fn refusals_reach_users_only_from_those_that_serve_while_nobody_stands_by() {
        let silent = |weights: &[u32], standby| {
            let text = with(weights, |table| Table { standby, ..table }.ruleset());
            let line = text.lines().find(|line| line.contains(" dnat tcp flags ")).expect("a rule");
            line.trim().split(" ct status").next().expect("ports").to_owned()
        };
        assert_eq!(silent(&[1, 1], false), "tcp sport 20000-20099 tcp sport != { 20000, 20001 }");
        assert_eq!(silent(&[1, 1], true), "tcp sport 20000-20099");
        assert_eq!(silent(&[], false), "tcp sport 20000-20099");
    }

    #[test]
    fn users_come_by_two_ports_while_they_move_from_one_to_the_other() {
        let both = |weights: &[u32]| {
            with(weights, |table| {
                let table = Table { public: &[8080, 9090], ..table };
                let rule = |chain: &str, port: u16| {
                    format!(
                        r#"{{"rule":{{"chain":"{chain}","expr":[{{"match":{{"op":"==","left":{{"payload":{{"field":"dport"}}}},"right":{port}}}}},{{"redirect":{{"port":20000}}}}]}}}}"#
                    )
                };
                let listed = |rules: &[String]| format!(r#"{{"nftables":[{}]}}"#, rules.join(","));
                let all = [("prerouting", 8080), ("prerouting", 9090), ("output", 8080), ("output", 9090)];
                let all: Vec<String> = all.iter().map(|(chain, port)| rule(chain, *port)).collect();
                let said = |rules: &[String]| table.is_what_is_listed(&listed(rules)).expect_err("no input chain");
                (table.ruleset(), said(&all), said(&all[..3]))
            })
        };
        let (text, both_listed, one_missing) = both(&[1]);
        for port in [8080, 9090] {
            let line = format!("fib daddr type local tcp dport {port} redirect to :20000\n");
            assert_eq!(text.matches(&line).count(), 2, "{text}");
        }
        assert!(both_listed.contains("chain input"), "{both_listed}");
        assert!(one_missing.contains("chain output has"), "{one_missing}");
        assert!(!both(&[]).0.contains("redirect"));
    }

    /// As nft 1.0.6 and 1.1.3 list it, with what isn't looked at left out.
    fn listing(redirect: &str, closed: &str, told: &str) -> String {
        let matched = |op: &str, field: &str, right: &str| {
            format!(
                r#"{{"match":{{"op":"{op}","left":{{"payload":{{"protocol":"tcp","field":"{field}"}}}},"right":{right}}}}}"#
            )
        };
        let rule = |chain: &str, expr: &str| format!(r#"{{"rule":{{"chain":"{chain}","expr":[{expr}]}}}}"#);
        let redirect = format!(r#"{},{{"redirect":{{"port":{redirect}}}}}"#, matched("==", "dport", "8080"));
        let drop = r#"{"drop":null}"#;
        let (closed, told) = (
            format!("{},{drop}", matched("==", "dport", closed)),
            format!("{},{},{drop}", matched("==", "sport", r#"{"range":[20000,20099]}"#), matched("!=", "sport", told)),
        );
        format!(
            r#"{{"nftables":[{{"metainfo":{{}}}},{},{},{},{},{}]}}"#,
            rule("prerouting", &redirect),
            rule("output", &redirect),
            rule("input", r#"{"match":{"left":{"meta":{"key":"iif"}}}},{"accept":null}"#),
            rule("input", &closed),
            rule("refusals", &told),
        )
    }

    #[test]
    fn what_is_listed_is_compared() {
        let map = r#"{"map":{"key":{"numgen":{}},"data":{"set":[[3,20001],[{"range":[0,2]},20000]]}}}"#;
        let range = r#"{"range":[20000,20099]}"#;
        let (one, two) = ("20000", r#"{"set":[20001,20000]}"#);
        let judge = |weights: &[u32], text: &str| with(weights, |table| table.is_what_is_listed(text));
        assert_eq!(judge(&[3, 1], &listing(map, range, two)), Ok(()));
        assert_eq!(judge(&[1], &listing(one, range, one)), Ok(()));
        for (weights, text, words) in [
            (&[3, 2][..], listing(map, range, two), "chain prerouting has"),
            (&[], listing(map, range, two), "chain prerouting has"),
            (&[1], listing("20001", range, one), "chain prerouting has"),
            (&[1], listing(one, one, one), "doesn't close 20000-20099"),
            (&[1], listing(one, range, two), "chain refusals doesn't keep those of 20000-20099"),
            (&[1], listing(one, range, one).replacen("8080", "8081", 1), "chain prerouting has"),
            (&[1], listing(one, range, one).replace("\"output\"", "\"other\""), "chain output has"),
            (&[1], listing(one, range, one).replace("\"drop\"", "\"accept\""), "doesn't close"),
            (&[1], "{}".to_owned(), "no list"),
        ] {
            let error = judge(weights, &text).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
