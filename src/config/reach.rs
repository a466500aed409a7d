//! How users reach an app, as one piece: the route, the address that they call, the checks that ask there, and what of the
//! strategy the route has to be able to.
//!
//! Users are never sent another way in passing. So a slot has beside it by which way they come while it is live, and where
//! the settings say another one, all of this stays as it was until an operator has the way changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Template;
use crate::model::deployment::Reroute;
use crate::model::route::PortRange;

use super::app::{AppSettings, Outside, Probe, Route, Soak, Strategy};

/// It; `slots/SLOT/route.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// `[route]`.
    pub route: Route,
    /// `[outside]`, or what is assumed for it.
    pub outside: Option<Outside>,
    /// The checks, by unit.
    pub probes: BTreeMap<Template, Vec<Probe>>,
    /// The keys of the strategy.
    pub strategy: Strategy,
    /// `[soak]`.
    pub soak: Soak,
}

/// Sections and keys of the settings that belong to it.
const KEYS: [&str; 9] =
    ["route", "outside", "probe", "strategy", "max_surge", "max_unavailable", "pause_after", "weight", "switch"];

/// The way itself: what can't be another without users noticing.
#[derive(PartialEq)]
struct Way<'a> {
    kind: &'static str,
    port: Option<u16>,
    backend: Option<&'a str>,
    ports: Option<PortRange>,
}

impl Reach {
    /// That of these settings.
    pub fn of(settings: &AppSettings) -> Self {
        let AppSettings { route, outside, probes, strategy, soak, .. } = settings;
        Reach {
            route: route.clone(),
            outside: outside.clone(),
            probes: probes.clone(),
            strategy: *strategy,
            soak: *soak,
        }
    }

    /// Whether users come the same way by both. An address that nobody knew before, or knows no more, is no other one.
    pub fn leads_as(&self, other: &Reach) -> bool {
        self.way() == other.way() && !self.is_called_elsewhere(other)
    }

    /// Why users can't be moved from `self` to `other` while the app serves; `None` if they can.
    pub fn refused_live(&self, other: &Reach) -> Option<String> {
        let (from, to) = (self.way(), other.way());
        let why = match () {
            () if from.kind != to.kind => format!("a {} can't take users over from a {}", to.noun(), from.noun()),
            () if from.backend != to.backend => "a helper leads to one backend of HAProxy".to_owned(),
            () => return None,
        };
        Some(format!("{why} while the app serves: nobody could see that all have moved, nor lead them back"))
    }

    /// What contradicts itself in a change to `other`: users are to be asked for at a port of this host that ends with it.
    pub fn contradicts(&self, other: &Reach) -> Option<String> {
        let ends = self.public().filter(|port| other.public() != Some(*port))?;
        let address = other.outside.as_ref().and_then(Outside::address)?;
        let (host, port) = address.rsplit_once(':')?;
        let here = host.starts_with("127.") || host == "localhost" || host == "[::1]";
        (here && port == ends.to_string())
            .then(|| format!("[outside] says that users call {address}, and port {ends} ends with this change"))
    }

    /// The change from `self` to `other`, in words.
    pub fn to(&self, other: &Reach) -> Reroute {
        // Where it isn't the same is told.
        let ranges = self.way().ports != other.way().ports;
        Reroute { from: self.text(ranges), to: other.text(ranges) }
    }

    /// `HOST:PORT` or the port that users call, as far as it is known.
    pub fn address(&self) -> Option<String> {
        match self.route {
            Route::Nftables { port, .. } => Some(format!("port {port}")),
            _ => self.outside.as_ref().and_then(Outside::address).map(str::to_owned),
        }
    }

    /// The port that the kernel redirects, if it does.
    pub fn public(&self) -> Option<u16> {
        self.way().port
    }

    fn text(&self, with_ranges: bool) -> String {
        let Way { kind, backend, ports, .. } = self.way();
        let backend = backend.map(|backend| format!("backend {backend}"));
        let range = ports.filter(|_| with_ranges).map(|ports| format!("instances at {ports}"));
        let parts = [Some(kind.to_owned()), backend, self.address(), range];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn way(&self) -> Way<'_> {
        let kind = self.route.as_str();
        let (port, backend) = match &self.route {
            Route::Nftables { port, .. } => (Some(*port), None),
            Route::Haproxy { backend, .. } => (None, Some(backend.as_str())),
            Route::None | Route::Socket { .. } | Route::Nginx { .. } => (None, None),
        };
        Way { kind, port, backend, ports: self.route.ports().map(|ports| ports.range) }
    }

    fn is_called_elsewhere(&self, other: &Reach) -> bool {
        let address = |reach: &Reach| reach.outside.as_ref().and_then(Outside::address).map(str::to_owned);
        address(self).zip(address(other)).is_some_and(|(from, to)| from != to)
    }
}

impl Way<'_> {
    fn noun(&self) -> String {
        match self.kind {
            "none" => "way that is not slotd's business".to_owned(),
            kind => format!("route {kind:?}"),
        }
    }
}

impl AppSettings {
    /// The settings that are in force while users come by `kept`: as set, but if that would be another way, it waits.
    #[must_use]
    pub fn by(self, kept: Option<Reach>) -> Self {
        let set = self.as_set();
        let reach = Reach::of(&set);
        match kept.filter(|kept| !kept.leads_as(&reach)) {
            Some(kept) => AppSettings { waits: Some(Box::new(reach)), ..set.reached_by(kept) },
            None => set,
        }
    }

    /// These settings, but users come by `reach`.
    #[must_use]
    pub fn reached_by(self, reach: Reach) -> Self {
        let Reach { route, outside, probes, strategy, soak } = reach;
        AppSettings { route, outside, probes, strategy, soak, ..self }
    }

