//! HAProxy: fixed servers s1, s2 … of one backend get the instances' ports and weights.
//!
//! In the administrator's configuration they have weight 0 and no port that counts, so one that no instance has gets
//! nobody. What they are to be stands in a file in HAProxy's own format of server states, which it loads at each start and
//! reload; a running one is told over its runtime socket. The file first: a reload that begins later loads what is wanted.
//! One that had begun before may have read the old file: it is waited for before anybody is told, so that the new process is.
//!
//! A server keeps its port while it has weight 0, so that what is open goes on and can be counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::gate::systemctl::{Systemctl, SystemctlError};
use crate::gate::wait_for;
use crate::model::UnitName;
use crate::model::route::{RouteBackend, haproxy_columns};

use super::file;

/// The unit that runs it.
const UNIT: &str = "haproxy.service";

/// How long one answer of HAProxy may take; they take milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long a reload of HAProxy that is under way is waited for.
const RELOAD_LIMIT: Duration = Duration::from_secs(20);

/// How often a process is told anew because another one took its place meanwhile.
const ROUNDS: usize = 3;

/// Port of a server that never had one.
const NO_PORT: u16 = 1;

/// What HAProxy is to do for an app.
#[derive(Debug)]
pub struct Haproxy<'a> {
    /// The backend in its configuration.
    pub backend: &'a str,
    /// Its runtime socket, level admin.
    pub socket: &'a Path,
    /// How many servers the backend has.
    pub servers: u16,
    /// The file of server states.
    pub states: PathBuf,
    /// Whom users are sent to.
    pub backends: &'a [RouteBackend],
}

/// Why it doesn't do it.
#[derive(Debug, thiserror::Error)]
pub enum HaproxyError {
    /// The file of server states.
    #[error(transparent)]
    File(io::Error),
    /// The runtime socket.
    #[error("can't ask HAProxy at {}: {cause}", .socket.display())]
    Socket {
        /// Its path.
        socket: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The backend isn't there, or not with these servers.
    #[error("HAProxy's backend {backend} needs `server-template s 1-{servers} 127.0.0.1:1 weight 0`: {said}")]
    Servers {
        /// The backend.
        backend: String,
        /// How many.
        servers: u16,
        /// What HAProxy says.
        said: String,
    },
    /// All servers are in use.
    #[error(
        "{0} instances, and the backend has {1} servers, some of which still have users: give it more, and --servers"
    )]
    Full(usize, u16),
    /// It took the commands, and shows something else.
    #[error("HAProxy was told, and shows another state: {0}")]
    Differs(String),
    /// A reload that doesn't end.
    #[error("a reload of HAProxy has been under way for more than {}", humantime::format_duration(RELOAD_LIMIT))]
    Reloading,
    /// systemd doesn't say how HAProxy stands.
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
}

/// A server of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    port: u16,
    weight: u32,
    /// Its admin state; 0 is ready.
    admin: u32,
    /// Connections in use.
    used: u64,
}

/// The servers by their number.
type Servers = BTreeMap<u16, Server>;

