//! A release is built: its tree is laid out and lent to the user of the build's unit, systemd runs that unit, and what it
//! made comes back as bytes that are checked like any archive's.
//!
//! slotd runs nothing of it. Only what was packed again and unpacked by the worker becomes a tree: so what a build leaves
//! behind, set-id bits, devices or links out of the tree, is refused as it would be in an artifact, and whatever it may still
//! have open isn't what goes live.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::artifact::{Manifest, pack};
use crate::deployment::host::{TRY_AGAIN, endless, how_it_ended, is_hosts_fault, not_done, unusable};
use crate::durable;
use crate::model::evidence::{Evidence, MAX_JOURNAL_LINES};
use crate::model::setting::BuildInputs;
use crate::model::slot::{Built, Phase};
use crate::model::{Code, Fault, SlotName, Timestamp, UnitName};
use crate::points::{Side, named, pass};
use crate::slots::{tree_key, unit_digest};
use crate::units::{Active, JobResult, UnitControl, UnitError, UnitStatus};

use super::build_log::{reused, told};
use super::intake::{Cancel, Place, Refused, blocking, cancelled, cancelled_by, unpack_into};
use super::lent::LEND_LIMIT;
use super::shared::{Limit, Turns};
use super::spooled::pack_folder;

/// How much longer a start or stop may take than the unit's own limit says: systemd has to tell, too.
const SLACK: Duration = Duration::from_secs(10);

named! {
    /// A step of a build.
    Step {
        LayOut = "lay-out",
        Lend = "lend",
        Build = "build",
        TakeBack = "take-back",
        Clear = "clear-build",
    }
}

/// Where an intake stands, for whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// It is read, checked, unpacked, published.
    Processing,
    /// It waits for the builds of others to end.
    Waiting(SlotName),
    /// The build runs.
    Building(SlotName, UnitName),
}

/// What an intake needs beside its place.
#[derive(Clone)]
pub struct Hands<U> {
    /// systemd.
    pub units: U,
    /// Turns for what is done to few artifacts at a time.
    pub turns: Turns,
    /// Who is shown where it stands.
    pub now: watch::Sender<Now>,
}

/// A tree, built.
pub(super) struct Made {
    /// Where it lies; `None`: it was there before.
    pub(super) staging: Option<PathBuf>,
    pub(super) manifest: Manifest,
    pub(super) log: Option<String>,
}

/// What systemd says of a build before it begins.
pub(super) struct Unit {
    pub(super) name: UnitName,
    status: UnitStatus,
    pub(super) built: Built,
}

impl<U: UnitControl> Hands<U> {
    /// The unit that would build `slot`, if it can.
    pub(super) async fn unit(&self, place: &Place, slot: &SlotName, inputs: BuildInputs) -> Result<Unit, Refused> {
        let name = inputs.unit.unit(&slot.instance(1));
        let status = self.status(&name).await?;
        let wrong = |message: &str| Some(Fault::new(Code::ConfigUnit, format!("the build hook {name} {message}")));
        let fault = unusable(&name, &status).or_else(|| endless(&status).and_then(wrong)).or_else(|| match &status {
            status if status.need_reload => {
                wrong("has changed on disk and systemd doesn't know it: systemctl daemon-reload")
            }
            status if matches!(status.user.as_str(), "" | "root" | "0") => {
                wrong("runs as root: User= must name a user of its own")
            }
            status if is_own_user(&status.user) => {
                wrong("runs as slotd itself, which may start and stop every app: User= must name a user of its own")
            }
            status if !status.private_network && !place.settings.build.network => {
                wrong("has the host's network: PrivateNetwork=yes is missing, or network = true under [build]")
            }
            _ => None,
        });
        if let Some(fault) = fault {
            return Err(environment(fault));
        }
        let text = unit_digest(&status.files).ok_or_else(|| {
            environment(Fault::new(Code::ConfigUnit, format!("the files of {name} can't be read: {:?}", status.files)))
        })?;
        Ok(Unit { name, status, built: Built { inputs, text } })
    }

