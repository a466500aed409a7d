//! Who listens on a Unix socket: an answer proves something only about the unit that gave it.
//!
//! The kernel keeps with a listener the process that called listen(2) (unix(7), SO_PEERCRED), and systemd has each unit in
//! a cgroup of the unit's name. Where the process can't be found, or isn't in a unit of the same template, nothing is said:
//! systemd may hold the listener for the instance, or a program beside it may answer for it.

use tokio::net::UnixStream;

use crate::model::UnitName;

/// The unit that listens at the other end, if that is another instance of `unit`'s template.
pub(super) fn other_instance(stream: &UnixStream, unit: &UnitName) -> Option<String> {
    let pid = stream.peer_cred().ok()?.pid()?;
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    instance_in(&cgroup, unit)
}

/// The same of what /proc/PID/cgroup says (cgroups(7)).
fn instance_in(cgroup: &str, unit: &UnitName) -> Option<String> {
    let template = unit.as_str().split_once('@')?.0;
    let is_instance =
        |name: &str| name.split_once('@').is_some_and(|(of, _)| of == template) && name.ends_with(".service");
    let names: Vec<&str> = cgroup.lines().flat_map(|line| line.split('/')).filter(|name| is_instance(name)).collect();
    let own = names.iter().any(|name| **name == *unit.as_str());
    if own { None } else { names.first().map(|name| (*name).to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_instance_of_the_template_is_told_from_ones_own_and_from_strangers() {
        let unit = UnitName::new("web@2.0.0.service");
        for (cgroup, other) in [
            ("0::/system.slice/system-web.slice/web@2.0.0.service\n", None),
            ("0::/system.slice/system-web.slice/web@2.0.0.service/workers\n", None),
            ("0::/system.slice/system-web.slice/web@1.0.0.service\n", Some("web@1.0.0.service")),
            ("0::/system.slice/system-web.slice/web@2.0.0@2.service\n", Some("web@2.0.0@2.service")),
            ("1:name=systemd:/web@1.0.0.service/workers\n0::/web@1.0.0.service\n", Some("web@1.0.0.service")),
            ("0::/system.slice/system-worker.slice/worker@1.0.0.service\n", None),
            ("0::/system.slice/nginx.service\n", None),
            ("0::/init.scope\n", None),
            ("", None),
        ] {
            assert_eq!(instance_in(cgroup, &unit).as_deref(), other, "{cgroup}");
        }
    }
}
