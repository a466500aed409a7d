//! Which release goes live by itself. Pure.
//!
//! Automatic mode takes the highest ready release above the mark, the highest that was ever live or tried: so what an
//! operator left comes back only by his word, and a release that failed isn't tried for ever.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::app::DeployMode;
use crate::model::slot::Pin;
use crate::model::{Freeze, SlotName, Version, VersionOrder};

/// What the choice depends on beside the slots.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Automatic or manual.
    pub deploy: DeployMode,
    /// Which version is the higher.
    pub order: VersionOrder,
    /// The highest ever live or tried.
    pub mark: Option<&'a Version>,
    /// The live slot.
    pub current: Option<&'a SlotName>,
    /// The mark that tells the app to rest, if it is there.
    pub paused: Option<&'a Path>,
    /// An operator's word that the app stays on what is live.
    pub pinned: Option<&'a Pin>,
    /// What keeps the app from going forward.
    pub frozen: Option<&'a Freeze>,
}

impl<'a> Rules<'a> {
    /// The same, if nobody had a word in it.
    pub fn free(&self) -> Rules<'a> {
        Rules { deploy: DeployMode::Automatic, paused: None, pinned: None, frozen: None, ..*self }
    }
}

/// A slot that could go live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its name.
    pub slot: SlotName,
    /// Whether it is quarantined.
    pub quarantined: bool,
}

/// Why a ready release doesn't go live by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLive {
    /// It is live.
    IsLive,
    /// The app is in manual mode.
    Manual,
    /// It failed by its own fault.
    Quarantined,
    /// Its version names a pre-release.
    PreRelease,
    /// It isn't above the mark.
    BelowMark(Version),
    /// A higher one goes instead.
    Lower(SlotName),
    /// It would go, and waits until this mark is gone.
    Paused(PathBuf),
    /// It would go, and waits until the app is unpinned.
    Pinned(Pin),
    /// It would go, and waits until this is over.
    Frozen(Freeze),
}

/// Why `slot` doesn't go live, and isn't what an operator would be brought either: where apps are deployed by hand, only the
/// highest above the mark is staged to go live next.
pub fn why_not_next(slot: &SlotName, slots: &[Ready], rules: &Rules<'_>) -> Option<NotLive> {
    match why_not(slot, slots, rules)? {
        NotLive::Manual => why_not(slot, slots, &rules.free()).or(Some(NotLive::Manual)),
        other => Some(other),
    }
}

/// The release that goes live now, if one does.
pub fn automatic<'a>(slots: &'a [Ready], rules: &Rules<'_>) -> Option<&'a SlotName> {
    let eligible = slots.iter().filter(|ready| alone(ready, rules).is_ok());
    eligible.map(|ready| &ready.slot).max_by(|a, b| compare(a, b, rules.order))
}

/// The releases that could go live by themselves, the highest first; of each its last slot.
pub fn eligible(slots: &[Ready], rules: &Rules<'_>) -> Vec<SlotName> {
    let mut eligible: Vec<&SlotName> =
        slots.iter().filter(|ready| alone(ready, rules).is_ok()).map(|ready| &ready.slot).collect();
    eligible.sort_by(|a, b| compare(b, a, rules.order));
    eligible.dedup_by(|lower, higher| lower.version == higher.version);
    eligible.into_iter().cloned().collect()
}

/// Why `slot` doesn't go live by itself; `None` if it does.
pub fn why_not(slot: &SlotName, slots: &[Ready], rules: &Rules<'_>) -> Option<NotLive> {
    let ready = slots.iter().find(|ready| ready.slot == *slot)?;
    match (alone(ready, rules), automatic(slots, rules)) {
        (Err(reason), _) => Some(reason),
        (Ok(()), Some(chosen)) if chosen != slot => Some(NotLive::Lower(chosen.clone())),
        (Ok(()), _) => None,
    }
}