    /// The tree of `slot`: what is unpacked in `staging`, built; or what was built before by the same of the same.
    pub(super) async fn made(
        &self,
        place: &Place,
        slot: &SlotName,
        unit: Unit,
        (artifact, staging): (&crate::model::Digest, PathBuf),
        cancel: &Cancel,
    ) -> Result<Made, Refused> {
        let key = tree_key(artifact, Some(&unit.built));
        if let Some(manifest) = place.store.manifest_of(&key).map_err(|error| error.fault())?
            && let Ok(manifest) = serde_json::from_slice(&manifest)
        {
            let log = reused(&place.store, &key, &unit)?;
            return Ok(Made { staging: None, manifest, log: Some(log) });
        }
        self.now.send_replace(Now::Waiting(slot.clone()));
        let _turn = turn(&self.turns.builds, cancel).await;
        if let Some(by) = cancel.borrow().as_ref() {
            return Err(cancelled_by(by).into());
        }
        let ended = self.run(place, slot, &unit, staging, cancel).await;
        self.now.send_replace(Now::Processing);
        let cleared = self.clear(place, slot, &unit.name).await;
        let made = ended?;
        cleared?;
        Ok(made)
    }

    async fn run(
        &self,
        place: &Place,
        slot: &SlotName,
        unit: &Unit,
        staging: PathBuf,
        cancel: &Cancel,
    ) -> Result<Made, Refused> {
        if !self.status(&unit.name).await?.is_down() {
            let message = format!("{} runs already: somebody else has started it", unit.name);
            return Err(environment(Fault::new(Code::UnitControl, message)));
        }
        pass(Side::Before, Step::LayOut.as_str());
        let (store, name, env) = (Arc::clone(&place.store), slot.clone(), environment_of(place, slot, unit));
        let tree = blocking(move || store.lay_out(&name, &staging, &env).map_err(|error| error.fault())).await?;
        pass(Side::After, Step::LayOut.as_str());
        pass(Side::Before, Step::Lend.as_str());
        self.lend(place, &unit.name).await?;
        pass(Side::After, Step::Lend.as_str());

        self.now.send_replace(Now::Building(slot.clone(), unit.name.clone()));
        let began = Timestamp::now();
        pass(Side::Before, Step::Build.as_str());
        let limit = unit.status.start_limit.unwrap_or_default() + SLACK;
        let started = tokio::select! {
            biased;
            started = self.units.start(&unit.name, limit) => Some(started),
            () = cancelled(cancel) => None,
        };
        pass(Side::After, Step::Build.as_str());
        let status = self.status(&unit.name).await;
        self.end(&unit.name, &unit.status).await?;
        let by = cancel.borrow().clone();
        let fault = match (started, by) {
            (Some(Ok(JobResult::Done)), _) => None,
            (_, Some(by)) => Some(cancelled_by(&by).into()),
            (Some(result), None) => Some(failure(&unit.name, result, &status?)),
            // Nobody is left who could have cancelled it.
            (None, None) => Some(Refused::from(cancelled_by("slotd"))),
        };
        let lines = self.lines(&unit.name, began).await;
        let log = told(unit, began, &lines, fault.as_ref());
        if let Some(refused) = fault {
            let skipped = lines.len().saturating_sub(MAX_JOURNAL_LINES);
            let mut fault = refused.fault;
            fault.evidence.journal = lines.into_iter().skip(skipped).collect();
            return Err(Refused { fault, later: refused.later, phase: Phase::Building, log: Some(log) });
        }
        self.take_back(place, &unit.name).await?;
        let (staging, manifest) = self.keep(place, tree, cancel).await.map_err(|fault| {
            // What it made can't be kept: the log says what that was.
            let log = Some(format!("{log}\nwhat it made can't be kept: {fault}\n"));
            Refused { phase: Phase::Building, log, ..Refused::from(fault) }
        })?;
        Ok(Made { staging: Some(staging), manifest, log: Some(log) })
    }

    /// What was built, taken in as if it had been packed.
    async fn keep(&self, place: &Place, tree: PathBuf, cancel: &Cancel) -> Result<(PathBuf, Manifest), Fault> {
        let spool = place.store.layout().spool();
        // What a build makes may go by the times of its files.
        let packed = blocking(move || pack_folder(&tree, &spool, pack::Mtime::Kept)).await?.path;
        let staging = super::intake::staging_dir(&place.store)?;
        let unpacked = unpack_into(place, packed.clone(), crate::artifact::Format::Tar, &staging, cancel).await;
        // Swept at the next start if it can't be removed now.
        let _ = durable::remove_file(&packed);
        if unpacked.is_err() {
            let _ = durable::remove_tree(&staging);
        }
        Ok((staging, unpacked?))
    }

