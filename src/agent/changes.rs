//! In what settings and slots differ.

use std::collections::BTreeMap;

use crate::config::AppSettings;
use crate::config::keys::{self, Entry};
use crate::control::api::Change;
use crate::model::setting::{Inputs, Used};
use crate::model::slot::SlotRecord;
use crate::model::{Class, Fault, SlotName};
use crate::slots::SlotStore;

/// In what a slot with these inputs, brought live by these settings, would differ from what `slot` has, or from what the
/// deployment that brought it live went by.
pub(super) fn changes_since(
    settings: &AppSettings,
    store: &SlotStore,
    slot: &SlotName,
    inputs: &Inputs,
) -> Result<Vec<Change>, Fault> {
    let record = store.record(slot).map_err(|error| error.fault())?;
    let used = store.used(slot);
    let held = has(&record, used.as_ref());
    let (as_set, mut set) = (settings.as_set(), keys::of_inputs(inputs));
    if used.is_some() {
        // A key of a later slotd that nobody has said anything about is no change.
        let is_known = |key: &str| held.iter().any(|held| held.key == key) || settings.origins.get(key).is_some();
        let next = |key: &str| is_used(key) && is_known(key);
        set.extend(keys::entries(&as_set).into_iter().filter(|entry| next(&entry.key)));
    }
    let mut changes = changes(held, set);
    // What belongs to the way by which users come waits with it.
    for change in changes.iter_mut().filter(|change| settings.waits_with_the_way(&change.key)) {
        change.class = Class::OwnStep;
    }
    Ok(changes)
}

/// Whether a deployment goes by it, rather than what a slot has for good, or what holds at once.
fn is_used(key: &str) -> bool {
    matches!(keys::class_of(key), Class::NextDeployment | Class::OwnStep)
}

/// What a slot goes by.
pub(super) fn has(record: &SlotRecord, used: Option<&Used>) -> Vec<Entry> {
    let used = used.iter().flat_map(|used| &used.settings);
    let used = used.filter(|(key, _)| is_used(key));
    let used = used.map(|(key, value)| Entry { key: key.clone(), value: value.clone() });
    used.chain(keys::of_inputs(&record.inputs())).collect()
}

/// How two sides differ in what doesn't hold at once anyway.
pub(super) fn changes(from: Vec<Entry>, to: Vec<Entry>) -> Vec<Change> {
    let by_key = |entries: Vec<Entry>| {
        let entries = entries.into_iter().filter(|entry| keys::class_of(&entry.key) != Class::AtOnce);
        entries.map(|entry| (entry.key, entry.value)).collect::<BTreeMap<_, _>>()
    };
    let (mut from, to) = (by_key(from), by_key(to));
    let mut changes = Vec::new();
    for (key, value) in to {
        let before = from.remove(&key);
        if before.as_ref() != Some(&value) {
            changes.push((key, before, Some(value)));
        }
    }
    changes.extend(from.into_iter().map(|(key, value)| (key, Some(value), None)));
    changes.sort();
    let change = |(key, from, to): (String, _, _)| Change { class: keys::class_of(&key), hidden: false, key, from, to };
    changes.into_iter().map(change).collect()
}

/// The same change, without a value that only those who may operate are shown.
pub(super) fn hidden(change: Change) -> Change {
    match keys::is_secret(&change.key) {
        true => Change { from: None, to: None, hidden: true, ..change },
        false => change,
    }
}
