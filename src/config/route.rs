//! `[route]`, `[soak]`, and the keys of the strategy: how users reach an app, and how it moves.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::StrategyName;
use crate::model::route::{PortRange, is_backend};

use super::app::{Accept, Ports, Route, Soak, Strategy, SwitchMode, Unit};
use super::document::Section;
use super::sections::{MAX_WAIT, to_u32};

/// The instances' own ports unless the file says otherwise: below the ephemeral ports of an ordinary host (from 32768 on,
/// ip_local_port_range).
const DEFAULT_PORTS: PortRange = PortRange::between(20000, 29999);

/// Below it ports are privileged (ip_unprivileged_port_start).
const LEAST_PORT: u16 = 1024;

/// How long open connections may go on unless the file says otherwise.
const DEFAULT_DRAIN: Duration = Duration::from_secs(10);

/// Where `slotctl new` proposes the socket on which HAProxy lets slotd look.
pub(super) const HAPROXY_SOCKET: &str = "/run/haproxy/slotd.sock";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Socket,
    None,
    Nftables,
    Haproxy,
    Nginx,
}

/// `strategy`, `max_surge`, `max_unavailable`, `pause_after`, `weight`, `switch`.
pub(super) fn strategy(top: &Section<'_>, units: &[Unit]) -> Strategy {
    let names = StrategyName::ALL.map(|name| (name.as_str(), name));
    let numbered = top.has("max_surge") || top.has("max_unavailable");
    let name = top.choice("strategy", &names, &[]);
    let name = name.unwrap_or(if numbered { StrategyName::Rolling } else { StrategyName::StopStart });
    let number = |key, least: u64| top.number(key, least..=99).map(to_u32);
    let switch = [("automatic", SwitchMode::Automatic), ("manual", SwitchMode::Manual)];
    let strategy = Strategy {
        name,
        max_surge: number("max_surge", 0),
        max_unavailable: number("max_unavailable", 0),
        pause_after: number("pause_after", 1),
        weight: number("weight", 1),
        switch: top.choice("switch", &switch, &[]).unwrap_or_default(),
    };
    if numbered && name == StrategyName::StopStart {
        let key = if top.has("max_surge") { "max_surge" } else { "max_unavailable" };
        let message = "stop-start is (0, N): other numbers are another strategy";
        top.error(top.place_of(key), message, "write strategy = \"rolling\"".to_owned());
    }
    for unit in units {
        let numbers = strategy.numbers(unit);
        if numbers.max_surge == 0 && numbers.max_unavailable == 0 {
            let message = "max_surge and max_unavailable are both 0: no instance could be replaced";
            top.error(top.place_of("max_unavailable"), message, None);
            break;
        }
    }
    strategy
}

/// `[route]`.
pub(super) fn route(top: &Section<'_>) -> Route {
    let Some(section) = top.section("route") else { return Route::Socket { accept: Accept::Ready } };
    let kinds = [
        ("socket", Kind::Socket),
        ("none", Kind::None),
        ("nftables", Kind::Nftables),
        ("haproxy", Kind::Haproxy),
        ("nginx", Kind::Nginx),
    ];
    let kind = section.choice("kind", &kinds, &[]).unwrap_or(Kind::Socket);
    let accept = section.choice("accept", &[("ready", Accept::Ready), ("signal", Accept::Signal)], &[]);
    let ports = ports(&section);
    let port = section.number("port", 1..=65535).and_then(|port| u16::try_from(port).ok());
    let backend = section.text("backend");
    let socket = section.text("socket");
    for (key, kinds) in [
        ("accept", &[Kind::Socket][..]),
        ("port", &[Kind::Nftables]),
        ("backend", &[Kind::Haproxy]),
        ("socket", &[Kind::Haproxy]),
        ("ports", &[Kind::Nftables, Kind::Haproxy, Kind::Nginx]),
        ("drain", &[Kind::Nftables, Kind::Haproxy, Kind::Nginx]),
    ] {
        if section.has(key) && !kinds.contains(&kind) {
            let words: Vec<_> = kinds.iter().map(|kind| format!("kind = {:?}", word(*kind))).collect();
            section.error(section.place_of(key), format!("`{key}` belongs to {}", words.join(", ")), None);
        }
    }
    let route = match kind {
        Kind::None => Route::None,
        Kind::Socket => Route::Socket { accept: accept.unwrap_or(Accept::Ready) },
        Kind::Nginx => Route::Nginx { ports },
        Kind::Nftables => {
            if port.is_none() && !section.has("port") {
                let help = "add port = 80, the port that users call".to_owned();
                section.error(section.place(), "`port` is missing in [route]", help);
            }
            let port = port.unwrap_or_default();
            if ports.range.contains(port) {
                let message = format!("the public port {port} is one of the instances' own");
                section.error(section.place_of("port"), message, None);
            }
            Route::Nftables { port, ports }
        }
        Kind::Haproxy => {
            let name = backend.as_ref().map(|name| name.get_ref().as_str()).unwrap_or_default();
            if !is_backend(name) {
                let message = "`backend` names the backend in HAProxy's configuration: letters, digits and -_.:";
                section.error(section.place_of("backend"), message, "write backend = \"web\"".to_owned());
            }
            let path = socket.as_ref().map_or(HAPROXY_SOCKET, |path| path.get_ref());
            if !path.starts_with('/') {
                section.error(section.place_of("socket"), "the path of a socket begins with /", None);
            }
            Route::Haproxy { backend: name.to_owned(), socket: PathBuf::from(path), ports }
        }
    };
    section.finish();
    route
}

/// `[soak]`.
pub(super) fn soak(top: &Section<'_>) -> Soak {
    let Some(section) = top.section("soak") else { return Soak::default() };
    let time = section.duration("time", Duration::ZERO..=MAX_WAIT);
    let confirm = section.flag("confirm").unwrap_or(false);
    section.finish();
    Soak { time, confirm }
}

fn ports(section: &Section<'_>) -> Ports {
    let drain = section.duration("drain", Duration::ZERO..=MAX_WAIT).unwrap_or(DEFAULT_DRAIN);
    let range = section.parsed("ports", |text| {
        let (first, last) = text.split_once('-').ok_or_else(|| wrong_range(text))?;
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong_range(text));
        let (first, last) = (number(first)?, number(last)?);
        PortRange::new(first, last).filter(|_| first >= LEAST_PORT).ok_or_else(|| wrong_range(text))
    });
    Ports { range: range.unwrap_or(DEFAULT_PORTS), drain }
}

fn wrong_range(text: &str) -> String {
    format!("{text:?} is no range of ports: write ports = \"20000-20099\", from {LEAST_PORT} on")
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Socket => "socket",
        Kind::None => "none",
        Kind::Nftables => "nftables",
        Kind::Haproxy => "haproxy",
        Kind::Nginx => "nginx",
    }
}