/// Whether it could go live if there were no other.
fn alone(ready: &Ready, rules: &Rules<'_>) -> Result<(), NotLive> {
    let version = &ready.slot.version;
    let above = |mark: &&Version| rules.order.compare(version, mark) != Ordering::Greater;
    match rules.mark.filter(above) {
        _ if rules.current == Some(&ready.slot) => Err(NotLive::IsLive),
        _ if ready.quarantined => Err(NotLive::Quarantined),
        _ if rules.deploy == DeployMode::Manual => Err(NotLive::Manual),
        _ if version.is_pre_release() => Err(NotLive::PreRelease),
        Some(mark) => Err(NotLive::BelowMark(mark.clone())),
        None => waits_for(rules).map_or(Ok(()), Err),
    }
}

/// What keeps everything from going live by itself, if something does.
pub fn held(rules: &Rules<'_>) -> Option<NotLive> {
    if rules.deploy == DeployMode::Manual { Some(NotLive::Manual) } else { waits_for(rules) }
}

fn waits_for(rules: &Rules<'_>) -> Option<NotLive> {
    match (rules.paused, rules.frozen, rules.pinned) {
        (Some(mark), ..) => Some(NotLive::Paused(mark.to_owned())),
        (None, Some(freeze), _) => Some(NotLive::Frozen(freeze.clone())),
        (None, None, Some(pin)) => Some(NotLive::Pinned(pin.clone())),
        (None, None, None) => None,
    }
}

fn compare(a: &SlotName, b: &SlotName, order: VersionOrder) -> Ordering {
    order.compare(&a.version, &b.version).then(a.redeployment.cmp(&b.redeployment))
}

impl NotLive {
    /// What brings `slot` of `app` live in spite of it, as a command.
    pub fn next(&self, app: &str, slot: &SlotName) -> Option<String> {
        Some(match self {
            NotLive::IsLive => return None,
            NotLive::Manual => format!("slotctl deploy-staged {app}"),
            NotLive::Quarantined => format!("slotctl activate {app} {slot} --force"),
            NotLive::PreRelease | NotLive::BelowMark(_) | NotLive::Lower(_) => format!("slotctl activate {app} {slot}"),
            NotLive::Paused(mark) => format!("rm {}; systemctl start {app}.service", mark.display()),
            NotLive::Frozen(Freeze { all: true, .. }) => "slotctl unfreeze".to_owned(),
            NotLive::Frozen(_) => format!("slotctl unfreeze {app}"),
            NotLive::Pinned(_) => format!("slotctl unpin {app}"),
        })
    }
}

