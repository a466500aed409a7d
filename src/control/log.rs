//! The last events, kept for callers that come back or fall behind, and word of new ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use super::api::Event;
use super::limits::EVENTS_KEPT;

/// A handle to the log; clones share it.
#[derive(Debug, Clone)]
pub struct EventLog {
    kept: Arc<Mutex<VecDeque<Event>>>,
    newest: watch::Receiver<u64>,
}

impl EventLog {
    /// Starts to take in what `source` tells, until that ends or the handle is used.
    pub fn start(source: broadcast::Receiver<Event>) -> (EventLog, AbortHandle) {
        let kept = Arc::new(Mutex::new(VecDeque::with_capacity(EVENTS_KEPT)));
        let (sender, newest) = watch::channel(0);
        let task = tokio::spawn(collect(source, Arc::clone(&kept), sender));
        (EventLog { kept, newest }, task.abort_handle())
    }

    /// The newest event's number; 0 before the first.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// What is kept of the events after number `seen`, oldest first.
    pub fn after(&self, seen: u64) -> Vec<Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.seq > seen).cloned().collect()
    }

    /// Waits for an event after number `seen`. False: there won't be one any more.
    pub async fn beyond(&mut self, seen: u64) -> bool {
        self.newest.wait_for(|newest| *newest > seen).await.is_ok()
    }
}

/// Events that the source dropped leave a gap in the numbers, which readers see.
async fn collect(mut source: broadcast::Receiver<Event>, kept: Arc<Mutex<VecDeque<Event>>>, tell: watch::Sender<u64>) {
    loop {
        let event = match source.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let seq = event.seq;
        {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == EVENTS_KEPT {
                kept.pop_front();
            }
            kept.push_back(event);
        }
        tell.send_replace(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::EventKind;
    use crate::model::Timestamp;

    fn ready(seq: u64) -> Event {
        Event {
            seq,
            at: Timestamp::from_unix_millis(seq),
            app: "web".parse().expect("app"),
            what: EventKind::Ready { slot: "1".parse().expect("slot") },
        }
    }

    #[tokio::test]
    async fn it_keeps_the_last_ones_and_tells_of_new_ones() {
        let (sender, source) = broadcast::channel(2 * EVENTS_KEPT);
        let (mut log, _task) = EventLog::start(source);
        let last = EVENTS_KEPT as u64 + 3;
        for seq in 1..=last {
            sender.send(ready(seq)).expect("sent");
        }
        assert!(log.beyond(last - 1).await);
        assert_eq!(log.newest(), last);
        assert_eq!(log.after(0).len(), EVENTS_KEPT);
        assert_eq!(log.after(0).first().map(|event| event.seq), Some(4));
        assert_eq!(log.after(last - 1).len(), 1);
        drop(sender);
        assert!(!log.beyond(last).await);
    }
}