    /// What is set, whatever waits of it.
    #[must_use]
    pub fn as_set(&self) -> Self {
        match self.waits.as_deref().cloned() {
            Some(reach) => AppSettings { waits: None, ..self.clone() }.reached_by(reach),
            None => self.clone(),
        }
    }

    /// The change of the way that waits, in words.
    pub fn reroute(&self) -> Option<Reroute> {
        self.waits.as_ref().map(|set| Reach::of(self).to(set))
    }

    /// Why users can't be moved to that while the app serves, if they can't.
    pub fn refused_live(&self) -> Option<String> {
        Reach::of(self).refused_live(self.waits.as_deref()?)
    }

    /// What contradicts itself in that.
    pub fn contradicts(&self) -> Option<String> {
        Reach::of(self).contradicts(self.waits.as_deref()?)
    }

    /// Whether a change of this key waits with the way.
    pub fn waits_with_the_way(&self, key: &str) -> bool {
        let section = key.split('.').next().unwrap_or_default();
        self.waits.is_some() && (KEYS.contains(&section) || section == "soak")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(text: &str) -> AppSettings {
        let text = format!("{text}\n[[unit]]\nname = \"web@\"\n");
        let name = "web".parse().expect("a name");
        crate::config::parse_app(&name, Path::new("web.toml"), &text, &Default::default()).expect("settings")
    }

    fn nftables(rest: &str) -> String {
        format!("[route]\nkind = \"nftables\"\n{rest}\n[[probe]]\nkind = \"tcp\"\naddress = \"127.0.0.1:{{port}}\"")
    }

    #[test]
    fn a_record_comes_back() {
        for text in [
            nftables("port = 80\ndrain = \"3s\""),
            format!("strategy = \"rolling\"\n{}\n[soak]\ntime = \"5s\"\nconfirm = true", nftables("port = 80")),
            "[[probe]]\nkind = \"http\"\naddress = \"127.0.0.1:8080\"\npath = \"/h\"\nbody = \"{version}\"".to_owned(),
            "[route]\naccept = \"signal\"\n[[probe]]\nkind = \"http\"\naddress = \"unix:{HEALTH_SOCKET}\"\npath = \"/\""
                .replace("{HEALTH_SOCKET}", "/run/slots/web/{instance}/health.sock"),
            "[route]\nkind = \"haproxy\"\nbackend = \"web\"\n[outside]\naddress = \"127.0.0.1:80\"".to_owned(),
            "[route]\nkind = \"none\"".to_owned(),
        ] {
            let reach = Reach::of(&settings(&text));
            let json = serde_json::to_string(&reach).expect("JSON");
            assert_eq!(serde_json::from_str::<Reach>(&json).expect(&json), reach, "{json}");
        }
    }

    #[test]
    fn another_way_waits_with_all_that_belongs_to_it_and_nothing_else_does() {
        let before = Reach::of(&settings(&nftables("port = 80")));
        let text = format!("strategy = \"rolling\"\n{}\n[retention]\nkeep = 2", nftables("port = 81"));
        let by = settings(&text).by(Some(before.clone()));
        assert_eq!(Reach::of(&by), before);
        assert_eq!(by.retention.keep, 2);
        assert_eq!(by.as_set(), settings(&text));
        let told = by.reroute().expect("it waits");
        assert_eq!((told.from.as_str(), told.to.as_str()), ("nftables, port 80", "nftables, port 81"));
        assert!(by.waits_with_the_way("strategy") && by.waits_with_the_way("probe.web@.1"));
        assert!(!by.waits_with_the_way("retention.keep") && !by.waits_with_the_way("env.A"));
        // Once it is changed nothing waits; and what is set back waits for nobody.
        let after = Reach::of(&by.as_set());
        assert_eq!(by.clone().by(Some(after)), settings(&text));
        let back = AppSettings { waits: None, ..settings(&nftables("port = 80")) };
        assert_eq!(back.clone().by(Some(before)), back);
    }

    #[test]
    fn what_leads_users_elsewhere() {
        let reach = |text: &str| Reach::of(&settings(text));
        let port = reach(&nftables("port = 80"));
        for (same, is_same) in
            [("port = 80\ndrain = \"1s\"", true), ("port = 81", false), ("port = 80\nports = \"21000-21999\"", false)]
        {
            assert_eq!(port.leads_as(&reach(&nftables(same))), is_same, "{same}");
        }
        let called = |address: &str| reach(&format!("[outside]\naddress = \"{address}\""));
        assert!(!called("127.0.0.1:80").leads_as(&called("127.0.0.1:81")));
        assert!(called("127.0.0.1:80").leads_as(&reach("")), "nobody knew it");
        assert!(!port.leads_as(&reach("")));
        assert_eq!(port.refused_live(&reach(&nftables("port = 81"))), None);
        let outside = |address: &str| {
            let text = nftables("port = 81") + &format!("\n[outside]\naddress = \"{address}\"");
            port.contradicts(&reach(&text))
        };
        assert_eq!(port.contradicts(&reach(&nftables("port = 81"))), None);
        assert_eq!((outside("127.0.0.1:81"), outside("example.net:80")), (None, None));
        assert!(outside("localhost:80").is_some_and(|why| why.ends_with("port 80 ends with this change")));
        let why = port.refused_live(&reach("")).expect("refused");
        assert!(why.starts_with("a route \"socket\" can't take users over from a route \"nftables\""), "{why}");
        let haproxy = |name: &str| reach(&format!("[route]\nkind = \"haproxy\"\nbackend = \"{name}\""));
        assert!(haproxy("a").refused_live(&haproxy("b")).is_some());
        let range = port.to(&reach(&nftables("port = 80\nports = \"21000-21999\"")));
        assert_eq!(range.to, "nftables, port 80, instances at 21000-21999");
    }
}
