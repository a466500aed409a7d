//! What `current` says: a slot's name, and how many instances of which template.
//!
//! The state folder belongs to slotd, the gate is root: so nothing there is trusted further than a name and a
//! count go. Below the app's folder the link is read as text and never followed, every step is opened without
//! following links, and what is read has a bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;

use crate::model::slot::{SLOT_FORMAT, UnitCount};
use crate::model::{AppName, Layout, Link, SlotName, Template, UnitName};

/// Longest `slot.json` that is read; it holds an environment and messages, and is a few KiB as a rule.
pub const MAX_RECORD_BYTES: u64 = 1 << 20;

/// Most instances of one template that are believed.
pub const MAX_INSTANCES: u32 = 256;

/// The live slot, as far as the gate believes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its name.
    pub slot: SlotName,
    /// Its templates and counts, as `slot.json` has them.
    pub units: Vec<UnitCount>,
}

/// Why `current` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CurrentError {
    /// A file or folder can't be read.
    #[error("can't read {}: {cause}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why; "too many levels of symbolic links" where a link stands in the way.
        cause: io::Error,
    },
    /// The link's text is not `slots/NAME`.
    #[error("{} is {text:?}, not slots/NAME", .path.display())]
    LinkText {
        /// The link.
        path: PathBuf,
        /// What it says.
        text: String,
    },
    /// `slot.json` is too long, no JSON, of another format, app or slot, or counts nonsense.
    #[error("{} is not the record of a slot: {what}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// `slot.json` names a template that the administrator's unit doesn't.
    #[error("slot {slot} wants {template}, which the gate's unit doesn't list")]
    Template {
        /// The slot.
        slot: SlotName,
        /// The template.
        template: Template,
    },
}

/// The part of `slot.json` that the gate reads. Other fields are later versions' or slotd's business.
#[derive(Deserialize)]
struct Record {
    format: u32,
    app: AppName,
    slot: SlotName,
    units: Vec<UnitCount>,
}

/// Reads `current` and its record; `None` if there is no such link: nothing is deployed.
pub fn read(layout: &Layout) -> Result<Option<Live>, CurrentError> {
    let root_path = layout.root();
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause: Errno| CurrentError::Io { path, cause: cause.into() }
    };
    let root = match rustix::fs::open(&root_path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(None),
        Err(cause) => return Err(io(&root_path)(cause)),
    };
    let link = layout.link(Link::Current);
    let text = match rustix::fs::readlinkat(&root, Link::Current.as_str(), Vec::new()) {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::INVAL) => return Err(CurrentError::LinkText { path: link, text: "no symbolic link".into() }),
        Err(cause) => return Err(io(&link)(cause)),
    };
    // One spelling only: a name that is encoded otherwise would be another folder.
    let slot = text.strip_prefix("slots/").and_then(|name| {
        let slot: SlotName = name.parse().ok()?;
        (slot.encoded() == name).then_some(slot)
    });
    let slot = slot.ok_or(CurrentError::LinkText { path: link, text })?;

    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let slots = rustix::fs::openat(&root, "slots", folder, Mode::empty()).map_err(io(&layout.slots()))?;
    let opened = rustix::fs::openat(&slots, slot.encoded(), folder, Mode::empty()).map_err(io(&layout.slot(&slot)))?;
    let path = layout.slot(&slot).join("slot.json");
    // Without NONBLOCK the open of a FIFO in the file's place would wait for a writer.
    let plain = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&opened, "slot.json", plain, Mode::empty()).map_err(io(&path))?;
    let record = read_bounded(File::from(file), MAX_RECORD_BYTES)
        .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).map_err(io::Error::from))
        .map_err(|error| CurrentError::Record { path: path.clone(), what: error.to_string() })?;
    believe(layout.app(), slot, record).map(Some).map_err(|what| CurrentError::Record { path, what })
}

/// What `link` says now, as text; for telling whether it changed.
pub fn link_text(layout: &Layout) -> Option<Vec<u8>> {
    let text = rustix::fs::readlink(layout.link(Link::Current), Vec::new()).ok()?;
    Some(text.into_bytes())
}

/// Whether anything stands at `path`, a link included.
pub fn exists(path: &Path) -> bool {
    rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Reads a plain file of at most `max` bytes.
pub fn read_bounded(file: File, max: u64) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!("longer than {max} bytes"))),
        false => Ok(bytes),
    }
}

impl Live {
    /// The units to start, one batch a template, in the order of `templates`. A template that the slot doesn't count
    /// has an empty batch: the slot is older than it.
    pub fn batches(&self, templates: &[Template]) -> Result<Vec<Vec<UnitName>>, CurrentError> {
        if let Some(unit) = self.units.iter().find(|unit| !templates.contains(&unit.name)) {
            return Err(CurrentError::Template { slot: self.slot.clone(), template: unit.name.clone() });
        }
        Ok(templates.iter().map(|template| self.units_of(|unit| unit.name == *template)).collect())
    }

    /// All units of the slot.
    pub fn all_units(&self) -> Vec<UnitName> {
        self.units_of(|_| true)
    }

    fn units_of(&self, which: impl Fn(&UnitCount) -> bool) -> Vec<UnitName> {
        let counted = self.units.iter().filter(|unit| which(unit));
        counted
            .flat_map(|unit| self.slot.instances(unit.instances).into_iter().map(|instance| unit.name.unit(&instance)))
            .collect()
    }
}

