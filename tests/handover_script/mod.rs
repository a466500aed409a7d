//! A server that plays a script: what each connection gets for its requests, up to a reset.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::support::wait_until;
use Step::{Answer, Break, Close, Reset, Say, Stall};

/// For anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A good answer.
    Answer,
    /// This answer, word for word; the connection stays open.
    Say(&'static str),
    /// This, which is only a part of an answer, and the connection's end.
    Break(&'static str),
    /// The end of the connection without a word.
    Close,
    /// The same by a reset.
    Reset,
    /// Nothing, as long as the client waits.
    Stall,
}
/// A server that follows a script, connection by connection, and answers well when that is over.
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What the connections to come do, first to last.
    script: Vec<Vec<Step>>,
    version: &'static str,
    /// Good answers.
    answered: u64,
    stalled: bool,
}

impl Server {
    /// The script of each connection, first to last; later ones are answered well.
    pub fn new(script: &[&[Step]]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let script = script.iter().rev().map(|steps| steps.to_vec()).collect();
        let state = Arc::new(Mutex::new(State { script, version: "1.0.0", answered: 0, stalled: false }));
        let server = Server { address, state: Arc::clone(&state) };
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, stream) = (Arc::clone(&state), stream.expect("accepted"));
                // Here, not in the thread: in the order of the connections.
                let steps = locked(&state).script.pop();
                std::thread::spawn(move || serve(&stream, steps, &state));
            }
        });
        server
    }

    /// From here on good answers come from this version.
    pub fn be(&self, version: &'static str) {
        locked(&self.state).version = version;
    }

    /// Waits until the script is over and so many more good answers were given.
    #[track_caller]
    pub fn until_answered(&self, more: u64) {
        let before = locked(&self.state).answered;
        wait_until(&format!("{more} answers"), PATIENCE, || {
            let state = locked(&self.state);
            let over = state.script.is_empty() && state.answered >= before + more;
            if over { Ok(()) } else { Err(format!("{} of {before} and {more}, {:?}", state.answered, state.script)) }
        });
    }

    /// Waits until a request is left without an answer.
    #[track_caller]
    pub fn until_stalled(&self) {
        wait_until("a request", PATIENCE, || if locked(&self.state).stalled { Ok(()) } else { Err("none".to_owned()) });
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection from its first request to its end; without steps it answers well as long as it is asked.
fn serve(mut stream: &TcpStream, steps: Option<Vec<Step>>, state: &Mutex<State>) {
    let forever = steps.is_none();
    let mut steps = steps.unwrap_or_default().into_iter();
    while let Some(step) = steps.next().or(forever.then_some(Answer)) {
        if matches!(step, Reset) {
            // What is received and not read makes the end a reset.
            let _ = stream.peek(&mut [0]);
            return;
        }
        let Some(last) = read_request(stream) else { return };
        match step {
            Answer => {
                let mut state = locked(state);
                let body = format!("version {0} slot {0}@r2 pid 1\n", state.version);
                state.answered += 1;
                drop(state);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes());
            }
            Say(answer) => drop(stream.write_all(answer.as_bytes())),
            Break(part) => {
                let _ = stream.write_all(part.as_bytes());
                return;
            }
            Stall => {
                locked(state).stalled = true;
                // Until the client closes.
                let _ = stream.read(&mut [0]);
                return;
            }
            Close | Reset => return,
        }
        if last {
            return;
        }
    }
}

/// Reads a request, and returns whether it is the connection's last; nothing if the client has closed.
fn read_request(mut stream: &TcpStream) -> Option<bool> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&request).to_ascii_lowercase().contains("connection: close"))
}