impl fmt::Display for NotLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotLive::IsLive => f.write_str("it is live"),
            NotLive::Manual => f.write_str("it is staged: it waits for `slotctl deploy-staged` (deploy = \"manual\")"),
            NotLive::Quarantined => f.write_str("it is quarantined"),
            NotLive::PreRelease => f.write_str("it is a pre-release, and those never go live by themselves"),
            NotLive::BelowMark(mark) => write!(f, "it is not above {mark}, the highest ever live or tried"),
            NotLive::Lower(higher) => write!(f, "{higher} is higher and goes instead"),
            NotLive::Paused(mark) => write!(f, "the app is paused: it waits until {} is removed", mark.display()),
            NotLive::Frozen(freeze) if freeze.until.is_some() => {
                write!(f, "the app is {freeze}; it waits for the end of that")
            }
            NotLive::Frozen(freeze) => write!(f, "the app is {freeze}; it waits for `slotctl unfreeze`"),
            NotLive::Pinned(pin) => write!(f, "the app is {pin}; it waits for `slotctl unpin`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(names: &[&str]) -> Vec<Ready> {
        names.iter().map(|name| Ready { slot: name.parse().expect("slot"), quarantined: false }).collect()
    }

    fn rules(mark: Option<&Version>) -> Rules<'_> {
        Rules {
            deploy: DeployMode::Automatic,
            order: VersionOrder::Uapi,
            mark,
            current: None,
            paused: None,
            pinned: None,
            frozen: None,
        }
    }

    fn v(text: &str) -> Version {
        text.parse().expect("version")
    }

    #[test]
    fn the_highest_goes() {
        let ready = slots(&["1.4.1", "1.4.3", "1.4.2", "1.3.9"]);
        assert_eq!(automatic(&ready, &rules(None)).map(ToString::to_string).as_deref(), Some("1.4.3"));
        let why = why_not(&ready[0].slot, &ready, &rules(None));
        assert_eq!(why, Some(NotLive::Lower("1.4.3".parse().expect("slot"))));
        assert_eq!(why_not(&ready[1].slot, &ready, &rules(None)), None);
    }

    #[test]
    fn what_was_left_comes_back_only_by_hand() {
        let ready = slots(&["1.0", "2.0"]);
        assert_eq!(automatic(&ready, &rules(Some(&v("2.0")))), None);
        assert_eq!(
            automatic(&slots(&["1.0", "2.0", "2.1"]), &rules(Some(&v("2.0")))).map(|slot| slot.to_string()),
            Some("2.1".into())
        );
    }

    #[test]
    fn a_pre_release_waits() {
        let ready = slots(&["1.0", "2.0.0-rc.1", "2.0~rc1"]);
        assert_eq!(automatic(&ready, &rules(None)).map(ToString::to_string).as_deref(), Some("1.0"));
        assert_eq!(why_not(&ready[1].slot, &ready, &rules(None)), Some(NotLive::PreRelease));
    }

    #[test]
    fn what_would_go_waits_for_the_end_of_a_pause_and_nothing_else_is_said_to() {
        let mark = v("2.0");
        let paused = Rules { paused: Some(Path::new("/state/paused")), ..rules(Some(&mark)) };
        let ready = slots(&["2.0", "2.1"]);
        assert_eq!(automatic(&ready, &paused), None);
        let told = why_not(&ready[1].slot, &ready, &paused).map(|why| why.to_string());
        assert_eq!(told.as_deref(), Some("the app is paused: it waits until /state/paused is removed"));
        assert_eq!(why_not(&ready[0].slot, &ready, &paused), Some(NotLive::BelowMark(mark.clone())));
    }

    #[test]
    fn what_would_go_waits_until_the_app_is_unpinned() {
        let (mark, at) = (v("2.0"), crate::model::Timestamp::from_unix_millis(0));
        let pin = Pin { by: "ann".to_owned(), at, message: Some("sale".to_owned()) };
        let pinned = Rules { pinned: Some(&pin), ..rules(Some(&mark)) };
        let ready = slots(&["2.0", "2.1"]);
        assert_eq!(automatic(&ready, &pinned), None);
        let told = why_not(&ready[1].slot, &ready, &pinned).map(|why| why.to_string());
        assert_eq!(told.as_deref(), Some("the app is pinned by ann: sale; it waits for `slotctl unpin`"));
        assert_eq!(why_not(&ready[0].slot, &ready, &pinned), Some(NotLive::BelowMark(mark.clone())));
    }

    #[test]
    fn what_would_go_waits_for_the_end_of_a_freeze_which_is_told_before_a_pin() {
        let at = crate::model::Timestamp::from_unix_millis(1_763_700_000_123);
        let freeze = Freeze { by: "ann".to_owned(), at, until: Some(at), message: Some("sale".to_owned()), all: false };
        let pin = Pin { by: "bob".to_owned(), at, message: None };
        let ready = slots(&["2.0"]);
        let told = |freeze: &Freeze| {
            let frozen = Rules { frozen: Some(freeze), pinned: Some(&pin), ..rules(None) };
            assert_eq!(automatic(&ready, &frozen), None);
            why_not(&ready[0].slot, &ready, &frozen).map(|why| why.to_string()).expect("a reason")
        };
        let until = "the app is frozen by ann until 2025-11-21T04:40:00Z: sale; it waits for the end of that";
        assert_eq!(told(&freeze), until);
        let endless = Freeze { until: None, ..freeze };
        assert_eq!(told(&endless), "the app is frozen by ann: sale; it waits for `slotctl unfreeze`");
    }

    #[test]
    fn a_quarantined_one_and_manual_mode_wait() {
        let mut ready = slots(&["1.0", "2.0"]);
        ready[1].quarantined = true;
        assert_eq!(automatic(&ready, &rules(None)).map(ToString::to_string).as_deref(), Some("1.0"));
        let manual = Rules { deploy: DeployMode::Manual, ..rules(None) };
        assert_eq!(automatic(&ready, &manual), None);
        assert_eq!(why_not(&ready[0].slot, &ready, &manual), Some(NotLive::Manual));
    }
}
