//! What systemd is told: ready, status, watchdog.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::agent::registry::Registry;
use crate::control::api::Event;
use crate::control::service::Service;
use crate::units::UnitControl;

/// Events that come close together change the status once.
const GATHER: Duration = Duration::from_millis(100);

/// How long an app may take to say how it stands.
const VIEW_PATIENCE: Duration = Duration::from_secs(1);

/// Tells systemd how the daemon does.
pub struct Teller<U: UnitControl> {
    registry: Registry<U>,
    news: News,
    watchdog: Option<Duration>,
    next: Option<Instant>,
    last: String,
}

impl<U: UnitControl> Teller<U> {
    /// Has told nothing yet.
    pub fn new(registry: Registry<U>) -> Self {
        let mut micros = 0;
        // Twice within the time that systemd allows, as sd_watchdog_enabled(3) advises.
        let watchdog = sd_notify::watchdog_enabled(false, &mut micros).then(|| Duration::from_micros(micros) / 2);
        Teller {
            news: News { events: registry.events(), gathered: None },
            registry,
            watchdog,
            next: watchdog.map(|every| Instant::now() + every),
            last: String::new(),
        }
    }

    /// The daemon serves.
    pub async fn ready(&mut self) {
        send(&[NotifyState::Ready]);
        self.tell().await;
    }

    /// The daemon reads its settings again.
    pub fn reloading(&self) {
        let now = crate::deployment::clock::monotonic_micros();
        send(&[NotifyState::Reloading, NotifyState::Custom(&format!("MONOTONIC_USEC={now}"))]);
    }

    /// The daemon goes.
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping, NotifyState::Status("stopping; open deployments go on at the next start")]);
    }

    /// Waits until there is something to tell: events, or the watchdog. Who stops waiting in the middle, and comes back,
    /// misses nothing.
    pub async fn due(&mut self) {
        let next = self.next;
        let timer = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.news.come() => {}
            () = timer => {}
        }
    }

    /// Tells the status, and that the loop still turns.
    pub async fn tell(&mut self) {
        if let Some(every) = self.watchdog {
            self.next = Some(Instant::now() + every);
            send(&[NotifyState::Watchdog]);
        }
        let status = self.status().await;
        if status != self.last {
            send(&[NotifyState::Status(&status)]);
            self.last = status;
        }
    }

    /// One line for `systemctl status slotd`.
    async fn status(&self) -> String {
        let apps = self.registry.all();
        let mut under_way = Vec::new();
        // All at once and not for long: the loop that feeds the watchdog must not wait for any app.
        let views = apps.iter().map(|(_, handle)| tokio::time::timeout(VIEW_PATIENCE, handle.view()));
        let views = futures_util::future::join_all(views).await;
        for ((name, _), view) in apps.iter().zip(views) {
            let view = match view {
                Ok(Some(view)) => view,
                Ok(None) => {
                    under_way.push(format!("{name}: its task is gone"));
                    continue;
                }
                Err(_) => {
                    under_way.push(format!("{name}: waits for systemd or the disk"));
                    continue;
                }
            };
            if let Some(report) = view.deployment {
                let what = report.waiting.map_or_else(|| report.state.to_string(), |waiting| waiting.what);
                under_way.push(format!("{name}: {} to {} {}, {what}", report.id, report.to, report.state));
            }
        }
        match under_way.is_empty() {
            true => format!("{} apps, nothing under way", apps.len()),
            false => under_way.join("; "),
        }
    }
}

/// What may change the status.
struct News {
    events: broadcast::Receiver<Event>,
    /// From when on those that came may be told.
    gathered: Option<Instant>,
}

impl News {
    /// Waits for some, and for those that come close behind.
    async fn come(&mut self) {
        if self.gathered.is_none() {
            // That some were missed is news as well.
            let _ = self.events.recv().await;
        }
        let gathered = *self.gathered.get_or_insert_with(|| Instant::now() + GATHER);
        tokio::time::sleep_until(gathered).await;
        while self.events.try_recv().is_ok() {}
        self.gathered = None;
    }
}

fn send(states: &[NotifyState<'_>]) {
    // Not under systemd, or its socket is gone: nobody to tell.
    let _ = sd_notify::notify(false, states);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::shared::Events;
    use crate::control::api::EventKind;

    #[tokio::test(start_paused = true)]
    async fn news_that_are_left_for_other_things_are_told_afterwards_and_once() {
        let events = Events::new();
        let mut news = News { events: events.listen(), gathered: None };
        let web = "web".parse().expect("a name");
        for file in ["one", "two"] {
            events.tell(&web, EventKind::Processing { file: file.to_owned() });
        }
        tokio::time::timeout(GATHER / 2, news.come()).await.expect_err("they are being gathered");
        tokio::time::timeout(GATHER, news.come()).await.expect("told");
        tokio::time::timeout(GATHER * 2, news.come()).await.expect_err("told already");
    }
}
