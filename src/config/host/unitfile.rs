//! Unit files as systemd reads them: search path, drop-ins, continuation lines; each value with its file and line.
//!
//! After systemd.unit(5). It reads what is on disk, not what systemd has loaded: `check` must work before the
//! daemon-reload, and on a machine where nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Where unit files lie, strongest first.
const FOLDERS: [&str; 8] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Longest unit file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The folders of unit files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    root: PathBuf,
    folders: Vec<PathBuf>,
}

/// What was found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A unit, with its drop-ins.
    Unit(UnitFile),
    /// No file of that name.
    Missing,
    /// Masked by this empty file, or link to /dev/null.
    Masked(PathBuf),
}

/// A unit: its file and drop-ins, read in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// The unit's own file.
    pub path: PathBuf,
    entries: Vec<Entry>,
    sections: Vec<Section>,
    ignored: Vec<Ignored>,
}

/// A line that is neither heading, `KEY=VALUE` nor comment: systemd warns and goes on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// What stands there.
    pub text: String,
}

/// A line `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without brackets.
    pub section: String,
    /// Left of the `=`.
    pub key: String,
    /// Right of it, continuation lines joined; empty where it resets a list.
    pub value: String,
    /// The file it stands in.
    pub file: PathBuf,
    /// From 1; of continued lines the first.
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    name: String,
    line: u32,
}

/// A file or folder that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read {}: {cause}", .path.display())]
pub struct UnitFileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub cause: io::Error,
}

impl SearchPath {
    /// systemd's, below `root` (`/` on a live host).
    pub fn below(root: &Path) -> Self {
        let folders = FOLDERS.iter().map(|folder| root.join(folder.trim_start_matches('/'))).collect();
        SearchPath { root: root.to_owned(), folders }
    }

    /// The text of a file of the same host that is no unit; `None` where it isn't there or can't be read.
    pub fn host_file(&self, path: &str) -> Option<String> {
        read(&self.root.join(path.trim_start_matches('/'))).ok()
    }

    /// The names of all units that have a file; a folder that can't be listed has none.
    pub fn units(&self) -> BTreeSet<String> {
        let types = [".service", ".socket", ".timer", ".target", ".path", ".mount"];
        let files = self.entries().filter(|path| !path.is_dir());
        let names = files.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        names.filter(|name| types.iter().any(|end| name.ends_with(end))).collect()
    }

    /// The units that `unit` requires by a link in its folder `.requires`, with that folder.
    pub fn required_by_link(&self, unit: &str) -> Vec<(PathBuf, String)> {
        let folders = self.folders.iter().map(|folder| folder.join(format!("{unit}.requires")));
        let links = folders.flat_map(|folder| std::fs::read_dir(&folder).into_iter().flatten().flatten());
        let named =
            links.filter_map(|link| Some((link.path().parent()?.to_owned(), link.file_name().into_string().ok()?)));
        named.collect()
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let listed = self.folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
        listed.flatten().flatten().map(|entry| entry.path())
    }

    /// Reads a unit and its drop-ins.
    pub fn read(&self, unit: &str) -> Result<Found, UnitFileError> {
        let Some(path) =
            self.folders.iter().map(|folder| folder.join(unit)).find(|path| path.symlink_metadata().is_ok())
        else {
            return Ok(Found::Missing);
        };
        let text = read(&path)?;
        if text.is_empty() {
            return Ok(Found::Masked(path));
        }
        let mut file = UnitFile::parse(path, &text);
        for drop_in in self.drop_ins(unit)? {
            file.take(&drop_in, &read(&drop_in)?);
        }
        Ok(Found::Unit(file))
    }

    /// By file name; of equal names the one whose folder is stronger.
    fn drop_ins(&self, unit: &str) -> Result<impl Iterator<Item = PathBuf>, UnitFileError> {
        let mut by_name: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
        for folder_name in drop_in_folders(unit) {
            for folder in &self.folders {
                let folder = folder.join(&folder_name);
                let listed = match std::fs::read_dir(&folder) {
                    Ok(listed) => listed,
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                        continue;
                    }
                    Err(cause) => return Err(UnitFileError { path: folder, cause }),
                };
                for entry in listed {
                    let entry = entry.map_err(|cause| UnitFileError { path: folder.clone(), cause })?;
                    if entry.path().extension().is_some_and(|end| end == "conf") {
                        by_name.entry(entry.file_name()).or_insert_with(|| entry.path());
                    }
                }
            }
        }
        Ok(by_name.into_values())
    }
}

