//! How many connections there are, in all and by user. A seat is given back when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Code;

use super::access::Uid;
use super::api::ApiError;
use super::limits::Limits;

/// All seats.
#[derive(Debug, Clone)]
pub struct Seats {
    limits: Limits,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_uid: HashMap<Uid, usize>,
    refusals: usize,
}

/// A connection that counts.
#[derive(Debug)]
pub struct Seat {
    taken: Arc<Mutex<Taken>>,
    of: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Served(Uid),
    Refused,
}

impl Seats {
    /// Empty ones.
    pub fn new(limits: Limits) -> Self {
        Seats { limits, taken: Arc::default() }
    }

    /// A seat for `uid`, or why there is none.
    pub fn take(&self, uid: Uid) -> Result<Seat, ApiError> {
        let Limits { connections, connections_by_uid, connections_for_root, .. } = self.limits;
        let mut taken = lock(&self.taken);
        let all = if uid == 0 { connections + connections_for_root } else { connections };
        if taken.all >= all {
            return Err(ApiError::new(Code::RequestBusy, format!("slotd serves {} connections already", taken.all)));
        }
        let own = taken.by_uid.entry(uid).or_default();
        if *own >= connections_by_uid {
            let message = format!("uid {uid} has {own} connections to slotd already");
            return Err(ApiError::new(Code::RequestBusy, message));
        }
        *own += 1;
        taken.all += 1;
        Ok(Seat { taken: Arc::clone(&self.taken), of: Kind::Served(uid) })
    }

    /// A seat in which to be refused, if one is left.
    pub fn take_refusal(&self) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        (taken.refusals < self.limits.refusals).then(|| {
            taken.refusals += 1;
            Seat { taken: Arc::clone(&self.taken), of: Kind::Refused }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        match self.of {
            Kind::Refused => taken.refusals -= 1,
            Kind::Served(uid) => {
                taken.all -= 1;
                if let Some(own) = taken.by_uid.get_mut(&uid) {
                    *own -= 1;
                    if *own == 0 {
                        taken.by_uid.remove(&uid);
                    }
                }
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats() -> Seats {
        let few =
            Limits { connections: 3, connections_by_uid: 2, connections_for_root: 1, refusals: 1, ..Limits::default() };
        Seats::new(few)
    }

    #[test]
    fn one_user_cannot_take_the_seats_of_others() {
        let seats = seats();
        let (_a, b) = (seats.take(7).expect("first"), seats.take(7).expect("second"));
        assert_eq!(seats.take(7).expect_err("third").fault.code, Code::RequestBusy);
        let other = seats.take(8).expect("another user's");
        drop(b);
        drop(other);
        seats.take(7).expect("given back");
    }

    #[test]
    fn the_last_seats_are_roots() {
        let seats = seats();
        let _taken = [seats.take(7), seats.take(8), seats.take(9)].map(|seat| seat.expect("seat"));
        assert!(seats.take(10).is_err());
        let _root = seats.take(0).expect("root's");
        assert!(seats.take(0).is_err());
    }

    #[test]
    fn refusals_are_counted_by_themselves() {
        let seats = seats();
        let one = seats.take_refusal().expect("one");
        assert!(seats.take_refusal().is_none());
        drop(one);
        assert!(seats.take_refusal().is_some());
        assert!(lock(&seats.taken).by_uid.is_empty());
    }
}
