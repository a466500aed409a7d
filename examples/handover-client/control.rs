//! What the client hears of the moves: lines on standard input, and slotd's link to the live slot.
//!
//! | line | meaning |
//! |---|---|
//! | `expect SLOT` | a move to SLOT begins: from here on it may answer as well |
//! | `mark SLOT` | the switch to SLOT is recorded: from here on nobody else may answer on a new connection |
//! | `end` | no further request; the report |
//!
//! A line holds from the moment at which it is read; then `heard LINE` is said on standard error. A mark that comes late
//! tells too little, and never too much. The end of standard input means nothing.

use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::worker::Load;

/// Between two looks at the link: what is begun in between is not held against anybody.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A line.
#[derive(Debug)]
enum Line {
    Expect(String),
    Mark(String),
    End,
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Line, String> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("expect", slot) if !slot.is_empty() => Ok(Line::Expect(slot.to_owned())),
            ("mark", slot) if !slot.is_empty() => Ok(Line::Mark(slot.to_owned())),
            ("end", "") => Ok(Line::End),
            _ => Err(format!("what is {line:?}? expect SLOT, mark SLOT, end")),
        }
    }
}

/// Reads lines until one says `end`.
pub async fn listen(load: Rc<Load>) {
    let (read, mut lines) = mpsc::unbounded_channel();
    // A read of standard input can't be given up: the thread ends with the process.
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines();
        while let Some(Ok(line)) = lines.next()
            && read.send(line).is_ok()
        {}
    });
    while let Some(line) = lines.recv().await {
        let line = line.trim();
        let meant = line.parse();
        let end = matches!(meant, Ok(Line::End));
        match meant {
            Ok(Line::Expect(slot)) => load.tally().expect(slot),
            Ok(Line::Mark(slot)) => load.tally().mark(slot, Instant::now()),
            Ok(Line::End) => {}
            Err(message) => {
                eprintln!("handover-client: {message}");
                continue;
            }
        }
        eprintln!("heard {line}");
        if end {
            return;
        }
    }
    std::future::pending().await
}

/// Marks each slot that the link comes to name; the one that it names at first, too.
pub async fn follow(link: PathBuf, load: Rc<Load>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        looks.tick().await;
        // Before a first deployment it isn't there.
        let Ok(target) = std::fs::read_link(&link) else { continue };
        if last.as_ref() != Some(&target) {
            let slot = target.file_name().map(|name| name.to_string_lossy().into_owned());
            load.tally().mark(slot.unwrap_or_default(), Instant::now());
            last = Some(target);
        }
    }
}
