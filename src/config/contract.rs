//! What a route gives, and what a strategy asks of it. Pure.
//!
//! What can't be given is refused, by the settings file, by `check`, by `plan` and by the deployment, with the same
//! words; nothing is approximated.

use std::fmt;
use std::str::FromStr;

use crate::model::Code;
use crate::model::route::AcceptAt;

use super::app::{Accept, Address, Probe, Route, Soak, Strategy, SwitchMode, Unit};
use super::text::{INSTANCE, PORT, placeholders};

/// What a route gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// The candidate gets no users before the switch.
    pub private: bool,
    /// The old slot can run on beside the new one without users, so that going back is a switch and no start.
    pub warm: bool,
    /// Each instance has a port of its own.
    pub own_ports: bool,
    /// The share of an instance can be set.
    pub weights: bool,
}

/// A wish that the route, or the units, can't fulfil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its stable name.
    pub code: Code,
    /// What of the settings wishes it.
    pub place: Place,
    /// What can't be, and why.
    pub message: String,
    /// What would do.
    pub fix: String,
}

/// What of the settings wishes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A key at the top.
    Key(&'static str),
    /// The n-th probe of the first unit, from 0.
    Probe(usize),
    /// `[soak] confirm`.
    Confirm,
}

/// What the settings say together.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// How users reach the instances.
    pub route: &'a Route,
    /// How the app moves.
    pub strategy: &'a Strategy,
    /// Its units.
    pub units: &'a [Unit],
    /// How readiness of the first unit is asked, the one that the route sends users to.
    pub probes: &'a [Probe],
    /// How it is watched afterwards.
    pub soak: &'a Soak,
}

impl Route {
    /// What it gives.
    pub fn contract(&self) -> Contract {
        let own_ports = self.ports().is_some();
        match self {
            Route::None => Contract { private: true, warm: true, own_ports, weights: false },
            Route::Socket { accept } => {
                let signal = *accept == Accept::Signal;
                Contract { private: signal, warm: signal, own_ports, weights: false }
            }
            Route::Nftables { .. } | Route::Nginx { .. } => {
                Contract { private: true, warm: true, own_ports, weights: false }
            }
            Route::Haproxy { .. } => Contract { private: true, warm: true, own_ports, weights: true },
        }
    }
}

impl Route {
    /// What an instance is told about taking connections; only where signals decide about that.
    pub fn accept_variable(&self, at: AcceptAt) -> Option<(String, String)> {
        matches!(self, Route::Socket { accept: Accept::Signal }).then(|| at.variable())
    }
}

