//! wrk, which saturates a server: as many requests as it answers, each on one of 64 connections.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

/// wrk with 64 connections, until it is told to end.
pub struct Wrk(Child);

impl Wrk {
    pub fn start(url: &str) -> Wrk {
        let wrk = Command::new("wrk").args(["-t1", "-c64", "-d1h", url]).stdout(Stdio::piped()).spawn();
        Wrk(wrk.expect("wrk, of the Debian package of that name"))
    }

    /// How many requests it made, and all that it says.
    pub fn ends(&mut self) -> (u64, String) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, Signal::SIGINT).expect("sent");
        let output = BufReader::new(self.0.stdout.take().expect("its output"));
        let lines: Vec<String> = output.lines().map(|line| line.expect("text")).collect();
        let _ = self.0.wait();
        let requests = lines.iter().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
        (requests.unwrap_or(0), lines.join("\n"))
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
