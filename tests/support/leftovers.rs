//! What a test may leave on its host: the live slots, and nothing of what was on the way to them.
//!
//! The checker asks the host and not slotd: processes, units, listeners, files. What is there for a reason follows from
//! `current` and the slots' records; everything else that is an app's is left over, and is told with its place.

mod look;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::world::World;
use look::Look;

/// How long what settles by itself may take: a prune, a unit on its way down.
const SETTLES: Duration = Duration::from_secs(20);

/// What can be left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process of an app that is no live instance's, or a worker of slotd's.
    Process,
    /// A unit that runs, waits or has failed and is none of the live slot's.
    Unit,
    /// Somebody who listens in an app's range, or a route that leads elsewhere.
    Port,
    /// Files that no slot names, or that are half made.
    Folder,
    /// A mark or a link of something that isn't under way.
    Mark,
    /// A deployment that was never closed.
    Intent,
}

/// One thing that is left: what, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    pub kind: Kind,
    pub what: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// What is left on the host now.
#[track_caller]
pub fn leftovers(world: &World) -> Vec<Left> {
    let mut left = Look::at(world).left();
    left.sort();
    left.dedup();
    left
}

/// Waits until nothing is left.
#[track_caller]
pub fn expect_nothing_left(world: &World) {
    super::wait_until("nothing to be left behind", SETTLES, || match leftovers(world) {
        left if left.is_empty() => Ok(()),
        left => Err(left.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    });
}

/// A world that is looked over at the end of its test.
pub struct Tidy(World);

impl Tidy {
    pub fn new(world: World) -> Tidy {
        Tidy(world)
    }
}

impl Deref for Tidy {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        // One that fails already tells its own reason.
        if !std::thread::panicking() {
            expect_nothing_left(&self.0);
        }
    }
}
