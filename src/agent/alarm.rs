//! A time of the calendar, waited for by the wall clock: it comes too early or too late for nobody who sets that clock,
//! and counts the time in which the host slept.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::Timestamp;

/// How often the clock is looked at where the kernel gives no timer.
const LOOK: Duration = Duration::from_secs(1);

/// Returns when it is `time`, or a little later; never without one. It may return early: the caller asks the clock.
pub async fn at(time: Option<Timestamp>) {
    let Some(time) = time else { return std::future::pending().await };
    if Timestamp::now() >= time {
        return;
    }
    if let Err(error) = ring(time).await {
        tracing::warn!("no timer for {time}, the clock is looked at instead: {error}");
        tokio::time::sleep(LOOK).await;
    }
}

async fn ring(time: Timestamp) -> io::Result<()> {
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    let since_1970 = TimeSpec::from_duration(Duration::from_millis(time.unix_millis()));
    timer.set(Expiration::OneShot(since_1970), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    #[expect(deprecated, reason = "its successor is unsafe for the sake of others than owned descriptors")]
    let timer = AsyncFd::with_interest(OwnedFd::from(timer), Interest::READABLE)?;
    timer.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_time_and_not_before() {
        let time = Timestamp::from_unix_millis(Timestamp::now().unix_millis() + 200);
        ring(time).await.expect("a timer");
        assert!(Timestamp::now() >= time);
        ring(Timestamp::from_unix_millis(1)).await.expect("what is over rings at once");
        at(Some(Timestamp::from_unix_millis(0))).await;
    }

    #[tokio::test]
    async fn without_a_time_or_before_it_nothing_rings() {
        let in_a_day = Timestamp::from_unix_millis(Timestamp::now().unix_millis() + 86_400_000);
        for time in [None, Some(in_a_day)] {
            let rang = tokio::time::timeout(Duration::from_millis(20), at(time)).await;
            assert!(rang.is_err(), "{time:?}");
        }
    }
}
