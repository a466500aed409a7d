//! What was measured of deployments, in words.

use std::time::Duration;

use serde::Serialize;

use crate::model::measured::{Asked, Connections, median_and_worst};
use crate::model::{Measured, Outcome, Report};

use super::text::span;

/// The times that are kept, with the words that people read.
fn times(of: &Measured) -> [(&'static str, Option<u64>); 6] {
    [
        ("ready", of.ready_ms),
        ("switch", of.switch_ms),
        ("down", of.down_ms),
        ("gap", of.gap_ms),
        ("drain", of.drain_ms),
        ("total", of.total_ms),
    ]
}

/// The measures of many deployments.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many ended `done`.
    deployments: usize,
    /// The times of them that are known.
    times: Vec<Spread>,
    /// The sum of what was open on instances that were taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<Connections>,
    /// The sum of the questions at the outside address.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
}

/// One time over many deployments.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Spread {
    /// Which.
    what: &'static str,
    /// Of how many deployments it is known.
    of: usize,
    /// Half of them took no longer.
    median_ms: u64,
    /// The longest.
    worst_ms: u64,
}

impl Summary {
    /// Of those that ended `done`: what a failure took says nothing of what the next one will take.
    pub fn of(reports: &[Report]) -> Summary {
        let is_done = |report: &&Report| report.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Done);
        let all: Vec<&Measured> = reports.iter().filter(is_done).map(|report| &report.measured).collect();
        let of = |what: &str| {
            let all = all.iter().flat_map(|it| times(it));
            all.filter_map(|(it, time)| time.filter(|_| it == what)).collect()
        };
        let spreads = times(&Measured::default()).into_iter().filter_map(|(what, _)| spread(what, of(what)));
        let connections = all
            .iter()
            .filter_map(|it| it.connections)
            .reduce(|a, b| Connections { drained: a.drained + b.drained, cut: a.cut + b.cut });
        let asked = all
            .iter()
            .filter_map(|it| it.asked)
            .reduce(|a, b| Asked { asked: a.asked + b.asked, failed: a.failed + b.failed });
        Summary { deployments: all.len(), times: spreads.collect(), connections, asked }
    }

    /// A row a time: what, median, worst, of how many.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |it: &Spread| vec![it.what.to_owned(), brief(it.median_ms), brief(it.worst_ms), it.of.to_string()];
        self.times.iter().map(row).collect()
    }

    /// The counts, in a line; empty where nothing was counted.
    pub fn counts(&self) -> String {
        counts(self.connections, self.asked)
    }
}

fn spread(what: &'static str, times: Vec<u64>) -> Option<Spread> {
    let of = times.len();
    let (median_ms, worst_ms) = median_and_worst(times)?;
    Some(Spread { what, of, median_ms, worst_ms })
}

/// One deployment's measures in a line: "ready 212 ms, switch 8 ms, total 1.2 s".
pub fn sentence(measured: &Measured) -> String {
    let known = times(measured).into_iter().filter_map(|(what, time)| Some(format!("{what} {}", brief(time?))));
    let mut parts: Vec<String> = known.collect();
    let counts = counts(measured.connections, measured.asked);
    if !counts.is_empty() {
        parts.push(counts);
    }
    parts.join(", ")
}

fn counts(connections: Option<Connections>, asked: Option<Asked>) -> String {
    let connections = connections.map(|it| format!("connections: {} drained, {} cut", it.drained, it.cut));
    let asked = asked.map(|it| format!("asked from outside {} times, {} failed", it.asked, it.failed));
    connections.into_iter().chain(asked).collect::<Vec<_>>().join("; ")
}

/// "87 ms", "1.2 s"; nothing for what isn't known.
pub fn brief_or_nothing(millis: Option<u64>) -> String {
    millis.map(brief).unwrap_or_default()
}

fn brief(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        _ => span(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_that_was_measured_and_the_worst_is_the_worst() {
        let spread = |times: &[u64]| spread("gap", times.to_vec()).map(|it| (it.of, it.median_ms, it.worst_ms));
        assert_eq!(spread(&[30, 10, 20]), Some((3, 20, 30)));
        assert_eq!(spread(&[40, 10, 20, 30]), Some((4, 20, 40)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let measured = Measured { switch_ms: Some(8), total_ms: Some(1234), ..Measured::default() };
        assert_eq!(sentence(&measured), "switch 8 ms, total 1.2 s");
        let connections = Some(Connections { drained: 3, cut: 0 });
        assert_eq!(sentence(&Measured { connections, ..Measured::default() }), "connections: 3 drained, 0 cut");
    }
}
