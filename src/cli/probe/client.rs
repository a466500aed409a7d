//! A client that speaks HTTP/1.1 by hand: half a request, the rest later, and what exactly became of it.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take. An answer that takes longer is none for whoever waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read: none of them matters but its end.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// A connection.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<Socket>,
    /// The client's own address, of a connection over TCP.
    pub address: Option<SocketAddr>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether the next request may come by the same connection.
    pub keeps: bool,
}

/// Why nothing came back.
#[derive(Debug)]
pub enum Trouble {
    /// There is nobody.
    Refused(io::Error),
    /// It ended before an answer, or in the middle of one.
    Closed,
    /// It was reset: whatever was on its way is lost.
    Reset,
    /// Nothing within [`ANSWER_LIMIT`].
    Silent,
    /// Not HTTP.
    Garbled(String),
}

impl Client {
    /// Connects over TCP.
    pub fn tcp(address: SocketAddr) -> Result<Client, Trouble> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).map_err(Trouble::Refused)?;
        let address = stream.local_addr().ok();
        Client::new(Socket::Tcp(stream), address)
    }

    /// Connects to a Unix socket.
    pub fn unix(path: &Path) -> Result<Client, Trouble> {
        Client::new(Socket::Unix(UnixStream::connect(path).map_err(Trouble::Refused)?), None)
    }

    fn new(socket: Socket, address: Option<SocketAddr>) -> Result<Client, Trouble> {
        let limit = Some(ANSWER_LIMIT);
        let limited = match &socket {
            Socket::Tcp(stream) => stream.set_read_timeout(limit),
            Socket::Unix(stream) => stream.set_read_timeout(limit),
        };
        limited.map_err(Trouble::Refused)?;
        Ok(Client { reader: BufReader::new(socket), address })
    }

    /// Sends a request and reads the answer.
    pub fn ask(&mut self, path: &str) -> Result<Answer, Trouble> {
        self.begin(path)?;
        self.finish()
    }

    /// Sends half a request.
    pub fn begin(&mut self, path: &str) -> Result<(), Trouble> {
        self.send(&format!("GET {path} HTTP/1.1\r\nUser-Agent: slotctl-pr"))
    }

    /// Sends the other half, and reads the answer.
    pub fn finish(&mut self) -> Result<Answer, Trouble> {
        self.send("obe\r\nHost: localhost\r\n\r\n")?;
        self.answer()
    }

    fn send(&mut self, text: &str) -> Result<(), Trouble> {
        self.reader.get_mut().write_all(text.as_bytes()).map_err(Trouble::of)
    }

    fn answer(&mut self) -> Result<Answer, Trouble> {
        let first = self.line()?;
        let (version, rest) = first.split_once(' ').unwrap_or_default();
        let status = rest.split(' ').next().and_then(|status| status.parse().ok());
        let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
            return Err(Trouble::Garbled(first));
        };
        let (mut keeps, mut length, mut chunked) = (version != "HTTP/1.0", None, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':').map(|(name, value)| (name, value.trim())) else { break };
            match name {
                "connection" => keeps = value.contains("keep-alive") || keeps && !value.contains("close"),
                "content-length" => length = value.parse::<u64>().ok(),
                "transfer-encoding" => chunked = value.contains("chunked"),
                _ => {}
            }
        }
        match (chunked, length) {
            (true, _) => self.chunks()?,
            (false, Some(length)) => self.skip(length)?,
            (false, None) if status == 204 || status == 304 => {}
            // Its end is the connection's.
            (false, None) => {
                keeps = false;
                io::copy(&mut self.reader.by_ref().take(MAX_BODY_BYTES), &mut io::sink()).map_err(Trouble::of)?;
            }
        }
        Ok(Answer { status, keeps })
    }

    fn chunks(&mut self) -> Result<(), Trouble> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
            match size {
                None => return Err(Trouble::Garbled(line)),
                Some(0) => break,
                Some(size) => self.skip(size)?,
            }
            self.line()?;
        }
        while !self.line()?.is_empty() {}
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Trouble> {
        let wanted = bytes.min(MAX_BODY_BYTES);
        let read = io::copy(&mut self.reader.by_ref().take(wanted), &mut io::sink()).map_err(Trouble::of)?;
        if read == wanted { Ok(()) } else { Err(Trouble::Closed) }
    }

    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = Vec::new();
        self.reader.by_ref().take(64 * 1024).read_until(b'\n', &mut line).map_err(Trouble::of)?;
        match line.ends_with(b"\n") {
            true => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            false => Err(Trouble::Closed),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.flush(),
            Socket::Unix(stream) => stream.flush(),
        }
    }
}

impl Trouble {
    fn of(error: io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Trouble::Reset,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Silent,
            ErrorKind::UnexpectedEof => Trouble::Closed,
            _ => Trouble::Garbled(error.to_string()),
        }
    }
}

/// What is seen, as the end of a sentence about the request or the connection.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(error) => write!(f, "no connection: {error}"),
            Trouble::Closed => f.write_str("closed without a whole answer"),
            Trouble::Reset => f.write_str("reset"),
            Trouble::Silent => write!(f, "no answer within {}", humantime::format_duration(ANSWER_LIMIT)),
            Trouble::Garbled(text) => write!(f, "no HTTP: {text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What a client makes of these bytes, after which the connection ends.
    fn read(answer: &'static [u8]) -> Result<Answer, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let mut got = 0;
            while !request[..got].ends_with(b"\r\n\r\n") {
                got += stream.read(&mut request[got..]).expect("a request");
            }
            stream.write_all(answer).expect("sent");
        });
        let answer = Client::tcp(address).and_then(|mut client| client.ask("/")).map_err(|trouble| trouble.to_string());
        server.join().expect("no panic");
        answer
    }

    #[test]
    fn answers_of_all_kinds_end_where_they_end() {
        let answer = |status, keeps| Ok(Answer { status, keeps });
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), answer(200, true));
        assert_eq!(read(b"HTTP/1.1 503 No\r\nconnection: Close\r\nContent-Length: 0\r\n\r\n"), answer(503, false));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nas long as it lasts"), answer(200, false));
        assert_eq!(read(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), answer(200, false));
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nTrailer: 1\r\n\r\n"),
            answer(200, true)
        );
        let cut: [&[u8]; 4] = [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        ];
        for cut in cut {
            assert_eq!(read(cut), Err("closed without a whole answer".to_owned()), "{}", String::from_utf8_lossy(cut));
        }
        assert_eq!(read(b"SSH-2.0-x\r\n"), Err("no HTTP: \"SSH-2.0-x\"".to_owned()));
    }
}
