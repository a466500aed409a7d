//! The groups of the settings as the numbers that the control socket decides by.

use nix::unistd::Group;

use crate::config::daemon::Access as Named;
use crate::control::access::Access;

/// A group that doesn't exist lets nobody in: it is told, and root can still do all.
pub fn of(named: &Named) -> Access {
    Access { read_group: Some(number(&named.read_group)), operate_group: Some(number(&named.operate_group)) }
}

/// A number that is no group's: the kernel keeps it for "none".
const NOBODY: u32 = u32::MAX;

fn number(name: &str) -> u32 {
    match Group::from_name(name) {
        Ok(Some(group)) => group.gid.as_raw(),
        Ok(None) => {
            tracing::warn!("there is no group {name}: only root and slotd's own user have its rights");
            NOBODY
        }
        Err(error) => {
            tracing::warn!("group {name} can't be looked up: {error}");
            NOBODY
        }
    }
}
