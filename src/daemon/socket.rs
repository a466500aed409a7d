//! The control socket: handed over by systemd, or made here.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use listenfd::ListenFd;
use tokio::net::UnixListener;

use crate::durable;
use crate::model::{Code, Fault};

/// The listener that systemd handed over, else a new one at `path`. The lock on the state is held by now, so a socket
/// that lies there belongs to nobody.
pub fn listener(path: &Path) -> Result<UnixListener, Fault> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Fault::new(Code::Internal, format!("failed to {what} {}: {error}", path.display()))
    };
    let handed = ListenFd::from_env().take_unix_listener(0).map_err(|error| failed("take over", &error))?;
    let listener = match handed {
        Some(listener) => listener,
        None => {
            durable::remove_file(path).map_err(|error| error.fault())?;
            let listener = std::os::unix::net::UnixListener::bind(path).map_err(|error| failed("listen on", &error))?;
            // Anybody may connect: the peer's credentials decide.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
                .map_err(|error| failed("open", &error))?;
            listener
        }
    };
    listener.set_nonblocking(true).map_err(|error| failed("use", &error))?;
    UnixListener::from_std(listener).map_err(|error| failed("use", &error))
}
