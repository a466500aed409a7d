//! The trial: a program is started, told, asked and stopped as slotd and its users would, and what it does is written
//! down.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::bench::{Bench, Program, Target};
use super::client::{Answer, Client, Trouble};
use super::sheet::{Rule, Rules, Sheet};

/// How long slotd waits for an answer to a signal (`routes::SIGNAL_LIMIT`).
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// After so long without an accept nobody accepts: a program that does takes a fraction of a millisecond.
const LOOK: Duration = Duration::from_millis(300);

/// How long a SIGTERM may take to be heard by one that doesn't say so.
const HEARD: Duration = Duration::from_millis(200);

/// Between two questions after its health.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How a program is tried.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Where.
    pub bench: &'a Bench,
    /// What.
    pub target: &'a Target,
    /// By whose rules.
    pub rules: Rules,
    /// The path of a request.
    pub path: &'a str,
    /// The path of a health question.
    pub health: &'a str,
    /// How long a start may take.
    pub start_limit: Duration,
    /// How long a stop may take.
    pub stop_limit: Duration,
}

/// Connections that are open when the program is told something.
struct Open {
    /// Half of its request is sent.
    half: Client,
    /// It was answered, and was left open.
    idle: Option<Client>,
}

impl Trial<'_> {
    /// Tries all rules that can be tried.
    pub fn run(&self, sheet: &mut Sheet) -> io::Result<()> {
        match self.rules {
            Rules::SocketReady => self.by_ready(sheet, None),
            Rules::SocketSignal => {
                self.by_signal(sheet)?;
                // A second run; what the first one says of the stop isn't asked again.
                self.by_ready(sheet, Some("now"))
            }
            Rules::Port => self.by_ready(sheet, None),
        }
    }

    /// One that accepts from READY=1 on, to its end.
    fn by_ready(&self, sheet: &mut Sheet, accept: Option<&str>) -> io::Result<()> {
        let Some((mut program, ready)) = self.begin(sheet, accept)? else { return Ok(()) };
        let asked = self.ask(self.bench.address());
        match accept {
            None => {
                sheet.judge(Rule::Answers, asked);
                if self.rules == Rules::Port {
                    self.all_addresses(sheet);
                }
                match self.ask_health() {
                    Ok(status) => sheet.ok(Rule::Health, status),
                    Err(seen) => sheet.note(Rule::Health, format!("{seen}; probes can ask where users do")),
                }
                self.stop(sheet, &mut program);
            }
            Some(_) => {
                let seen = match ready.as_deref() {
                    Some("accepting") => asked.map(|answered| format!("STATUS=accepting, {answered}")),
                    other => Err(format!("with READY=1 it says {}", status(other))),
                };
                sheet.judge(Rule::AcceptsNow, seen);
            }
        }
        Ok(())
    }

    /// One that is told by signals, to its end.
    fn by_signal(&self, sheet: &mut Sheet) -> io::Result<()> {
        let Some((mut program, ready)) = self.begin(sheet, Some("signal"))? else { return Ok(()) };
        let Some(mut early) = self.connect(sheet) else { return Ok(()) };
        let sent = early.begin(self.path);
        program.wait(LOOK);
        let waits = self.bench.waits(&early);
        let quiet = match (ready.as_deref(), waits) {
            (Some("quiet"), true) => Ok("STATUS=quiet, and a connection waits in the listener".to_owned()),
            (Some("quiet"), false) => Err("it says STATUS=quiet, and accepted a connection".to_owned()),
            (other, true) => Err(format!("it accepts nothing, and says {} with READY=1", status(other))),
            (other, false) => Err(format!("it accepted a connection, and says {} with READY=1", status(other))),
        };
        // Whoever has said neither is never signalled by slotd; here the signal shows what would come of it.
        sheet.judge(Rule::StartsQuiet, quiet);
        sheet.judge(Rule::Health, self.ask_health());
        let watch = HealthWatch::begin(self.bench.health_socket(), self.health.to_owned());

        let told = self.tell(&mut program, Signal::SIGUSR1, "accepting");
        let answered = told.and_then(|said| {
            let answer =
                sent.and_then(|()| early.finish()).map_err(|trouble| format!("{said}; who waited: {trouble}"))?;
            Ok(format!("{said}; who waited was answered with {}", answer.status))
        });
        let accepts = answered.is_ok();
        sheet.judge(Rule::Accepts, answered);
        if !accepts {
            sheet.judge(Rule::AlwaysHealthy, watch.end());
            return Ok(());
        }
        self.quiet(sheet, &mut program);
        sheet.judge(Rule::AlwaysHealthy, watch.end());
        self.stop(sheet, &mut program);
        Ok(())
    }

    /// SIGUSR2 and SIGUSR1 with connections open.
    fn quiet(&self, sheet: &mut Sheet, program: &mut Program<'_>) {
        let Some(open) = self.open(sheet, program, Rule::QuietFinishes) else { return };
        let told = self.tell(program, Signal::SIGUSR2, "quiet");
        if told.is_err() && !program.runs() {
            sheet.judge(Rule::GetsQuiet, told);
            return;
        }
        let newcomer = self.connect(sheet);
        program.wait(LOOK);
        let waits = newcomer.is_some_and(|newcomer| self.bench.waits(&newcomer));
        let seen = told.and_then(|said| match waits {
            true => Ok(format!("{said}; a connection waits in the listener")),
            false => Err(format!("{said}; and it accepted a connection")),
        });
        sheet.judge(Rule::GetsQuiet, seen);
        self.finish(sheet, open, Rule::QuietFinishes, Rule::QuietIdle);

        let told = self.tell(program, Signal::SIGUSR1, "accepting");
        let answered = told.and_then(|said| Ok(format!("{said}; {}", self.ask(self.bench.address())?)));
        sheet.judge(Rule::AcceptsAgain, answered);
    }

    /// SIGTERM with connections open.
    fn stop(&self, sheet: &mut Sheet, program: &mut Program<'_>) {
        let Some(open) = self.open(sheet, program, Rule::StopFinishes) else { return };
        match self.bench.is_non_blocking() {
            true => sheet.ok(Rule::NonBlocking, "O_NONBLOCK is set"),
            false => {
                sheet.failed(Rule::NonBlocking, "it took O_NONBLOCK away: others that accept wait in there for ever")
            }
        }
        let began = Instant::now();
        program.signal(Signal::SIGTERM);
        let stopping = program.hears(HEARD, |said| said.value("STOPPING").is_some()).is_some();
        let newcomer = Client::tcp(self.bench.address()).and_then(|mut it| it.begin(self.path).map(|()| it));
        self.finish(sheet, open, Rule::StopFinishes, Rule::StopIdle);
        let came = match newcomer {
            Err(_) => Ok("who comes is refused".to_owned()),
            Ok(mut newcomer) => {
                // In the listener of systemd's it waits for the next slot.
                if self.bench.waits(&newcomer) {
                    Ok("who comes waits in the listener".to_owned())
                } else {
                    match newcomer.finish() {
                        // It had come to a port of the program's own, where nobody else would have taken it.
                        Ok(answer) if self.rules == Rules::Port && !answer.keeps => {
                            Ok(format!("who came meanwhile was answered with {}, and told to close", answer.status))
                        }
                        Ok(answer) => Err(format!("it went on to accept, and answered with {}", answer.status)),
                        // The kernel had taken them in for a listener that was closed then: to them a refusal. No route sends
                        // users to an instance that it has taken out.
                        Err(trouble) if self.rules == Rules::Port => {
                            Ok(format!("who came as its listener closed was turned away ({trouble})"))
                        }
                        Err(trouble) => Err(format!("it accepted a connection and left it: {trouble}")),
                    }
                }
            }
        };
        sheet.judge(Rule::StopAccepts, came);

        let end = program.end(self.stop_limit.saturating_sub(began.elapsed()));
        let took = seconds(began.elapsed());
        let seen = match end {
            Some(status) if status.success() => Ok(format!("with status 0 after {took}")),
            Some(status) => Err(format!("{status} after {took}")),
            None => Err(format!("it still runs after {took}")),
        };
        sheet.judge(Rule::Exits, seen);
        match stopping || program.said.iter().any(|said| said.value("STOPPING").is_some()) {
            true => sheet.ok(Rule::SaysStopping, "STOPPING=1"),
            false => sheet.note(Rule::SaysStopping, "it didn't; `systemctl status` can't tell what it is at"),
        }
    }

    /// Starts it and waits for READY=1. The program, and the first word of the status that came with it.
    fn begin(&self, sheet: &mut Sheet, accept: Option<&str>) -> io::Result<Option<(Program<'_>, Option<String>)>> {
        let began = Instant::now();
        let mut program = self.bench.start(self.target, accept)?;
        let ready = program.hears(self.start_limit, |said| said.value("READY") == Some("1"));
        let took = seconds(began.elapsed());
        Ok(match ready {
            Some(said) => {
                match program.is_own_word(&said) {
                    true => sheet.ok(Rule::Ready, format!("READY=1 after {took}")),
                    false => sheet.note(
                        Rule::Ready,
                        format!("READY=1 after {took}, of a process of its own: the unit needs NotifyAccess=all"),
                    ),
                }
                Some((program, said.word().map(str::to_owned)))
            }
            None => {
                let seen = match program.end(Duration::ZERO) {
                    Some(status) => format!("it ended with {status} after {took}"),
                    None => format!("nothing within {took}"),
                };
                sheet.failed(Rule::Ready, seen);
                None
            }
        })
    }

    /// Sends a signal, and waits for the word. The error says what came instead.
    fn tell(&self, program: &mut Program<'_>, signal: Signal, word: &str) -> Result<String, String> {
        let began = Instant::now();
        program.signal(signal);
        match program.hears(SIGNAL_LIMIT, |said| said.word() == Some(word)) {
            Some(_) => Ok(format!("STATUS={word} after {}", seconds(began.elapsed()))),
            None => match program.end(Duration::ZERO) {
                Some(status) => Err(format!("{signal} ended it: {status}")),
                None => Err(format!("no STATUS={word} within {}", seconds(SIGNAL_LIMIT))),
            },
        }
    }

    /// Connections that are open when it is told something, both of which it has accepted.
    fn open(&self, sheet: &mut Sheet, program: &mut Program<'_>, rule: Rule) -> Option<Open> {
        let opened = || -> Result<(Client, Option<Client>), Trouble> {
            let mut idle = Client::tcp(self.bench.address())?;
            let keeps = idle.ask(self.path)?.keeps;
            let mut half = Client::tcp(self.bench.address())?;
            if keeps {
                half.ask(self.path)?;
            }
            half.begin(self.path)?;
            Ok((half, keeps.then_some(idle)))
        };
        match opened() {
            Ok((half, idle)) => {
                // Half a request is nothing that could be waited for.
                program.wait(LOOK);
                Some(Open { half, idle })
            }
            Err(trouble) => {
                sheet.failed(rule, format!("before it was told anything: {trouble}"));
                None
            }
        }
    }

    /// What becomes of them afterwards.
    fn finish(&self, sheet: &mut Sheet, open: Open, begun: Rule, idles: Rule) {
        let last = |answer: Answer| match answer.keeps {
            false => Ok(format!("answered with {}, and told to close", answer.status)),
            true => Err(format!(
                "answered with {} without Connection: close: the next request on it meets a closed door",
                answer.status
            )),
        };
        let Open { mut half, idle } = open;
        // First, since it lingers least.
        let seen = match idle.map(|mut idle| idle.ask(self.path)) {
            None => Ok("it leaves no connection open after an answer".to_owned()),
            Some(Ok(answer)) => last(answer),
            Some(Err(trouble)) => Err(format!("{trouble}: a request that is on its way at that moment is lost")),
        };
        sheet.judge(idles, seen);
        sheet.judge(begun, half.finish().map_err(|trouble| trouble.to_string()).and_then(last));
    }

    fn connect(&self, sheet: &mut Sheet) -> Option<Client> {
        match Client::tcp(self.bench.address()) {
            Ok(client) => Some(client),
            // The listener is ours: it was closed for all by shutdown(2).
            Err(trouble) => {
                sheet.failed(Rule::StopAccepts, format!("the shared listener takes no connections: {trouble}"));
                None
            }
        }
    }

    fn ask(&self, address: SocketAddr) -> Result<String, String> {
        let answer = Client::tcp(address).and_then(|mut client| client.ask(self.path));
        answer.map(|answer| format!("{} is answered with {}", self.path, answer.status)).map_err(|it| it.to_string())
    }

    /// 127.0.0.2 leads to a listener on all addresses, and to none on 127.0.0.1.
    fn all_addresses(&self, sheet: &mut Sheet) {
        let other = SocketAddr::from(([127, 0, 0, 2], self.bench.address().port()));
        match self.ask(other) {
            Ok(seen) => sheet.ok(Rule::AllAddresses, format!("on 127.0.0.2 too {seen}")),
            Err(seen) => sheet.note(Rule::AllAddresses, format!("127.0.0.2: {seen}; enough for haproxy and nginx")),
        }
    }

    fn ask_health(&self) -> Result<String, String> {
        healthy(&self.bench.health_socket(), self.health)
    }
}

