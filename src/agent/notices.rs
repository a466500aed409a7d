//! Telling somebody how deployments ended: `told.json`, what is to be told and what was.
//!
//! The end of a deployment is noted here before anything else is done about it, whether it is to be told or not: so a kill at
//! any instant leaves either a note, or an end that the next start finds without one. Who is told, and how, is the business
//! of the administrator's unit; it is started by [`super::teller`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::deployment::intent::IntentFile;
use crate::durable::{Ballast, DurableError, read_json};
use crate::model::{DeploymentId, Fault, Layout, Outcome, Report, UnitName};
use crate::points::{self, named};
use crate::units::UnitControl;

use super::app::App;
use super::turn::TurnFile;

/// Ends that are remembered, beside those that a record on disk still names.
const KEPT: usize = 32;

/// Room for the file and each of its spares.
const BYTES: usize = 32 * 1024;

/// The format that this version writes; another one is not read.
const FORMAT: u32 = 1;

named! {
    /// What is done about the end of a deployment, for crash points.
    Telling {
        Note = "note",
        Tell = "tell",
        Told = "told",
    }
}

/// The end of a deployment, and whether it was told. An end that wasn't the last word (a deployment that was stuck and came out
/// of it) is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Whose end.
    pub id: DeploymentId,
    /// How it ended.
    pub outcome: Outcome,
    /// What came of it.
    #[serde(flatten)]
    pub standing: Standing,
}

/// Whether somebody was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "lowercase")]
pub enum Standing {
    /// Nobody wants to be.
    Passed,
    /// The unit is to be started.
    Due,
    /// It ran, and ended well.
    Told,
    /// It ran, and failed; or couldn't be started, often enough.
    Failed {
        /// Why.
        fault: Box<Fault>,
    },
}

/// `told.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Book {
    format: u32,
    notices: Vec<Notice>,
}

/// The notices of an app; clones are the same.
#[derive(Debug, Clone)]
pub struct Notices {
    file: Ballast,
    path: std::path::PathBuf,
    list: Arc<Mutex<Vec<Notice>>>,
}

impl Notices {
    /// Those of one app. Touches nothing yet.
    pub fn of(layout: &Layout) -> Self {
        Notices { file: Ballast::new(layout.told(), BYTES), path: layout.told(), list: Arc::default() }
    }

    /// Reads what was noted. `None`: nothing ever was, or it can't be read; then what ended before is told to nobody.
    pub fn load(&self) -> Result<Option<()>, DurableError> {
        let room = self.file.refill();
        let Some(book) = read_json::<Book>(&self.path)?.filter(|book| book.format == FORMAT) else { return Ok(None) };
        *self.lock() = book.notices;
        room.map(Some)
    }

    /// From now on every end is noted.
    pub fn open(&self) -> Result<(), DurableError> {
        self.write(&self.lock())
    }

    /// Notes an end; one that is noted already is left as it is. `in_use`: what a record on disk still names.
    pub fn note(&self, report: &Report, wanted: &[Outcome], in_use: &[DeploymentId]) -> Result<(), DurableError> {
        let Some(ended) = &report.ended else { return Ok(()) };
        let mut list = self.lock();
        if list.iter().any(|it| it.id == report.id && it.outcome == ended.outcome) {
            return Ok(());
        }
        let standing = if wanted.contains(&ended.outcome) { Standing::Due } else { Standing::Passed };
        list.push(Notice { id: report.id.clone(), outcome: ended.outcome, standing });
        let surplus = list.len().saturating_sub(KEPT);
        let mut seen = 0;
        list.retain(|it| {
            seen += 1;
            seen > surplus || it.standing == Standing::Due || in_use.contains(&it.id)
        });
        points::around(Telling::Note.as_str(), || self.write(&list))
    }

    /// The first that is to be told.
    pub fn due(&self) -> Option<Notice> {
        self.lock().iter().find(|it| it.standing == Standing::Due).cloned()
    }

    /// The last that was told: its unit may still be there.
    pub fn last_told(&self) -> Option<Notice> {
        self.lock().iter().rev().find(|it| it.standing == Standing::Told).cloned()
    }

    /// Writes down what came of a notice. Kept in memory even where that fails.
    pub fn settle(&self, notice: &Notice, standing: Standing) -> Result<(), DurableError> {
        let mut list = self.lock();
        let found = list.iter_mut().find(|it| it.id == notice.id && it.outcome == notice.outcome);
        if let Some(found) = found {
            found.standing = standing;
        }
        points::around(Telling::Told.as_str(), || self.write(&list))
    }

    /// What nobody could be told of, since somebody was told last.
    pub fn failed(&self) -> Vec<(Notice, Fault)> {
        let list = self.lock();
        let since = list.iter().rev().take_while(|it| it.standing != Standing::Told);
        let failed = since.filter_map(|it| match &it.standing {
            Standing::Failed { fault } => Some((it.clone(), (**fault).clone())),
            Standing::Passed | Standing::Due | Standing::Told => None,
        });
        failed.collect()
    }

