//! Ports of instances, where the route gives each one of its own.
//!
//! An instance on disk keeps the port that it has, unless that is outside of the range by now and nothing runs there. Another
//! one gets the lowest of its app's range that no instance of any app has, and that nobody listens on.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::durable::{self, read_bytes};
use crate::model::InstanceName;
use crate::model::route::{PortRange, port_of_env};

use super::error::SlotError;
use super::store::{ENV_FILE, SlotStore};

/// Longest environment file that is read for its port.
const MAX_ENV_BYTES: u64 = 4 << 20;

/// Held from the look at the ports that are taken until the chosen one stands in a file, by all apps of this daemon;
/// there is one daemon on a state folder.
static CHOOSING: Mutex<()> = Mutex::new(());

impl SlotStore {
    /// [`SlotStore::publish_instance`] with a `PORT` out of `ports`. `runs`: it keeps the one that it has in any case.
    pub fn publish_instance_with_port(
        &self,
        instance: &InstanceName,
        ports: PortRange,
        runs: bool,
    ) -> Result<bool, SlotError> {
        let _one_at_a_time = CHOOSING.lock().unwrap_or_else(PoisonError::into_inner);
        let port = match self.port(instance).filter(|port| runs || ports.contains(*port)) {
            Some(port) => port,
            None => {
                let taken = self.taken_ports()?;
                let chosen = choose(ports, &taken, is_free);
                chosen.ok_or_else(|| SlotError::NoPort { instance: instance.clone(), ports })?
            }
        };
        self.publish_instance(instance, &[("PORT".to_owned(), port.to_string())])
    }

    /// The ports of all instances below the state folder.
    fn taken_ports(&self) -> Result<BTreeSet<u16>, SlotError> {
        let failed = |path: &Path| SlotError::disk("look for ports in", path.display().to_string());
        let root = self.layout.root();
        let apps = durable::parent(&root);
        let mut taken = BTreeSet::new();
        for app in durable::names(apps).map_err(failed(apps))? {
            let instances = apps.join(app).join("instances");
            // What isn't a folder is no app.
            for instance in durable::names(&instances).unwrap_or_default() {
                let path = instances.join(instance).join(ENV_FILE);
                // One that is being removed has no port any more.
                if let Ok(Some(bytes)) = read_bytes(&path, MAX_ENV_BYTES) {
                    taken.extend(port_of_env(&String::from_utf8_lossy(&bytes)));
                }
            }
        }
        Ok(taken)
    }
}

/// The lowest of `ports` that isn't taken and is free. Pure but for `is_free`.
fn choose(ports: PortRange, taken: &BTreeSet<u16>, is_free: impl FnMut(&u16) -> bool) -> Option<u16> {
    ports.all().filter(|port| !taken.contains(port)).find(is_free)
}

/// Whether a listener of either family could be bound.
fn is_free(port: &u16) -> bool {
    let binds = |address: SocketAddr| match TcpListener::bind(address) {
        Ok(_) => true,
        // A host without IPv6.
        Err(error) => matches!(
            error.raw_os_error().map(nix::errno::Errno::from_raw),
            Some(nix::errno::Errno::EAFNOSUPPORT | nix::errno::Errno::EADDRNOTAVAIL)
        ),
    };
    binds((Ipv4Addr::LOCALHOST, *port).into()) && binds((Ipv6Addr::UNSPECIFIED, *port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(first, last).expect("a range")
    }

    #[test]
    fn the_lowest_that_nobody_has_is_chosen() {
        let taken = BTreeSet::from([20000, 20002]);
        assert_eq!(choose(range(20000, 20009), &BTreeSet::new(), |_| true), Some(20000));
        assert_eq!(choose(range(20000, 20009), &taken, |_| true), Some(20001));
        assert_eq!(choose(range(20000, 20009), &taken, |port| *port > 20003), Some(20004));
        assert_eq!(choose(range(20000, 20000), &taken, |_| true), None);
        assert_eq!(choose(range(20001, 20002), &taken, |_| false), None);
        assert_eq!(choose(range(65535, 65535), &taken, |_| true), Some(65535), "the last port there is");
    }

    #[test]
    fn what_somebody_listens_on_is_not_free() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().expect("an address").port();
            assert!(!is_free(&port), "{address}");
            drop(listener);
            assert!(is_free(&port), "{address}");
        }
    }
}
