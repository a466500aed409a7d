//! What a test says of one unit.

use std::time::Duration;

use crate::model::UnitName;
use crate::units::{Active, JobResult, Load, UnitError, UnitStatus};

use super::world::{Fate, Heed, Start, Stop, Unit};
use super::{FakeUnits, full};

/// The script of one unit; each method adds to it.
pub struct Script<'a> {
    pub(super) fake: &'a FakeUnits,
    pub(super) name: UnitName,
}

impl Script<'_> {
    /// It runs already.
    pub fn runs(self) -> Self {
        let mut world = self.fake.world();
        world.begin_run(&self.name);
        drop(world);
        self
    }

    /// It goes down with that other unit (`PartOf=`).
    pub fn goes_with(self, other: &str) -> Self {
        self.fake.world().bonds.entry(full(other)).or_default().stops.push(self.name.clone());
        self
    }

    /// It goes down with that other unit, and starts it (`BindsTo=`).
    pub fn is_bound_to(self, other: &str) -> Self {
        self.fake.world().bonds.entry(self.name.clone()).or_default().starts.push(full(other));
        self.goes_with(other)
    }

    /// The next start fails, and the process ended so ("exited with status 3").
    pub fn start_fails(self, exit: &str) -> Self {
        self.next_start(Start::Fails(JobResult::Failed, exit.to_owned()))
    }

    /// The next start's job ends by systemd's time limit.
    pub fn start_times_out(self) -> Self {
        self.next_start(Start::Fails(JobResult::Timeout, "killed by SIGTERM".to_owned()))
    }

    /// The next start doesn't end, so that the caller's own deadline passes.
    pub fn start_hangs(self) -> Self {
        self.next_start(Start::Hangs)
    }

    /// polkit refuses the next start.
    pub fn start_is_denied(self) -> Self {
        let error = UnitError::Denied {
            verb: "start",
            unit: self.name.clone(),
            message: "Interactive authentication required.".to_owned(),
        };
        self.next_start(Start::Errs(error))
    }

    /// The next start succeeds, and while it lasts somebody stops that other unit.
    pub fn start_meets_a_stop_of(self, other: &str) -> Self {
        self.next_start(Start::WhileStopped(full(other)))
    }

    /// The next start fails, the process ended so, and at the same time somebody has stopped that other unit.
    pub fn start_fails_as_somebody_stops(self, other: &str, exit: &str) -> Self {
        self.next_start(Start::FailsWhileStopped(full(other), exit.to_owned()))
    }

    /// The next start is that of a oneshot that succeeds.
    pub fn passes(self) -> Self {
        self.next_start(Start::Passes)
    }

    /// The next stop doesn't end, so that the caller's own deadline passes.
    pub fn stop_hangs(self) -> Self {
        self.next_stop(Stop::Hangs)
    }

    /// The next stop's job ends so, and the unit runs on.
    pub fn stop_ends(self, result: JobResult) -> Self {
        self.next_stop(Stop::Ends(result))
    }

    /// The next reload's job ends so; what is up stays up.
    pub fn reload_ends(self, result: JobResult) -> Self {
        self.change_unit(|unit| unit.reloads.push_back(result))
    }

    /// Its run ends after `after` and is restarted no more while the test lasts: it stays in auto-restart.
    pub fn dies_after(self, after: Duration, exit: &str) -> Self {
        self.change_unit(|unit| unit.fate = Some((after, Fate::Dies(exit.to_owned()))))
    }

    /// Its run ends after `after` and systemd has it up again in the same instant.
    pub fn restarts_after(self, after: Duration, exit: &str) -> Self {
        self.change_unit(|unit| unit.fate = Some((after, Fate::Restarts(exit.to_owned()))))
    }

    /// The next run writes this line.
    pub fn writes(self, text: &str) -> Self {
        self.change_unit(|unit| unit.writes.push(text.to_owned()))
    }

    /// It runs, says this of itself, and does what SIGUSR1 and SIGUSR2 tell it, saying "accepting" and "quiet".
    pub fn says(self, text: &str) -> Self {
        let said = Some(text.to_owned());
        self.change_unit(|unit| unit.heeds = Heed::Signals).runs().change(|status| status.said = said)
    }

    /// It survives signals, and does nothing.
    pub fn ignores_signals(self) -> Self {
        self.change_unit(|unit| unit.heeds = Heed::Nothing)
    }

    /// It has no file.
    pub fn is_missing(self) -> Self {
        self.change(|status| status.load = Load::NotFound)
    }

    /// It is masked.
    pub fn is_masked(self) -> Self {
        self.change(|status| status.load = Load::Masked)
    }

    /// It dies now, and stays in auto-restart.
    pub fn dies(self, exit: &str) -> Self {
        self.fake.world().meet(&self.name, Fate::Dies(exit.to_owned()));
        self
    }

    /// Somebody else stops it now.
    pub fn is_stopped_by_hand(self) -> Self {
        let mut world = self.fake.world();
        world.end_run(&self.name, Active::Inactive, "dead", "success", Some("killed by SIGTERM"));
        drop(world);
        self
    }

    /// Somebody else begins to stop it now, which takes so long.
    pub fn stop_begins_by_hand(self, takes: Duration) -> Self {
        self.stop_begins(takes, false)
    }

    /// Somebody else begins to stop it now, which takes so long, and starts it again.
    pub fn restart_begins_by_hand(self, takes: Duration) -> Self {
        self.stop_begins(takes, true)
    }

    fn stop_begins(self, takes: Duration, up_again: bool) -> Self {
        let (fake, name) = (self.fake.clone(), self.name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            let mut world = fake.world();
            world.unit(&name).status.job = false;
            match up_again {
                true => world.begin_run(&name),
                false => world.end_run(&name, Active::Inactive, "dead", "success", None),
            }
        });
        self.change(|status| (status.active, status.job) = (Active::Deactivating, true))
    }

    /// It shows any other status from now on; watches are told.
    pub fn change(self, change: impl FnOnce(&mut UnitStatus)) -> Self {
        let mut world = self.fake.world();
        change(&mut world.unit(&self.name).status);
        world.tell(&self.name);
        drop(world);
        self
    }

    fn next_start(self, start: Start) -> Self {
        self.change_unit(|unit| unit.starts.push_back(start))
    }

    fn next_stop(self, stop: Stop) -> Self {
        self.change_unit(|unit| unit.stops.push_back(stop))
    }

    fn change_unit(self, change: impl FnOnce(&mut Unit)) -> Self {
        change(self.fake.world().unit(&self.name));
        self
    }
}
