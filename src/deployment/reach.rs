//! By which way users come to a slot: `slots/SLOT/route.json`, and what of the settings is in force by it.

use crate::config::AppSettings;
use crate::config::reach::Reach;
use crate::durable::{read_json, write_json};
use crate::model::{Fault, SlotName};
use crate::slots::SlotStore;

/// The way of a slot; `None` where none was noted, and where it can't be read: then what is set holds.
pub fn read(store: &SlotStore, slot: &SlotName) -> Option<Reach> {
    let path = store.layout().slot_route(slot);
    read_json(&path).unwrap_or_else(|error| {
        tracing::error!(SLOTD_APP = store.layout().app().as_str(), "by which way users come isn't known: {error}");
        None
    })
}

/// Why the way of a slot isn't known, though it was noted.
pub fn trouble(store: &SlotStore, slot: &SlotName) -> Option<Fault> {
    read_json::<Reach>(&store.layout().slot_route(slot)).err().map(|error| error.fault())
}

/// Notes it, durably.
pub fn write(store: &SlotStore, slot: &SlotName, reach: &Reach) -> Result<(), Fault> {
    if read(store, slot).as_ref() == Some(reach) {
        return Ok(());
    }
    write_json(&store.layout().slot_route(slot), reach).map_err(|error| error.fault())
}

/// The settings that are in force: as set, but users come by the way that the live slot has.
pub fn in_force(set: &AppSettings, store: &SlotStore) -> AppSettings {
    let live = store.links().ok().and_then(|links| links.current.slot().cloned());
    set.clone().by(live.and_then(|slot| read(store, &slot)))
}
