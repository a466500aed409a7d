//! `[outside]`: the address that users call.

use std::time::Duration;

use super::app::{Outside, Probe, Route};
use super::document::Section;
use super::{probe, text};

/// How often it is asked while a deployment is under way, unless the file says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(250);

/// No more and no less often than this.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(60);

/// The address that the file names.
pub(super) fn read(top: &Section<'_>) -> Option<Outside> {
    let section = top.section("outside")?;
    let interval = section.duration("interval", INTERVALS).unwrap_or(DEFAULT_INTERVAL);
    let probe = probe::outside(&section);
    section.finish();
    Some(Outside { probe: probe?, interval })
}

/// The address where the file names none: the port that the route has of its own, or that of the first probe over TCP, since
/// a port that all slots share is the users'.
pub(super) fn assumed(route: &Route, probes: &[Probe]) -> Option<Outside> {
    let probe = match route {
        Route::Nftables { port, .. } => Probe::Tcp { address: format!("127.0.0.1:{port}") },
        Route::Socket { .. } => probes
            .iter()
            .find(|probe| probe.tcp_address().is_some_and(|address| text::placeholders(address).is_empty()))?
            .clone(),
        _ => return None,
    };
    Some(Outside { probe, interval: DEFAULT_INTERVAL })
}