fn believe(app: &AppName, slot: SlotName, record: Record) -> Result<Live, String> {
    if record.format != SLOT_FORMAT {
        return Err(format!("its format is {}, this slotd-gate reads {SLOT_FORMAT}", record.format));
    }
    if record.app != *app || record.slot != slot {
        return Err(format!("it is of slot {} of app {}", record.slot, record.app));
    }
    if record.units.is_empty() {
        return Err("it has no units".into());
    }
    for (index, unit) in record.units.iter().enumerate() {
        if !(1..=MAX_INSTANCES).contains(&unit.instances) {
            return Err(format!("{} instances of {}", unit.instances, unit.name));
        }
        if record.units[..index].iter().any(|other| other.name == unit.name) {
            return Err(format!("{} stands there twice", unit.name));
        }
    }
    Ok(Live { slot, units: record.units })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::gate::hold::tests::World;

    fn names(units: &[UnitName]) -> Vec<&str> {
        units.iter().map(UnitName::as_str).collect()
    }

    #[test]
    fn the_record_gives_counts_and_the_gate_the_order() {
        let world = World::new();
        world.deploy("1.4.2+b5", &[("worker@", 1), ("web@", 2)]);
        let live = read(&world.layout()).expect("readable").expect("deployed");
        let templates = ["web@", "timer@", "worker@"].map(|name| name.parse().expect("template"));
        let batches = live.batches(&templates).expect("known templates");
        assert_eq!(names(&batches[0]), ["web@1.4.2@bb5.service", "web@1.4.2@bb5@2.service"]);
        assert!(batches[1].is_empty());
        assert_eq!(names(&batches[2]), ["worker@1.4.2@bb5.service"]);
    }

    #[test]
    fn nothing_deployed_is_no_error() {
        let world = World::new();
        assert_eq!(read(&world.layout()).expect("an app without a link"), None);
        std::fs::remove_dir_all(world.layout().root()).expect("remove");
        assert_eq!(read(&world.layout()).expect("an app without a folder"), None);
    }

    #[test]
    fn a_template_that_the_administrator_did_not_list_is_refused() {
        let world = World::new();
        world.deploy("1", &[("web@", 1), ("sshd@", 1)]);
        let live = read(&world.layout()).expect("readable").expect("deployed");
        let error = live.batches(&["web@".parse().expect("template")]).expect_err("refused").to_string();
        assert!(error.contains("sshd@, which the gate's unit doesn't list"), "{error}");
    }

    #[test]
    fn links_that_are_not_slots_name_are_refused() {
        for text in ["../../etc", "slots/", "slots/1/..", "/var/lib", "slots/./1", "slots/1+2", "slots/1@2", "1"] {
            let world = World::new();
            world.deploy("1", &[("web@", 1)]);
            world.link_current(text);
            let error = read(&world.layout()).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("not slots/NAME"), "{error}");
        }
        let world = World::new();
        std::fs::write(world.layout().link(Link::Current), "slots/1").expect("a file");
        assert!(read(&world.layout()).expect_err("a file").to_string().contains("no symbolic link"));
    }

    #[test]
    fn no_other_link_is_followed() {
        let elsewhere = World::new();
        elsewhere.deploy("1", &[("web@", 1)]);
        let there = elsewhere.layout();

        let world = World::new();
        world.link_current("slots/1");
        let here = world.layout();
        symlink(there.slot(&"1".parse().expect("slot")), here.slot(&"1".parse().expect("slot"))).expect("link");
        assert!(matches!(read(&here), Err(CurrentError::Io { path, .. }) if path.ends_with("slots/1")));

        std::fs::remove_dir_all(here.slots()).expect("remove");
        symlink(there.slots(), here.slots()).expect("link");
        assert!(matches!(read(&here), Err(CurrentError::Io { path, .. }) if path.ends_with("slots")));

        std::fs::remove_file(here.slots()).expect("remove");
        let slot = here.slot(&"1".parse().expect("slot"));
        std::fs::create_dir_all(&slot).expect("folder");
        symlink(there.slots().join("1/slot.json"), slot.join("slot.json")).expect("link");
        assert!(matches!(read(&here), Err(CurrentError::Io { path, .. }) if path.ends_with("slot.json")));
    }

    #[test]
    fn records_that_are_none() {
        let good = r#"{"format":1,"app":"web","slot":"1","units":[{"name":"web@","instances":1}]}"#;
        for (from, to, words) in [
            ("", "", ""),
            (r#""format":1"#, r#""format":2"#, "its format is 2"),
            (r#""web","#, r#""api","#, "of app api"),
            (r#""slot":"1""#, r#""slot":"2""#, "slot 2"),
            (r#"{"name":"web@","instances":1}"#, "", "no units"),
            (r#""instances":1"#, r#""instances":0"#, "0 instances"),
            (r#""instances":1"#, r#""instances":257"#, "257 instances"),
            (r#"[{"#, r#"[{"name":"web@","instances":1},{"#, "twice"),
            (r#""web@""#, r#""../web@""#, "no unit template"),
            ("{", "", "invalid type"),
        ] {
            let world = World::new();
            world.deploy("1", &[("web@", 1)]);
            let path = world.layout().slots().join("1/slot.json");
            std::fs::write(&path, good.replacen(from, to, 1)).expect("write");
            match (read(&world.layout()), words) {
                (Ok(_), "") => {}
                (Err(error), words) => assert!(error.to_string().contains(words), "{error}"),
                (Ok(_), _) => panic!("{to} was believed"),
            }
        }
    }

    #[test]
    fn a_record_without_end_and_a_fifo_are_refused() {
        let world = World::new();
        world.deploy("1", &[("web@", 1)]);
        let path = world.layout().slots().join("1/slot.json");
        std::fs::write(&path, vec![b' '; MAX_RECORD_BYTES as usize + 1]).expect("write");
        assert!(read(&world.layout()).expect_err("too long").to_string().contains("longer than"));
        std::fs::remove_file(&path).expect("remove");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
        assert!(read(&world.layout()).expect_err("a FIFO").to_string().contains("not a plain file"));
    }
}
