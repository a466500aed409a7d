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
//! forgets the connection by it all the same (see [`timeouts`](super::timeouts)), so that the next repetition goes by the
//! rules. The same holds for an instance of the set that ends while another one stands by: slotd is about to send users there.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::model::AppName;
use crate::model::route::{PortRange, RouteBackend};

use super::timeouts::Timeouts;

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
    /// How long the connections are remembered.
    pub timeouts: &'a Timeouts,
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
        let (timeouts, remembered) = (self.timeouts.object(), self.timeouts.name());
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
            let rules = self
                .public
                .iter()
                .map(|port| format!("fib daddr type local tcp dport {port} ct timeout set \"{remembered}\" {to}"));
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
    {timeouts}
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
            let found: Vec<(Option<u64>, Option<&str>, Turns)> = rules(chain)
                .filter_map(|expr| {
                    let port = expr.iter().find_map(|it| port_of(it, "dport")?.1.as_u64());
                    let remembered = expr.iter().find_map(|it| it["ct timeout"].as_str());
                    Some((port, remembered, expr.iter().find_map(|it| redirected(&it["redirect"]["port"]))?))
                })
                .collect();
            let (turns, remembered) = (self.turns(), self.timeouts.name());
            let public = self.public.iter().filter(|_| !turns.0.is_empty());
            let rule = |port: &u16| (Some(u64::from(*port)), Some(remembered.as_str()), turns.clone());
            let wanted: Vec<_> = public.map(rule).collect();
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
#[path = "nftables_tests.rs"]
mod tests;