    fn write(&self, list: &[Notice]) -> Result<(), DurableError> {
        self.file.write(&Book { format: FORMAT, notices: list.to_vec() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Notice>> {
        // What it guards is whole between any two statements.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notice {
    /// The administrator's unit that tells of it.
    pub fn unit(&self) -> UnitName {
        notify_unit(&self.id)
    }
}

/// `slotd-notify@web-17.service`.
pub fn notify_unit(id: &DeploymentId) -> UnitName {
    UnitName::new(format!("slotd-notify@{id}.service"))
}

impl<U: UnitControl> App<U> {
    /// Notes that a deployment has ended, for whoever wants to be told.
    pub(super) fn note_end(&self, report: &Report) {
        self.note(report, &self.ground.settings.on_result);
    }

    /// Notes what ended just before slotd did. Where nothing was ever noted, nobody waits to be told of what was before.
    pub(super) fn note_ends_of_before(&mut self) {
        let layout = self.ground.store.layout();
        let is_new = match self.teller.notices.load() {
            Ok(loaded) => loaded.is_none(),
            Err(error) => {
                tracing::warn!(SLOTD_APP = self.name(), "what was told, and what wasn't: {}", error.fault());
                error.is_damage()
            }
        };
        let last = IntentFile::of(layout).last().ok().flatten().map(|intent| intent.report);
        let turns = [TurnFile::of(layout), TurnFile::scheduled(layout)];
        let turns = turns.iter().filter_map(|file| file.read().ok().flatten()).map(|turn| turn.report);
        let wanted = if is_new { &[][..] } else { &self.ground.settings.on_result };
        if is_new && let Err(error) = self.teller.notices.open() {
            tracing::warn!(SLOTD_APP = self.name(), "nobody is told of what ends before a restart: {}", error.fault());
        }
        for report in last.into_iter().chain(turns) {
            self.note(&report, wanted);
        }
        self.teller.begin();
    }

    fn note(&self, report: &Report, wanted: &[Outcome]) {
        let scheduled = self.scheduled.iter().map(|scheduled| &scheduled.report.id);
        let in_use = self.last.iter().map(|last| &last.id).chain(&self.kept).chain(scheduled);
        let in_use: Vec<DeploymentId> = in_use.cloned().collect();
        if let Err(error) = self.teller.notices.note(report, wanted, &in_use) {
            let (id, fault) = (&report.id, error.fault());
            tracing::warn!(SLOTD_APP = self.name(), "whether the end of {id} was told is lost at a restart: {fault}");
        }
        self.teller.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::deploy::new_report;
    use crate::agent::queue::ended;
    use crate::model::deployment::Blame;
    use crate::model::{Code, Kind};

    fn report(number: u64, outcome: Outcome) -> Report {
        let id = DeploymentId { app: "web".parse().expect("app"), number };
        let end = ended(outcome, Fault::new(Code::Cancelled, "over"), Blame::Operator);
        Report { ended: Some(end), ..new_report(id, Kind::Deploy, "1".parse().expect("slot"), "ann", None) }
    }

    fn notices(base: &std::path::Path) -> Notices {
        let layout = Layout::new(base, base, "web".parse().expect("app"));
        std::fs::create_dir_all(layout.root()).expect("made");
        Notices::of(&layout)
    }

    const WANTED: [Outcome; 2] = [Outcome::Failed, Outcome::Stuck];

    #[test]
    fn each_end_is_noted_once_and_what_is_wanted_is_due_over_a_restart() {
        let base = tempfile::tempdir().expect("a folder");
        let book = notices(base.path());
        assert!(book.load().expect("read").is_none(), "nothing was ever noted");
        for (number, outcome) in [(1, Outcome::Done), (2, Outcome::Stuck), (2, Outcome::Stuck), (2, Outcome::Failed)] {
            book.note(&report(number, outcome), &WANTED, &[]).expect("noted");
        }
        let again = notices(base.path());
        again.load().expect("read").expect("there");
        let first = again.due().expect("due");
        assert_eq!((first.id.number, first.outcome), (2, Outcome::Stuck));
        again.settle(&first, Standing::Told).expect("written");
        let second = again.due().expect("due");
        assert_eq!((second.id.number, second.outcome), (2, Outcome::Failed), "another end of the same");
        let fault = Box::new(Fault::new(Code::UnitMissing, "no unit"));
        again.settle(&second, Standing::Failed { fault }).expect("written");
        assert!(again.due().is_none() && again.failed().len() == 1);
        again.note(&report(2, Outcome::Failed), &WANTED, &[]).expect("noted");
        assert!(again.due().is_none(), "it was noted before");
    }

    #[test]
    fn what_is_due_or_named_by_a_record_is_never_forgotten() {
        let base = tempfile::tempdir().expect("a folder");
        let book = notices(base.path());
        book.note(&report(1, Outcome::Stuck), &WANTED, &[]).expect("noted");
        let named = report(2, Outcome::Done);
        for number in 2..100 {
            book.note(&report(number, Outcome::Done), &WANTED, std::slice::from_ref(&named.id)).expect("noted");
        }
        let numbers: Vec<u64> = book.lock().iter().map(|it| it.id.number).collect();
        assert_eq!((numbers[0], numbers[1], numbers.len()), (1, 2, KEPT + 2), "{numbers:?}");
    }
}