impl Wish<'_> {
    /// Whether a new instance may run beside an old one.
    pub fn overlaps(&self) -> bool {
        self.units.iter().any(|unit| self.strategy.numbers(unit).max_surge > 0)
    }

    /// All that can't be.
    pub fn refusals(&self) -> Vec<Refusal> {
        let contract = self.route.contract();
        let mut refusals = Vec::new();
        let mut refuse = |code, place, message: String, fix: &str| {
            refusals.push(Refusal { code, place, message, fix: fix.to_owned() });
        };
        for (n, probe) in self.probes.iter().enumerate() {
            let place = Place::Probe(n);
            if let Some(path) = unix_path(probe)
                && !placeholders(path).contains(&INSTANCE)
                && self.overlaps()
            {
                let message =
                    format!("the probe {probe} asks one socket of all instances, and the old slot may answer");
                let fix = "ask the slot's own socket: \"/run/slots/APP/{instance}/health.sock\"";
                refuse(Code::RouteProbeUnaddressed, place, message, fix);
            }
            let Some(address) = tcp_address(probe) else { continue };
            let own = placeholders(address).contains(&PORT);
            if own && !contract.own_ports {
                let message = format!("the probe {probe} asks {{port}}, and with this route instances have no port");
                refuse(Code::RouteUnsupported, place, message, "ask the slot's own socket, {instance}/health.sock");
            } else if !own && contract.own_ports {
                let message = format!("the probe {probe} can't be told which instance it reaches");
                refuse(Code::RouteProbeUnaddressed, place, message, "write address = \"127.0.0.1:{port}\"");
            } else if matches!(self.route, Route::Socket { accept: Accept::Signal }) {
                let message =
                    format!("the probe {probe} asks the shared socket, where a candidate accepts nothing yet");
                let fix = "ask the slot's own socket: address = \"/run/slots/APP/{instance}/health.sock\"";
                refuse(Code::RouteProbeUnaddressed, place, message, fix);
            } else if matches!(self.route, Route::Socket { .. }) && self.overlaps() {
                let message = format!(
                    "the probe {probe} asks the shared socket, where the old slot may answer beside the new one"
                );
                let fix = "ask the slot's own socket: address = \"/run/slots/APP/{instance}/health.sock\"";
                refuse(Code::RouteProbeUnaddressed, place, message, fix);
            }
        }
        let strategy = self.strategy;
        let wants_overlap = strategy.name.numbers(1).max_surge > 0 && strategy.max_surge != Some(0);
        if wants_overlap && !self.units.is_empty() && !self.overlaps() {
            let message =
                format!("{} starts new instances beside the old ones, and no unit may overlap", strategy.name);
            refuse(Code::RouteUnsupported, Place::Key("strategy"), message, "write strategy = \"stop-start\"");
        }
        if strategy.switch == SwitchMode::Manual && !(contract.private && self.overlaps()) {
            let message = match contract.private {
                true => "a candidate can wait for `promote` only beside the old slot, which this strategy stops first",
                false => "a candidate can't wait for `promote` on this route: it gets users from READY=1 on",
            };
            let fix = "a route with own ports or accept = \"signal\", and blue-green or rolling";
            refuse(Code::RouteUnsupported, Place::Key("switch"), message.to_owned(), fix);
        }
        if strategy.weight.is_some() && !contract.weights {
            let message = "only HAProxy gives an instance a share of its own".to_owned();
            refuse(Code::RouteUnsupported, Place::Key("weight"), message, "kind = \"haproxy\", or leave `weight` out");
        }
        if strategy.weight.is_some() && strategy.pause_after.is_none() {
            let message = "the share holds while a deployment waits for `promote`, and it never does".to_owned();
            refuse(Code::RouteUnsupported, Place::Key("weight"), message, "add pause_after = 1");
        }
        if strategy.weight.is_some_and(|weight| weight > 99) {
            refuse(
                Code::RouteUnsupported,
                Place::Key("weight"),
                "the share is 1 to 99 per cent".to_owned(),
                "weight = 10",
            );
        }
        if self.soak.confirm && self.soak.time_under(strategy.name).is_zero() {
            let message = "`confirm` is waited for during the soak time, and there is none".to_owned();
            refuse(Code::RouteUnsupported, Place::Confirm, message, "add time = \"10m\"");
        }
        if self.soak.confirm && !contract.warm && self.overlaps() {
            let message = "what goes back unless confirmed keeps the old slot warm, which this route can't";
            let fix = "a route with own ports or accept = \"signal\", or strategy = \"stop-start\"";
            refuse(Code::RouteUnsupported, Place::Confirm, message.to_owned(), fix);
        }
        refusals
    }
}

/// As the settings name it.
impl FromStr for Accept {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "ready" => Ok(Accept::Ready),
            "signal" => Ok(Accept::Signal),
            _ => Err(format!("{word:?} is neither ready nor signal")),
        }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accept::Ready => "ready",
            Accept::Signal => "signal",
        })
    }
}

/// The TCP address that a probe asks.
fn tcp_address(probe: &Probe) -> Option<&str> {
    match probe {
        Probe::Http { address: Address::Tcp(address), .. } | Probe::Tcp { address } => Some(address),
        Probe::Http { address: Address::Unix(_), .. } | Probe::Notify | Probe::Unix { .. } | Probe::Unit { .. } => None,
    }
}

