//! Where connections come from: the listener that systemd hands over, or a port of its own, and the health socket.
//!
//! A port of its own is one of all addresses: where the kernel redirects the public port to it, a connection keeps the
//! address that it came to.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// The listeners of a running server.
#[derive(Debug)]
pub struct Listeners {
    traffic: TcpListener,
    /// Whether nobody else holds the listener open: what waits in it ends with this process.
    is_own: bool,
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
    #[error("no listener: systemd handed over none (LISTEN_FDS), and there is neither $PORT nor --port")]
    None,
    #[error("the listener that systemd handed over can't be used: {0}")]
    HandedOver(io::Error),
    #[error("can't listen on port {port}: {cause}")]
    Port { port: u16, cause: io::Error },
    #[error("can't listen on {path}: {cause}", path = .path.display())]
    Health { path: PathBuf, cause: io::Error },
}

impl Listeners {
    /// Opens all of them: `local_port` of 127.0.0.1, else what systemd hands over, else `own_port` of all addresses.
    pub fn open(
        local_port: Option<u16>,
        own_port: Option<u16>,
        health: Option<&Path>,
    ) -> Result<Listeners, ListenError> {
        let handed_over = if local_port.is_none() { handed_over()? } else { None };
        let is_own = handed_over.is_none();
        let traffic = match (local_port, handed_over, own_port) {
            (None, Some(listener), _) => listener,
            (Some(port), _, _) => bound(port, &[Ipv4Addr::LOCALHOST.into()])?,
            // The first is for IPv4 as well; a kernel without IPv6 knows only the second.
            (None, None, Some(port)) => bound(port, &[Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()])?,
            (None, None, None) => return Err(ListenError::None),
        };
        Ok(Listeners { traffic, is_own, health: health.map(HealthSocket::open).transpose()? })
    }

    /// The next connection, of the health socket alone unless `traffic` is taken. Nothing is lost where the future is
    /// dropped before it is ready.
    pub async fn accept(&self, traffic: bool) -> io::Result<Box<dyn Stream>> {
        let asked = async {
            match &self.health {
                Some(health) => health.listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.traffic.accept(), if traffic => accepted.map(|(stream, _)| of_traffic(stream)),
            accepted = asked => accepted.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>),
        }
    }
}

fn of_traffic(stream: TcpStream) -> Box<dyn Stream> {
    // Answers are whole when they are written: waiting for more only delays them, and nothing worse.
    let _ = stream.set_nodelay(true);
    Box::new(stream)
}

/// The first descriptor; `listenfd` sees to it that LISTEN_PID is this process.
fn handed_over() -> Result<Option<TcpListener>, ListenError> {
    let listener = ListenFd::from_env().take_tcp_listener(0).map_err(ListenError::HandedOver)?;
    listener.map(into_tokio).transpose().map_err(ListenError::HandedOver)
}

/// A listener on the first of the addresses that can be bound.
fn bound(port: u16, addresses: &[IpAddr]) -> Result<TcpListener, ListenError> {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let bound = std::net::TcpListener::bind(&addresses[..]).and_then(into_tokio);
    bound.map_err(|cause| ListenError::Port { port, cause })
}

fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

impl Listeners {
    /// Takes no more. What waits in a listener that systemd holds open stays there for whoever comes next; what waits in
    /// one of our own would be reset, and is given out.
    pub fn leave(self) -> Vec<Box<dyn Stream>> {
        let mut left = Vec::new();
        if let (true, Ok(listener)) = (self.is_own, self.traffic.into_std()) {
            while let Ok((stream, _)) = listener.accept() {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                left.extend(stream.map(of_traffic));
            }
        }
        left
    }
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