impl UnitFile {
    /// A unit of one file.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Self {
        let path = path.into();
        let mut file = UnitFile { path: path.clone(), entries: Vec::new(), sections: Vec::new(), ignored: Vec::new() };
        file.take(&path, text);
        file
    }

    /// The lines that systemd would ignore.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// Every line of the section, in the order read.
    pub fn section(&self, section: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.section == section)
    }

    /// Every line of all files, in the order read.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The value that counts where the last one does; `None` if the last one is empty.
    pub fn last(&self, section: &str, key: &str) -> Option<&Entry> {
        self.section(section).filter(|entry| entry.key == key).last().filter(|entry| !entry.value.is_empty())
    }

    /// The lines that count where all do, an empty one taking back those before it (commands, files, conditions).
    pub fn list(&self, section: &str, key: &str) -> Vec<&Entry> {
        let lines: Vec<&Entry> = self.section(section).filter(|entry| entry.key == key).collect();
        let kept = lines.iter().rposition(|entry| entry.value.is_empty()).map_or(0, |reset| reset + 1);
        lines[kept..].to_vec()
    }

    /// The units that a dependency names, each with its line. Dependencies can't be taken back by an empty line.
    pub fn dependencies(&self, key: &str) -> Vec<(&str, &Entry)> {
        let lines = self.section("Unit").filter(|entry| entry.key == key);
        lines.flat_map(|entry| entry.value.split_whitespace().map(move |name| (name, entry))).collect()
    }

    /// The line of a section's heading in the unit's own file.
    pub fn heading(&self, section: &str) -> Option<u32> {
        self.sections.iter().find(|known| known.name == section).map(|known| known.line)
    }

    fn take(&mut self, path: &Path, text: &str) {
        let mut section = String::new();
        let mut open: Option<(String, u32)> = None;
        for (index, raw) in text.lines().enumerate() {
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let trimmed = raw.trim();
            // Comments may stand between continued lines.
            if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && open.is_none()) {
                continue;
            }
            let (mut line, first) = match open.take() {
                Some((begun, first)) => (begun + " " + trimmed, first),
                None => (trimmed.to_owned(), number),
            };
            if line.ends_with('\\') {
                line.pop();
                open = Some((line.trim_end().to_owned(), first));
                continue;
            }
            self.line(path, &mut section, &line, first);
        }
        if let Some((line, first)) = open {
            self.line(path, &mut section, &line, first);
        }
    }

    fn line(&mut self, path: &Path, section: &mut String, text: &str, line: u32) {
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            *section = name.to_owned();
            if path == self.path {
                self.sections.push(Section { name: name.to_owned(), line });
            }
            return;
        }
        let Some((key, value)) = text.split_once('=').filter(|_| !section.is_empty()) else {
            self.ignored.push(Ignored { file: path.to_owned(), line, text: text.to_owned() });
            return;
        };
        self.entries.push(Entry {
            section: section.clone(),
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            file: path.to_owned(),
            line,
        });
    }
}

/// The names of a unit's drop-in folders, strongest first: its own, its template's, those of its prefixes up to each
/// dash, and its type's.
fn drop_in_folders(unit: &str) -> Vec<String> {
    let (stem, kind) = unit.rsplit_once('.').unwrap_or((unit, "service"));
    let mut names = vec![format!("{unit}.d")];
    let (prefix, at) = match stem.split_once('@') {
        Some((prefix, instance)) => {
            if !instance.is_empty() {
                names.push(format!("{prefix}@.{kind}.d"));
            }
            (prefix, "@")
        }
        None => (stem, ""),
    };
    let dashes = prefix.char_indices().rev().filter(|(index, c)| *c == '-' && index + 1 < prefix.len());
    names.extend(dashes.map(|(index, _)| format!("{}{at}.{kind}.d", &prefix[..=index])));
    names.push(format!("{kind}.d"));
    names
}

/// The text of a file; empty for /dev/null.
fn read(path: &Path) -> Result<String, UnitFileError> {
    use std::io::Read;
    let io = |cause| UnitFileError { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(io)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> UnitFile {
        UnitFile::parse("/x/web.service", text)
    }

    #[test]
    fn values_know_their_line_and_lists_their_resets() {
        let unit = unit(
            "# top\n[Unit]\nAfter = a.service \\\n  # between\n  b.service\nAfter=\n\n[Service]\n; no\nExecStart=/a\n\
             ExecStart=\nExecStart=/b\\\n  c\nUser=web\nUser=\n",
        );
        let after: Vec<_> = unit.dependencies("After").iter().map(|(name, entry)| (*name, entry.line)).collect();
        assert_eq!(after, [("a.service", 3), ("b.service", 3)], "a dependency isn't reset");
        let exec = unit.list("Service", "ExecStart");
        assert_eq!((exec.len(), exec[0].value.as_str(), exec[0].line), (1, "/b c", 12));
        assert_eq!(unit.last("Service", "User"), None);
        assert_eq!(unit.heading("Service"), Some(8));
    }

    #[test]
    fn a_line_that_is_none() {
        for (text, line) in [("[Unit]\nDescription\n", 2), ("User=x\n", 1)] {
            let ignored: Vec<_> = unit(text).ignored().iter().map(|ignored| ignored.line).collect();
            assert_eq!(ignored, [line], "{text}");
        }
    }

    #[test]
    fn drop_ins_come_by_name_and_the_stronger_folder_wins() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, text).expect("write");
        };
        write("usr/lib/systemd/system/my-web@.service", "[Service]\nUser=vendor\n");
        write("etc/systemd/system/my-web@.service", "[Service]\nUser=own\n");
        write("usr/lib/systemd/system/my-web@.service.d/20.conf", "[Service]\nUser=twenty\n");
        write("run/systemd/system/my-web@.service.d/10.conf", "[Service]\nUser=ten\n");
        write("etc/systemd/system/my-@.service.d/20.conf", "[Service]\nUser=prefix\n");
        write("etc/systemd/system/service.d/05.conf", "[Service]\nUser=all\n");
        write("etc/systemd/system/my-web@.service.d/30.txt", "[Service]\nUser=no\n");
        let path = SearchPath::below(root.path());
        let Found::Unit(unit) = path.read("my-web@.service").expect("readable") else { panic!("found") };
        let users: Vec<_> = unit.list("Service", "User").iter().map(|entry| entry.value.as_str()).collect();
        assert_eq!(users, ["own", "all", "ten", "twenty"]);
        assert_eq!(path.read("other.service").expect("readable"), Found::Missing);
    }

    #[test]
    fn masks() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&folder).expect("folder");
        std::os::unix::fs::symlink("/dev/null", folder.join("a.service")).expect("link");
        std::fs::write(folder.join("b.service"), "").expect("write");
        let path = SearchPath::below(root.path());
        for name in ["a.service", "b.service"] {
            assert_eq!(path.read(name).expect("readable"), Found::Masked(folder.join(name)));
        }
    }
}