/// The path of the Unix socket that a probe asks.
fn unix_path(probe: &Probe) -> Option<&str> {
    match probe {
        Probe::Http { address: Address::Unix(path), .. } => path.to_str(),
        Probe::Unix { path } => Some(path),
        Probe::Http { address: Address::Tcp(_), .. } | Probe::Notify | Probe::Tcp { .. } | Probe::Unit { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::daemon::Defaults;
    use super::super::parse_app;

    /// The codes and keys that a file is refused with.
    fn refused(text: &str) -> String {
        let name = "web".parse().expect("a name");
        match parse_app(&name, Path::new("web.toml"), text, &Defaults::default()) {
            Ok(_) => String::new(),
            Err(errors) => errors.iter().map(|error| format!("{}: {}\n", error.line, error.message)).collect(),
        }
    }

    #[test]
    fn what_a_route_can_not_give_is_refused_where_it_is_wished() {
        let unit = "[[unit]]\nname = \"web@\"\n";
        let shared = "[[probe]]\nkind = \"http\"\naddress = \"127.0.0.1:80\"\n";
        let own = "[[probe]]\nkind = \"tcp\"\naddress = \"127.0.0.1:{port}\"\n";
        let health = "[[probe]]\nkind = \"unix\"\npath = \"/run/slots/web/{instance}/health.sock\"\n";
        let fixed = "[[probe]]\nkind = \"unix\"\npath = \"/run/web.sock\"\n";
        for (text, words) in [
            (format!("{unit}{shared}"), ""),
            (format!("{unit}{fixed}"), ""),
            (
                format!("strategy = \"blue-green\"\n{unit}{fixed}"),
                "4: the probe unix /run/web.sock asks one socket of all instances",
            ),
            (format!("strategy = \"blue-green\"\n{unit}{health}"), ""),
            (
                format!("strategy = \"blue-green\"\n{unit}{shared}"),
                "6: the probe http http://127.0.0.1:80/health asks the shared",
            ),
            (format!("{unit}{health}[route]\naccept = \"signal\"\n"), ""),
            (
                format!("{unit}{shared}[route]\naccept = \"signal\"\n"),
                "5: the probe http http://127.0.0.1:80/health asks the shared socket, where a candidate accepts",
            ),
            (
                format!("strategy = \"blue-green\"\nswitch = \"manual\"\n{unit}{health}[route]\naccept = \"signal\"\n"),
                "",
            ),
            (format!("{unit}{own}"), "5: the probe tcp 127.0.0.1:{port} asks {port}, and with this route"),
            (
                format!("strategy = \"rolling\"\n{unit}overlap = false\n{health}"),
                "1: rolling starts new instances beside",
            ),
            (format!("switch = \"manual\"\n{unit}"), "1: a candidate can't wait for `promote` on this route"),
            (format!("strategy = \"blue-green\"\nswitch = \"manual\"\n{unit}[route]\nkind = \"none\"\n"), ""),
            (format!("strategy = \"rolling\"\npause_after = 1\nweight = 10\n{unit}"), "3: only HAProxy"),
            (
                format!("strategy = \"blue-green\"\n{unit}[soak]\nconfirm = true\n"),
                "5: what goes back unless confirmed",
            ),
            (format!("{unit}[soak]\nconfirm = true\n"), "4: `confirm` is waited for during the soak time"),
            (format!("strategy = \"rolling\"\nmax_surge = 0\n{unit}"), "1: max_surge and max_unavailable are both 0"),
            (format!("max_surge = 1\nstrategy = \"stop-start\"\n{unit}"), "1: stop-start is (0, N)"),
        ] {
            let said = refused(&text);
            assert!(if words.is_empty() { said.is_empty() } else { said.contains(words) }, "{text}\n{said}");
        }
    }
}
