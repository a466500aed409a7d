//! Who is at the other end: credentials typed at accept, and what the user database says of them.
//!
//! Never a PID: it can name another process by the time that it is looked at.

use std::ffi::CString;
use std::time::Duration;

use nix::unistd::{Gid as NixGid, Uid as NixUid, User, geteuid, getgrouplist};
use tokio::net::UnixStream;

use crate::model::Code;

use super::access::{Access, Creds, Gid, Right};
use super::api::ApiError;
use super::service::Caller;

/// For the user database, which may lie on another host; past it a peer has its effective group only.
const LOOKUP: Duration = Duration::from_secs(2);

/// A connection's other end, and the most that it may do.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is.
    pub caller: Caller,
    highest: Option<Right>,
}

impl Peer {
    /// Looks up whose the credentials are and decides once for the connection.
    pub async fn of(creds: Creds, access: Access) -> Peer {
        let looked_up = tokio::task::spawn_blocking(move || look_up(creds));
        let (name, groups) = match tokio::time::timeout(LOOKUP, looked_up).await {
            Ok(Ok(Some(found))) => found,
            _ => (format!("uid {}", creds.uid), Vec::new()),
        };
        let highest = access.highest(creds, &groups, geteuid().as_raw());
        Peer { caller: Caller { uid: creds.uid, name }, highest }
    }

    /// Refuses what this peer may not do.
    pub fn need(&self, right: Right) -> Result<(), ApiError> {
        if self.highest.is_some_and(|highest| highest >= right) {
            return Ok(());
        }
        let Caller { uid, name } = &self.caller;
        let what = match right {
            Right::Read => "read slotd's state",
            Right::Operate => "change what slotd runs",
        };
        Err(ApiError::new(
            Code::AuthDenied,
            format!("{name} (uid {uid}) may not {what}: that is for root and the groups that slotd.toml names"),
        ))
    }
}

/// The credentials that the kernel noted when `stream` was connected.
pub fn credentials(stream: &UnixStream) -> std::io::Result<Creds> {
    let seen = stream.peer_cred()?;
    Ok(Creds { uid: seen.uid(), gid: seen.gid() })
}

/// The user's name and groups; `None` where the database doesn't know the user.
fn look_up(creds: Creds) -> Option<(String, Vec<Gid>)> {
    let user = User::from_uid(NixUid::from_raw(creds.uid)).ok().flatten()?;
    let name = CString::new(user.name.as_str()).ok()?;
    let groups = getgrouplist(&name, user.gid).unwrap_or_default();
    Some((user.name, groups.into_iter().map(NixGid::as_raw).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_user_without_a_name_is_called_by_number() {
        let peer = Peer::of(Creds { uid: 3_999_999_999, gid: 3_999_999_999 }, Access::default()).await;
        assert_eq!(peer.caller.name, "uid 3999999999");
        assert!(peer.need(Right::Read).is_ok());
        let refusal = peer.need(Right::Operate).expect_err("refused");
        assert_eq!(refusal.fault.code, Code::AuthDenied);
    }

    #[tokio::test]
    async fn groups_come_from_the_user_database() {
        // Debian's and everyone's user 0 is in group 0; the effective group given here is not.
        let (name, groups) = look_up(Creds { uid: 0, gid: 12345 }).expect("root is known");
        assert_eq!(name, "root");
        assert!(groups.contains(&0));
    }
}
