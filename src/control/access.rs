//! Who may do what: one pure decision over the peer's credentials.

/// A user's number.
pub type Uid = u32;

/// A group's number.
pub type Gid = u32;

/// What a request needs. Each right holds the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To look.
    Read,
    /// To change what runs.
    Operate,
}

/// The credentials of a connection's other end, as the kernel noted them when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creds {
    /// Effective user.
    pub uid: Uid,
    /// Effective group.
    pub gid: Gid,
}

/// Who beside root and slotd itself may use the socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Whose members may read; `None`: every local user may.
    pub read_group: Option<Gid>,
    /// Whose members may operate, and read; `None`: nobody else may.
    pub operate_group: Option<Gid>,
}

impl Access {
    /// Whether a peer with these credentials, whose user is in `groups`, has `right`. `own` is slotd's user.
    pub fn allows(&self, right: Right, creds: Creds, groups: &[Gid], own: Uid) -> bool {
        let in_group = |group: Gid| creds.gid == group || groups.contains(&group);
        if creds.uid == 0 || creds.uid == own || self.operate_group.is_some_and(in_group) {
            return true;
        }
        match right {
            Right::Read => self.read_group.is_none_or(in_group),
            Right::Operate => false,
        }
    }

    /// The most that such a peer may do.
    pub fn highest(&self, creds: Creds, groups: &[Gid], own: Uid) -> Option<Right> {
        [Right::Operate, Right::Read].into_iter().find(|right| self.allows(*right, creds, groups, own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Uid = 500;
    const READERS: Gid = 70;
    const OPERATORS: Gid = 80;
    const CLOSED: Access = Access { read_group: Some(READERS), operate_group: Some(OPERATORS) };

    fn ann(gid: Gid) -> Creds {
        Creds { uid: 1000, gid }
    }

    #[test]
    fn root_and_slotd_itself_always_may() {
        for access in [CLOSED, Access::default(), Access { read_group: Some(READERS), operate_group: None }] {
            for uid in [0, OWN] {
                assert_eq!(access.highest(Creds { uid, gid: 9 }, &[], OWN), Some(Right::Operate));
            }
        }
    }

    #[test]
    fn operators_may_read_and_readers_only_that() {
        assert_eq!(CLOSED.highest(ann(1000), &[1000, OPERATORS], OWN), Some(Right::Operate));
        assert!(CLOSED.allows(Right::Read, ann(1000), &[1000, OPERATORS], OWN));
        assert_eq!(CLOSED.highest(ann(1000), &[1000, READERS], OWN), Some(Right::Read));
        assert_eq!(CLOSED.highest(ann(1000), &[1000], OWN), None);
    }

    #[test]
    fn the_effective_group_counts_as_much_as_the_users_others() {
        assert_eq!(CLOSED.highest(ann(OPERATORS), &[], OWN), Some(Right::Operate));
        assert_eq!(CLOSED.highest(ann(READERS), &[], OWN), Some(Right::Read));
    }

    #[test]
    fn without_groups_everyone_reads_and_nobody_operates() {
        let open = Access::default();
        assert_eq!(open.highest(ann(1000), &[], OWN), Some(Right::Read));
        // Group 0 isn't user 0.
        assert_eq!(open.highest(ann(0), &[0], OWN), Some(Right::Read));
    }
}
