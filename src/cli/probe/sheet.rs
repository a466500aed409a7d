//! The rules, and what was seen of each.

use std::fmt;

use serde::Serialize;

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// A shared socket with accept = "ready"
    SocketReady,
    /// A shared socket with accept = "signal"
    SocketSignal,
    /// A port of its own
    Port,
}

macro_rules! rules {
    ($($name:ident = $word:literal, $asks:literal;)*) => {
        /// A rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rule {
            $(#[doc = $asks] $name,)*
        }

        impl Rule {
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Rule::$name => $word,)* }
            }

            /// What it asks for.
            pub fn asks(self) -> &'static str {
                match self { $(Rule::$name => $asks,)* }
            }
        }
    };
}

rules! {
    Ready = "ready", "it says READY=1 to $NOTIFY_SOCKET once it can answer";
    Answers = "answers", "it answers requests where its connections come from";
    AllAddresses = "all-addresses", "it listens on all addresses: nftables passes connections on to the one they came to";
    Health = "health", "it answers on $HEALTH_SOCKET: there a candidate is asked that has no users";
    StartsQuiet = "starts-quiet", "with SLOTD_ACCEPT=signal it says STATUS=quiet with READY=1 and accepts nothing";
    Accepts = "accepts", "on SIGUSR1 it says STATUS=accepting and answers, also who has waited";
    GetsQuiet = "gets-quiet", "on SIGUSR2 it says STATUS=quiet and accepts no more";
    QuietFinishes = "quiet-finishes", "what it has begun before SIGUSR2 it answers, with Connection: close";
    QuietIdle = "quiet-idle", "a connection that idles is answered once more, with Connection: close";
    AcceptsAgain = "accepts-again", "told to accept again it does";
    AlwaysHealthy = "always-healthy", "it answers on $HEALTH_SOCKET whatever it was told";
    AcceptsNow = "accepts-now", "with SLOTD_ACCEPT=now it says STATUS=accepting with READY=1 and answers";
    NonBlocking = "non-blocking", "it leaves the listener non-blocking: O_NONBLOCK is one for all slots that share it";
    SaysStopping = "says-stopping", "on SIGTERM it says STOPPING=1";
    StopAccepts = "stop-accepts", "after SIGTERM it accepts no more: who comes then is left to the next slot";
    StopFinishes = "stop-finishes", "what it has begun before SIGTERM it answers, with Connection: close";
    StopIdle = "stop-idle", "a connection that idles is answered once more, with Connection: close";
    Exits = "exits", "it ends by itself, with status 0, before TimeoutStopSec= is over";
}

impl Rules {
    /// In the order of testing.
    pub fn all(self) -> Vec<Rule> {
        use Rule::*;
        let stop = [SaysStopping, StopAccepts, StopFinishes, StopIdle, Exits];
        let own: &[Rule] = match self {
            Rules::SocketReady => &[Ready, Answers, Health, NonBlocking],
            Rules::SocketSignal => &[
                Ready,
                StartsQuiet,
                Health,
                Accepts,
                GetsQuiet,
                QuietFinishes,
                QuietIdle,
                AcceptsAgain,
                AlwaysHealthy,
                AcceptsNow,
                NonBlocking,
            ],
            Rules::Port => &[Ready, Answers, AllAddresses, Health],
        };
        own.iter().copied().chain(stop).collect()
    }
}

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is kept.
    Ok,
    /// It isn't.
    Failed,
    /// Not kept, and not needed by all.
    Note,
    /// It couldn't be tried.
    Untested,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Note => "note",
            Outcome::Untested => "untested",
        })
    }
}

/// One line of the sheet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The rule.
    pub rule: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
    /// What the rule asks for.
    pub asks: &'static str,
}

/// What was seen of the rules so far.
#[derive(Debug, Default)]
pub struct Sheet(Vec<(Rule, Outcome, String)>);

impl Sheet {
    /// Kept.
    pub fn ok(&mut self, rule: Rule, seen: impl Into<String>) {
        self.0.push((rule, Outcome::Ok, seen.into()));
    }

    /// Not kept.
    pub fn failed(&mut self, rule: Rule, seen: impl Into<String>) {
        self.0.push((rule, Outcome::Failed, seen.into()));
    }

    /// Not kept, which some can live with.
    pub fn note(&mut self, rule: Rule, seen: impl Into<String>) {
        self.0.push((rule, Outcome::Note, seen.into()));
    }

    /// Kept or not.
    pub fn judge(&mut self, rule: Rule, seen: Result<String, String>) {
        match seen {
            Ok(seen) => self.ok(rule, seen),
            Err(seen) => self.failed(rule, seen),
        }
    }

    /// A line for each of the rules; the first that wasn't kept counts where one was tried twice.
    pub fn lines(self, rules: Rules) -> Vec<Line> {
        let line = |rule: Rule| {
            let tried = || self.0.iter().filter(|(of, ..)| *of == rule);
            let counts = tried().find(|(_, outcome, _)| *outcome != Outcome::Ok).or_else(|| tried().next());
            let (outcome, seen) = match counts {
                Some((_, outcome, seen)) => (*outcome, seen.clone()),
                None => (Outcome::Untested, "what comes before it failed".to_owned()),
            };
            Line { rule: rule.name(), outcome, seen, asks: rule.asks() }
        };
        rules.all().into_iter().map(line).collect()
    }
}