    /// Stops it if it still runs, and forgets how it ended: that is told.
    pub(super) async fn end(&self, unit: &UnitName, status: &UnitStatus) -> Result<(), Refused> {
        if !self.status(unit).await?.is_down() {
            let limit = status.stop_limit.unwrap_or(LEND_LIMIT) + SLACK;
            self.units.stop(unit, limit).await.map_err(control)?;
        }
        let now = self.status(unit).await?;
        if !now.is_down() {
            let message = format!("the build hook {unit} doesn't stop");
            return Err(environment(Fault::new(Code::UnitStop, message)));
        }
        if now.active == Active::Failed {
            self.units.reset_failed(unit).await.map_err(control)?;
        }
        Ok(())
    }

    pub(super) async fn with_journal(&self, fault: Fault, unit: &UnitName) -> Fault {
        let Ok(status) = self.units.status(unit).await else { return fault };
        let seen = status.seen(unit);
        let journal = match &seen.invocation {
            Some(invocation) => self.units.journal(invocation, MAX_JOURNAL_LINES).await,
            None => Vec::new(),
        };
        fault.with(Evidence { unit: Some(seen), journal, ..Evidence::default() })
    }

    pub(super) async fn status(&self, unit: &UnitName) -> Result<UnitStatus, Refused> {
        self.units.status(unit).await.map_err(control)
    }
}

/// Whether it is whom slotd runs as.
fn is_own_user(name: &str) -> bool {
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid());
    own.ok().flatten().is_some_and(|own| own.name == name)
}

/// Waits for a turn; without one, somebody has cancelled it.
pub(super) async fn turn(limit: &Limit, cancel: &Cancel) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        biased;
        turn = limit.turn() => turn,
        () = cancelled(cancel) => None,
    }
}

/// The environment of a build: nothing of the app's own.
fn environment_of(place: &Place, slot: &SlotName, unit: &Unit) -> BTreeMap<String, String> {
    let own = [
        ("CI", "1".to_owned()),
        ("SLOTD_PHASE", "build".to_owned()),
        ("SLOTD_APP", place.store.layout().app().to_string()),
        ("SLOTD_SLOT", slot.to_string()),
        ("SLOTD_VERSION", slot.version.to_string()),
    ];
    let mut env: BTreeMap<String, String> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    env.extend(unit.built.inputs.env.clone());
    env
}

/// Why a build failed, and whether it is worth another try as it is.
fn failure(unit: &UnitName, result: Result<JobResult, UnitError>, status: &UnitStatus) -> Refused {
    let failed = |how: &str| Fault::new(Code::BuildFailed, format!("the build hook {unit} {how}"));
    let (fault, later) = match result {
        Err(UnitError::Timeout { after, .. }) => {
            (failed(&format!("didn't end within {}", humantime::format_duration(after))), false)
        }
        Err(error) => return control(error),
        Ok(JobResult::Canceled) => {
            (Fault::new(Code::UnitStoppedByOther, format!("somebody stopped the build hook {unit}")), false)
        }
        Ok(JobResult::Dependency) => (failed("can't run: a unit that it needs failed"), true),
        Ok(JobResult::Skipped | JobResult::Other) => {
            (failed("can't run: an assertion of it says no, or systemd can't"), true)
        }
        Ok(_) => {
            let later = is_hosts_fault(status) || status.exit.as_deref() == Some(TRY_AGAIN);
            (failed(&how_it_ended(status)), later)
        }
    };
    let evidence = Evidence { unit: Some(status.seen(unit)), ..Evidence::default() };
    Refused { fault: fault.with(evidence), later, phase: Phase::Building, log: None }
}

/// Nothing that the release did: the same file is worth another try.
pub(super) fn environment(fault: Fault) -> Refused {
    Refused { fault, later: true, phase: Phase::Building, log: None }
}

pub(super) fn control(error: UnitError) -> Refused {
    environment(not_done(&error))
}