impl Haproxy<'_> {
    /// Brings file and process to the set, and reads the process back. One that doesn't run will find its file.
    pub fn apply(&self, systemctl: &Systemctl) -> Result<(), HaproxyError> {
        let mut last = HaproxyError::Reloading;
        for _ in 0..ROUNDS {
            let Some(now) = self.look(systemctl)? else {
                let fresh = Server { port: NO_PORT, weight: 0, admin: 0, used: 0 };
                let wanted = self.wanted(&(1..=self.servers).map(|number| (number, fresh.clone())).collect())?;
                return self.write(&wanted);
            };
            let wanted = self.wanted(&now)?;
            self.write(&wanted)?;
            if was_reloading(systemctl)? {
                continue;
            }
            let commands = self.commands(&now, &wanted);
            if !commands.is_empty() {
                self.ask(&commands.join(";"))?;
            }
            last = match self.look(systemctl)?.map(|seen| self.compare(&seen, &wanted)) {
                // It may be another process by now than the one that was looked at first.
                Some(Err(differs)) => differs,
                // One that ended meanwhile will find its file.
                Some(Ok(())) | None => return Ok(()),
            };
        }
        Err(last)
    }

    /// The servers as the running process has them; `None` where none runs.
    fn look(&self, systemctl: &Systemctl) -> Result<Option<Servers>, HaproxyError> {
        let (states, connections) = match self.ask(&format!("show servers state {}", self.backend)) {
            Ok(states) => (states, self.ask(&format!("show servers conn {}", self.backend))?),
            Err(HaproxyError::Socket { socket, cause }) => {
                let gone = matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
                return match gone && !is_up(systemctl)? {
                    true => Ok(None),
                    false => Err(HaproxyError::Socket { socket, cause }),
                };
            }
            Err(error) => return Err(error),
        };
        let lacking = |said: &str| HaproxyError::Servers {
            backend: self.backend.to_owned(),
            servers: self.servers,
            said: said.to_owned(),
        };
        let states = haproxy_columns(&states, ["srv_name", "srv_port", "srv_uweight", "srv_admin_state"])
            .ok_or_else(|| lacking(states.trim()))?;
        let used: BTreeMap<u16, u64> = haproxy_columns(&connections, ["bkname/svname", "used_cur"])
            .ok_or_else(|| lacking(connections.trim()))?
            .into_iter()
            .filter_map(|[name, used]| Some((number(name.rsplit('/').next()?)?, used.parse().ok()?)))
            .collect();
        let server = |[name, port, weight, admin]: [&str; 4]| {
            let number = number(name)?;
            let used = used.get(&number).copied().unwrap_or_default();
            Some((
                number,
                Server { port: port.parse().ok()?, weight: weight.parse().ok()?, admin: admin.parse().ok()?, used },
            ))
        };
        let servers: Servers =
            states.into_iter().filter_map(server).filter(|(number, _)| *number <= self.servers).collect();
        match servers.len() == usize::from(self.servers) {
            true => Ok(Some(servers)),
            false => Err(lacking(&format!("{} of them are there", servers.len()))),
        }
    }

    /// Which server has which instance: who is there keeps his place, others get one that nobody uses.
    fn wanted(&self, now: &Servers) -> Result<Servers, HaproxyError> {
        let mut wanted = now.clone();
        wanted.values_mut().for_each(|server| server.weight = 0);
        let mut left = Vec::new();
        for backend in self.backends {
            let there = now.iter().find(|(_, server)| server.port == backend.port).map(|(number, _)| *number);
            match there.and_then(|number| wanted.get_mut(&number)) {
                Some(server) => (server.weight, server.admin) = (backend.weight, 0),
                None => left.push(backend),
            }
        }
        for backend in left {
            let free = |(_, server): &(&u16, &mut Server)| {
                server.weight == 0
                    && server.used == 0
                    && now.values().all(|it| it.port != server.port || it.weight == 0)
            };
            let (_, server) =
                wanted.iter_mut().find(free).ok_or(HaproxyError::Full(self.backends.len(), self.servers))?;
            *server = Server { port: backend.port, weight: backend.weight, admin: 0, used: 0 };
        }
        Ok(wanted)
    }

    /// What leads from one to the other: those that get users first, then those that get none any more.
    fn commands(&self, now: &Servers, wanted: &Servers) -> Vec<String> {
        let (mut raise, mut lower) = (Vec::new(), Vec::new());
        for (number, to) in wanted {
            let Some(from) = now.get(number) else { continue };
            let server = format!("set server {}/s{number}", self.backend);
            let commands = if to.weight == 0 { &mut lower } else { &mut raise };
            if to.weight > 0 && from.port != to.port {
                commands.push(format!("{server} addr 127.0.0.1 port {}", to.port));
            }
            if to.weight > 0 && from.admin != 0 {
                commands.push(format!("{server} state ready"));
            }
            if from.weight != to.weight {
                commands.push(format!("{server} weight {}", to.weight));
            }
        }
        raise.extend(lower);
        raise
    }

    fn compare(&self, seen: &Servers, wanted: &Servers) -> Result<(), HaproxyError> {
        for (number, to) in wanted {
            let is = seen.get(number);
            let same =
                is.is_some_and(|is| is.weight == to.weight && (to.weight == 0 || is.port == to.port && is.admin == 0));
            if !same {
                return Err(HaproxyError::Differs(format!("s{number} is {is:?}, and should be {to:?}")));
            }
        }
        Ok(())
    }

    /// The file that HAProxy loads, after `show servers state` (management guide, 9.3), version 1.
    fn write(&self, servers: &Servers) -> Result<(), HaproxyError> {
        let mut text = String::from(
            "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
             srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
             bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
             srv_agent_addr srv_agent_port\n",
        );
        for (number, Server { port, weight, .. }) in servers {
            // Up, ready, without checks; found by its name.
            let line = format!(
                "1 {} {number} s{number} 127.0.0.1 2 0 {weight} 0 1 1 0 2 0 0 0 0 - {port} - 0 0 - - 0",
                self.backend
            );
            // Into a string it can't fail.
            let _ = writeln!(text, "{line}");
        }
        file::replace(&self.states, &text).map_err(HaproxyError::File)
    }

    fn ask(&self, commands: &str) -> Result<String, HaproxyError> {
        let asked = || -> io::Result<String> {
            let mut socket = UnixStream::connect(self.socket)?;
            socket.set_read_timeout(Some(ANSWER_LIMIT))?;
            socket.set_write_timeout(Some(ANSWER_LIMIT))?;
            socket.write_all(format!("{commands}\n").as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().map_err(|cause| HaproxyError::Socket { socket: self.socket.to_owned(), cause })
    }
}

/// K of `sK`.
fn number(name: &str) -> Option<u16> {
    name.strip_prefix('s')?.parse().ok()
}

fn is_up(systemctl: &Systemctl) -> Result<bool, SystemctlError> {
    Ok(systemctl.show(&[UnitName::new(UNIT)])?.iter().any(|seen| seen.is_up()))
}

/// Whether a reload was at work, which has ended by now.
fn was_reloading(systemctl: &Systemctl) -> Result<bool, HaproxyError> {
    if !is_reloading(systemctl)? {
        return Ok(false);
    }
    let over = || match is_reloading(systemctl) {
        Ok(true) => None,
        other => Some(other),
    };
    wait_for(RELOAD_LIMIT, over).ok_or(HaproxyError::Reloading)??;
    Ok(true)
}

/// Whether a reload is at work. One that is only queued waits for this helper, and will read the new file.
fn is_reloading(systemctl: &Systemctl) -> Result<bool, SystemctlError> {
    Ok(systemctl.show(&[UnitName::new(UNIT)])?.iter().any(|seen| seen.active == "reloading"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str, port: u16, weight: u32) -> RouteBackend {
        RouteBackend { instance: name.parse().expect("an instance"), port, weight }
    }

    fn servers(list: &[(u16, u32, u64)]) -> Servers {
        let server =
            |(port, weight, used): &(u16, u32, u64)| Server { port: *port, weight: *weight, admin: 0, used: *used };
        (1u16..).zip(list.iter().map(server)).collect()
    }

    fn with<T>(backends: &[RouteBackend], servers: u16, look: impl Fn(Haproxy<'_>) -> T) -> T {
        let folder = tempfile::tempdir().expect("a folder");
        let (socket, states) = (folder.path().join("socket"), folder.path().join("web"));
        look(Haproxy { backend: "web", socket: &socket, servers, states, backends })
    }

    #[test]
    fn who_is_there_keeps_his_place_and_who_comes_gets_one_that_nobody_uses() {
        let now = servers(&[(20000, 1, 3), (20001, 0, 2), (20002, 0, 0), (1, 0, 0)]);
        for (backends, expected) in [
            (vec![backend("1", 20000, 1)], servers(&[(20000, 1, 3), (20001, 0, 2), (20002, 0, 0), (1, 0, 0)])),
            (vec![backend("3", 20003, 1)], servers(&[(20000, 0, 3), (20001, 0, 2), (20003, 1, 0), (1, 0, 0)])),
            (
                vec![backend("2", 20001, 10), backend("3", 20003, 5), backend("4", 20004, 5)],
                servers(&[(20000, 0, 3), (20001, 10, 2), (20003, 5, 0), (20004, 5, 0)]),
            ),
            (vec![], servers(&[(20000, 0, 3), (20001, 0, 2), (20002, 0, 0), (1, 0, 0)])),
        ] {
            assert_eq!(with(&backends, 4, |haproxy| haproxy.wanted(&now)).expect("places"), expected);
        }
        let many: Vec<RouteBackend> = (5..8).map(|n| backend(&n.to_string(), 20000 + n, 1)).collect();
        let error = with(&many, 4, |haproxy| haproxy.wanted(&now)).expect_err("full").to_string();
        assert!(error.contains("3 instances, and the backend has 4 servers"), "{error}");
        // Nor one that has users by its weight, though none is connected now.
        let live = servers(&[(20000, 1, 0)]);
        assert!(with(&[backend("9", 20009, 1)], 1, |haproxy| haproxy.wanted(&live)).is_err());
    }

    #[test]
    fn users_are_given_before_they_are_taken() {
        let mut now = servers(&[(20000, 1, 0), (1, 0, 0)]);
        now.get_mut(&2).expect("s2").admin = 1;
        let backends = [backend("2", 20001, 9)];
        let commands = with(&backends, 2, |haproxy| haproxy.commands(&now, &haproxy.wanted(&now).expect("places")));
        assert_eq!(
            commands,
            [
                "set server web/s2 addr 127.0.0.1 port 20001",
                "set server web/s2 state ready",
                "set server web/s2 weight 9",
                "set server web/s1 weight 0",
            ]
        );
        let same = servers(&[(20001, 9, 4), (1, 0, 0)]);
        assert!(
            with(&backends, 2, |haproxy| haproxy.commands(&same, &haproxy.wanted(&same).expect("places"))).is_empty()
        );
    }

    #[test]
    fn what_is_shown_is_compared() {
        let backends = [backend("2", 20001, 9)];
        with(&backends, 2, |haproxy| {
            let wanted = servers(&[(20001, 9, 0), (20000, 0, 0)]);
            assert!(haproxy.compare(&servers(&[(20001, 9, 7), (1, 0, 0)]), &wanted).is_ok());
            for other in [
                servers(&[(20001, 8, 0), (1, 0, 0)]),
                servers(&[(20002, 9, 0), (1, 0, 0)]),
                servers(&[(20001, 9, 0), (1, 1, 0)]),
                servers(&[(20001, 9, 0)]),
            ] {
                assert!(haproxy.compare(&other, &wanted).is_err(), "{other:?}");
            }
            haproxy.write(&wanted).expect("written");
            let text = std::fs::read_to_string(&haproxy.states).expect("a file");
            assert!(text.starts_with("1\n# be_id be_name"), "{text}");
            let line = "1 web 1 s1 127.0.0.1 2 0 9 0 1 1 0 2 0 0 0 0 - 20001 - 0 0 - - 0";
            assert!(text.lines().any(|it| it == line), "{text}");
            let columns = haproxy_columns(&text, ["srv_name", "srv_port", "srv_uweight"]).expect("columns");
            assert_eq!(columns, [["s1", "20001", "9"], ["s2", "20000", "0"]]);
        });
    }
}
