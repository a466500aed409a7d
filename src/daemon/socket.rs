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
            // Under systemd a socket unit whose file changed while it listened hands over nothing, and the sandbox lets
            // nobody else make the socket.
            let unable = |error: &dyn std::fmt::Display| {
                let message = format!("systemd handed over no socket, and {} can't be made: {error}", path.display());
                Fault::new(
                    Code::Internal,
                    format!("{message}; if slotd.socket is active: systemctl restart slotd.socket"),
                )
            };
            durable::remove_file(path).map_err(|error| unable(&error))?;
            let listener = std::os::unix::net::UnixListener::bind(path).map_err(|error| unable(&error))?;
            // Anybody may connect: the peer's credentials decide.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
                .map_err(|error| failed("open", &error))?;
            listener
        }
    };
    listener.set_nonblocking(true).map_err(|error| failed("use", &error))?;
    UnixListener::from_std(listener).map_err(|error| failed("use", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_made_over_one_that_was_left_and_where_none_can_be_the_next_command_is_told() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("slotd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("one that was left"));
        listener(&path).expect("made over it");
        let error = listener(&folder.path().join("absent/slotd.sock")).expect_err("no folder").to_string();
        assert!(error.contains("systemctl restart slotd.socket"), "{error}");
    }
}
