//! `current`, `fallback` and `next`: three symbolic links, read without following and moved without a gap.
//!
//! Every verb asks for what is, not for what was done: said twice it does nothing the second time. Once
//! `current` exists there is no instant without it.

use std::io;
use std::path::Path;

use crate::durable::{exchange, remove_link, rename_noreplace, rename_over, symlink_atomic};
use crate::model::{Link, SlotName};

use super::error::SlotError;
use super::store::{SLOT_FILE, SlotStore};

/// The three links, as they stood at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// The live slot.
    pub current: LinkState,
    /// The one to go back to.
    pub fallback: LinkState,
    /// The one on its way.
    pub next: LinkState,
}

/// What a link names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// There is no link.
    Absent,
    /// Something is there that names no slot: its text, or what it is instead of a link.
    Dangling(String),
    /// A slot that is there, with its record.
    Slot(SlotName),
}

impl Links {
    /// One of them.
    pub fn get(&self, link: Link) -> &LinkState {
        match link {
            Link::Current => &self.current,
            Link::Fallback => &self.fallback,
            Link::Next => &self.next,
        }
    }

    /// Whether one of them has the name of `slot` in it, be the slot whole or not.
    pub fn names(&self, slot: &SlotName) -> bool {
        Link::ALL.iter().any(|link| self.get(*link).meant().as_ref() == Some(slot))
    }
}

impl LinkState {
    /// The slot, if it names one.
    pub fn slot(&self) -> Option<&SlotName> {
        match self {
            LinkState::Slot(slot) => Some(slot),
            LinkState::Absent | LinkState::Dangling(_) => None,
        }
    }

    /// The slot whose name is in it, be the slot whole or not.
    pub fn meant(&self) -> Option<SlotName> {
        match self {
            LinkState::Slot(slot) => Some(slot.clone()),
            LinkState::Dangling(text) => slot_in(Path::new(text)),
            LinkState::Absent => None,
        }
    }
}

impl SlotStore {
    /// What the links name now.
    pub fn links(&self) -> Result<Links, SlotError> {
        Ok(Links {
            current: self.link(Link::Current)?,
            fallback: self.link(Link::Fallback)?,
            next: self.link(Link::Next)?,
        })
    }

    /// What one link names now.
    pub fn link(&self, link: Link) -> Result<LinkState, SlotError> {
        let path = self.layout.link(link);
        let target = match std::fs::read_link(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LinkState::Absent),
            // EINVAL: it is there and no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Ok(LinkState::Dangling("not a symbolic link".to_owned()));
            }
            Err(source) => {
                let source = crate::durable::DurableError::Io { action: "read the link", path, source };
                return Err(SlotError::disk("tell what is", link.as_str())(source));
            }
        };
        Ok(match slot_in(&target).filter(|slot| self.has_record(slot)) {
            Some(slot) => LinkState::Slot(slot),
            None => LinkState::Dangling(target.to_string_lossy().into_owned()),
        })
    }

    /// `next` names `slot`.
    pub fn link_next(&self, slot: &SlotName) -> Result<(), SlotError> {
        self.set_link(Link::Next, slot)
    }

    /// A link names `slot`, whatever it named before. It takes a new inode; what must work on a full disk is
    /// [`SlotStore::ensure_current`] of a slot that another link names.
    pub fn set_link(&self, link: Link, slot: &SlotName) -> Result<(), SlotError> {
        if !self.has_record(slot) {
            return Err(SlotError::Unknown(slot.clone()));
        }
        if self.link(link)?.slot() == Some(slot) {
            return Ok(());
        }
        let set = symlink_atomic(&self.layout.link_target(slot), &self.layout.link(link));
        set.map_err(SlotError::disk("link", format!("{} to {slot}", link.as_str())))
    }

    /// `current` names `slot`: by exchange with `next` or `fallback` if one of them does, which needs no room on
    /// the disk, and by way of a new `next` otherwise. So what was current stays named by a link.
    pub fn ensure_current(&self, slot: &SlotName) -> Result<(), SlotError> {
        let links = self.links()?;
        if links.current.slot() == Some(slot) {
            return Ok(());
        }
        let current_is_there = links.current != LinkState::Absent;
        if links.next.slot() != Some(slot) {
            if current_is_there && links.fallback.slot() == Some(slot) {
                return self.swap_current(Link::Fallback);
            }
            self.link_next(slot)?;
        }
        if current_is_there {
            return self.swap_current(Link::Next);
        }
        let (next, current) = (self.layout.link(Link::Next), self.layout.link(Link::Current));
        rename_noreplace(&next, &current).map_err(SlotError::disk("make current", slot.to_string()))
    }

    /// `next`, after the exchange the slot that was left, becomes `fallback`. Without `next` nothing is done; one that
    /// names what is current, or nothing, is dropped: a fallback is a way back.
    pub fn retire_next(&self) -> Result<(), SlotError> {
        let links = self.links()?;
        match &links.next {
            LinkState::Absent => Ok(()),
            LinkState::Slot(slot) if links.current.slot() != Some(slot) => {
                let (next, fallback) = (self.layout.link(Link::Next), self.layout.link(Link::Fallback));
                rename_over(&next, &fallback).map_err(SlotError::disk("make the fallback", slot.to_string()))
            }
            LinkState::Slot(_) | LinkState::Dangling(_) => self.drop_next(),
        }
    }

    /// There is no `next`.
    pub fn drop_next(&self) -> Result<(), SlotError> {
        remove_link(&self.layout.link(Link::Next)).map(drop).map_err(SlotError::disk("drop the link", "next"))
    }

    fn swap_current(&self, with: Link) -> Result<(), SlotError> {
        let (link, current) = (self.layout.link(with), self.layout.link(Link::Current));
        exchange(&link, &current).map_err(SlotError::disk("exchange current and", with.as_str()))
    }

    fn has_record(&self, slot: &SlotName) -> bool {
        let is = |path: &Path, kind: fn(&std::fs::Metadata) -> bool| {
            std::fs::symlink_metadata(path).is_ok_and(|meta| kind(&meta))
        };
        let folder = self.layout.slot(slot);
        is(&folder, std::fs::Metadata::is_dir) && is(&folder.join(SLOT_FILE), std::fs::Metadata::is_file)
    }
}

/// The slot that a link's text names, in the one spelling that slotd writes.
fn slot_in(target: &Path) -> Option<SlotName> {
    let name = target.to_str()?.strip_prefix("slots/")?;
    let slot: SlotName = name.parse().ok()?;
    (slot.encoded() == name).then_some(slot)
}
