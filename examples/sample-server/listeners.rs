//! Where connections come from: the listener that systemd hands over, or a port of its own, and the health socket.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// The listeners of a running server.
#[derive(Debug)]
pub struct Listeners {
    traffic: TcpListener,
    health: Option<HealthSocket>,
}

/// A Unix socket whose path goes when the server goes.
#[derive(Debug)]
struct HealthSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// An accepted connection, whatever its kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("no listener: systemd handed over none (LISTEN_FDS), and there is neither --port nor PORT")]
    None,
    #[error("the listener that systemd handed over can't be used: {0}")]
    HandedOver(io::Error),
    #[error("can't listen on port {port}: {cause}")]
    Port { port: u16, cause: io::Error },
    #[error("can't listen on {path}: {cause}", path = .path.display())]
    Health { path: PathBuf, cause: io::Error },
}

impl Listeners {
    /// Opens all of them.
    pub fn open(port: Option<u16>, own: Option<u16>, health: Option<&Path>) -> Result<Listeners, ListenError> {
        let local = port.map(|port| (port, SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        // Users elsewhere are redirected to the address that they called, of either family.
        let own = own.map(|port| (port, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))));
        let traffic = match local.or(own) {
            Some((port, address)) => std::net::TcpListener::bind(address)
                .and_then(into_tokio)
                .map_err(|cause| ListenError::Port { port, cause })?,
            None => handed_over()?,
        };
        Ok(Listeners { traffic, health: health.map(HealthSocket::open).transpose()? })
    }

    /// The next connection. Nothing is lost where the future is dropped before it is ready.
    pub async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let asked = async {
            match &self.health {
                Some(health) => health.listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.traffic.accept() => {
                let (stream, _) = accepted?;
                // Answers are whole when they are written: waiting for more only delays them, and nothing worse.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            accepted = asked => accepted.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>),
        }
    }
}

/// The first descriptor; `listenfd` sees to it that LISTEN_PID is this process.
fn handed_over() -> Result<TcpListener, ListenError> {
    let listener = ListenFd::from_env().take_tcp_listener(0).map_err(ListenError::HandedOver)?;
    into_tokio(listener.ok_or(ListenError::None)?).map_err(ListenError::HandedOver)
}

fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

impl HealthSocket {
    fn open(path: &Path) -> Result<HealthSocket, ListenError> {
        let failed = |cause| ListenError::Health { path: path.to_owned(), cause };
        // A run that was killed leaves its path behind, and nobody listens there.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        Ok(HealthSocket { listener: UnixListener::bind(path).map_err(failed)?, path: path.to_owned() })
    }
}

impl Drop for HealthSocket {
    fn drop(&mut self) {
        // systemd empties the runtime folder anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.traffic.local_addr() {
            Ok(address) => write!(f, "{address}")?,
            Err(error) => write!(f, "a socket without an address ({error})")?,
        }
        match &self.health {
            Some(health) => write!(f, " and {}", health.path.display()),
            None => Ok(()),
        }
    }
}
