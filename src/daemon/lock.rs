//! One daemon a state folder.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::durable;
use crate::model::{Code, Fault};

/// Held as long as the daemon runs; the kernel lets go of it even after SIGKILL.
pub struct Locked(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// Takes the lock, or says who is in the way.
pub fn take(state: &Path) -> Result<Locked, Fault> {
    durable::create_dir(state, 0o755).map_err(|error| error.fault())?;
    let path = state.join(".lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| Fault::new(Code::FsIo, format!("failed to open {}: {error}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map(Locked).map_err(|(_, errno)| {
        let message = match errno {
            nix::errno::Errno::EWOULDBLOCK => {
                format!("another slotd works on {}; see `systemctl status slotd`", state.display())
            }
            errno => format!("failed to lock {}: {errno}", path.display()),
        };
        Fault::new(Code::AlreadyRunning, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_a_later_one_is_not() {
        let state = tempfile::tempdir().expect("folder");
        let first = take(state.path()).expect("locked");
        assert_eq!(take(state.path()).map(drop).map_err(|fault| fault.code), Err(Code::AlreadyRunning));
        drop(first);
        assert!(take(state.path()).is_ok());
    }
}