/// Asks on and on, beside all else.
struct HealthWatch {
    end: mpsc::Sender<()>,
    asking: JoinHandle<Result<String, String>>,
}

impl HealthWatch {
    fn begin(socket: PathBuf, path: String) -> HealthWatch {
        let (end, ended) = mpsc::channel();
        let asking = std::thread::spawn(move || {
            let mut asked = 0_u32;
            loop {
                healthy(&socket, &path).map_err(|seen| format!("{seen}, after {asked} good answers"))?;
                asked += 1;
                if ended.recv_timeout(ASK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return Ok(format!("asked {asked} times, answered well each time"));
                }
            }
        });
        HealthWatch { end, asking }
    }

    fn end(self) -> Result<String, String> {
        // It may have ended already, with a bad answer.
        let _ = self.end.send(());
        self.asking.join().unwrap_or_else(|_| Err("the questions broke off".to_owned()))
    }
}

fn healthy(socket: &std::path::Path, path: &str) -> Result<String, String> {
    let answer = Client::unix(socket).and_then(|mut client| client.ask(path));
    match answer {
        Ok(Answer { status, .. }) if (200..300).contains(&status) => Ok(format!("{path} is answered with {status}")),
        Ok(Answer { status, .. }) => Err(format!("{path} is answered with {status}")),
        Err(Trouble::Refused(error)) => Err(format!("nobody is there: {error}")),
        Err(trouble) => Err(format!("{path}: {trouble}")),
    }
}

fn status(word: Option<&str>) -> String {
    word.map_or("no STATUS".to_owned(), |word| format!("STATUS={word}"))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
