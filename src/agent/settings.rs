//! What is set, and how two sides differ: what is live from what is set, or two slots from one another.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use similar::TextDiff;

use crate::artifact::manifest::{Entry as File, Kind, Manifest};
use crate::config::chosen::Chosen;
use crate::config::keys;
use crate::config::origins::Origin as Place;
use crate::control::api::{ApiError, Change, DiffQuery, Difference, FileChange, How, Origin, Setting, UnitChange};
use crate::model::{Code, Fault, SlotName, SlotRecord};
use crate::slots::{SlotStore, unit_digest};
use crate::units::{UnitControl, UnitStatus};

use super::ask::View;
use super::changes::{changes, changes_since, has, hidden};

/// Files up to this size are compared line by line.
const MOST_TEXT: u64 = 256 * 1024;

/// The most that the lines of all files have together.
const MOST_LINES: usize = 1024 * 1024;

/// Every setting with its origin.
pub(super) fn settings(view: &View, reveal: bool) -> Vec<Setting> {
    let chosen = Chosen::read(&view.store.layout().chosen()).unwrap_or_default();
    let setting = |entry: keys::Entry| Setting {
        class: keys::class_of(&entry.key),
        origin: match view.settings.origins.get(&entry.key) {
            None => Origin::Default,
            Some(Place::Defaults) => Origin::Daemon,
            Some(Place::File(file, line)) => Origin::File { file: file.display().to_string(), line: *line },
            Some(Place::Verb) => Origin::Verb { said: chosen.said(&entry.key).cloned() },
        },
        value: (reveal || !keys::is_secret(&entry.key)).then_some(entry.value),
        key: entry.key,
    };
    keys::entries(&view.settings.as_set()).into_iter().map(setting).collect()
}

/// What `diff` shows.
pub(super) async fn difference<U: UnitControl>(
    view: &View,
    units: &U,
    query: DiffQuery,
) -> Result<Difference, ApiError> {
    let DiffQuery { from, to, text, reveal } = query;
    let app = view.store.layout().app().clone();
    let show = |changes: Vec<Change>| match reveal {
        true => changes,
        false => changes.into_iter().map(hidden).collect(),
    };
    let unknown = |slot: &SlotName| {
        ApiError::new(Code::UnknownSlot, format!("{app} has no slot {slot}")).next(format!("slotctl list {app}"))
    };
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (None, None) => {
            let links = view.store.links().map_err(|error| error.fault())?;
            let current = links.current.slot().cloned().ok_or_else(|| {
                let message = format!("nothing of {app} is live that could differ from what is set");
                ApiError::new(Code::NothingToGoBackTo, message).next(format!("slotctl cat {app}"))
            })?;
            let settings = show(changes_since(&view.settings, &view.store, &current, &keys::inputs(&view.settings))?);
            let units = changed_units(&view.store, units, &current).await?;
            return Ok(Difference { from: current, to: None, settings, files: Vec::new(), releases: None, units });
        }
        _ => {
            let message = "two slots are compared, or what is live with what is set".to_owned();
            return Err(ApiError::new(Code::RequestInvalid, message).next(format!("slotctl diff {app}")));
        }
    };
    for slot in [&from, &to] {
        view.store.slot(slot).ok_or_else(|| unknown(slot))?;
    }
    let store = std::sync::Arc::clone(&view.store);
    let (a, b) = (from.clone(), to.clone());
    let compared = tokio::task::spawn_blocking(move || -> Result<_, Fault> {
        let records = (record(&store, &a)?, record(&store, &b)?);
        let settings = changes(has(&records.0, store.used(&a).as_ref()), has(&records.1, store.used(&b).as_ref()));
        Ok((settings, files(&store, &records.0, &records.1, text)?, records))
    });
    let compared = compared.await.map_err(|error| Fault::new(Code::Internal, format!("it was torn: {error}")))?;
    let (settings, files, records) = compared?;
    let releases = (records.0.release, records.1.release);
    let releases = (releases.0 != releases.1).then(|| Box::new(releases));
    Ok(Difference { from, to: Some(to), settings: show(settings), files, releases, units: Vec::new() })
}

fn record(store: &SlotStore, slot: &SlotName) -> Result<SlotRecord, Fault> {
    store.record(slot).map_err(|error| error.fault())
}

/// The first instance of each unit of a slot, as systemd has or would have it.
pub(super) async fn statuses<U: UnitControl>(
    store: &SlotStore,
    units: &U,
    slot: &SlotName,
) -> Result<Vec<UnitStatus>, Fault> {
    let mut statuses = Vec::new();
    for count in record(store, slot)?.units {
        let status = units.status(&count.name.unit(&slot.instance(1))).await;
        statuses.push(status.map_err(|error| Fault::new(Code::UnitControl, error.to_string()))?);
    }
    Ok(statuses)
}

/// The units whose files aren't those that the live slot was started by, or built by.
async fn changed_units<U: UnitControl>(
    store: &SlotStore,
    units: &U,
    current: &SlotName,
) -> Result<Vec<UnitChange>, Fault> {
    let used = store.used(current).unwrap_or_default();
    let record = record(store, current)?;
    let mut seen: Vec<_> = record.units.iter().map(|count| (&count.name, used.units.get(&count.name))).collect();
    seen.extend(record.build.as_ref().map(|built| (&built.inputs.unit, Some(&built.text))));
    let mut changed = Vec::new();
    for (template, before) in seen {
        let status = units.status(&template.unit(&current.instance(1))).await;
        let status = status.map_err(|error| Fault::new(Code::UnitControl, error.to_string()))?;
        let is_other = before.is_some_and(|before| unit_digest(&status.files).as_ref() != Some(before));
        if is_other || status.need_reload {
            let unit = template.to_string();
            changed.push(UnitChange { unit, changed: is_other, need_reload: status.need_reload });
        }
    }
    Ok(changed)
}

/// The files in which two trees differ, by their content manifests; with their lines, where those are wanted.
pub(super) fn files(
    store: &SlotStore,
    from: &SlotRecord,
    to: &SlotRecord,
    text: bool,
) -> Result<Vec<FileChange>, Fault> {
    if from.tree == to.tree {
        return Ok(Vec::new());
    }
    let entries = |record: &SlotRecord| -> Result<BTreeMap<String, File>, Fault> {
        let path = store.layout().manifest(&record.tree);
        let failed = |why: String| Fault::new(Code::SlotTampered, format!("the manifest of {}: {why}", record.slot));
        let bytes = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        Ok(manifest.entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect())
    };
    let (mut before, after) = (entries(from)?, entries(to)?);
    let mut changes = Vec::new();
    for (path, file) in after {
        match before.remove(&path) {
            None => changes.push(FileChange { path, how: How::Added, from: None, to: size(&file), text: None }),
            Some(old) => {
                let how = match (content(&old.kind), content(&file.kind)) {
                    (a, b) if a != b => How::Changed,
                    _ if is_executable(&old.kind) != is_executable(&file.kind) => How::Mode,
                    _ => continue,
                };
                changes.push(FileChange { path, how, from: size(&old), to: size(&file), text: None });
            }
        }
    }
    let removed = before.into_iter().filter(|(_, file)| !matches!(file.kind, Kind::Dir));
    changes.extend(removed.map(|(path, file)| {
        let from = size(&file);
        FileChange { path, how: How::Removed, from, to: None, text: None }
    }));
    changes.retain(|change| change.how != How::Added || change.to.is_some());
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    if text {
        let trees = (store.layout().tree(&from.tree), store.layout().tree(&to.tree));
        let mut room = MOST_LINES;
        for change in changes.iter_mut().filter(|change| change.how != How::Mode) {
            let Some(lines) = lines(&trees.0, &trees.1, change) else { continue };
            if lines.len() > room {
                break;
            }
            room -= lines.len();
            change.text = Some(lines);
        }
    }
    Ok(changes)
}

/// Bytes of a file, or of a link's target; a folder has none.
fn size(file: &File) -> Option<u64> {
    match &file.kind {
        Kind::File { size, .. } => Some(*size),
        Kind::Dir => None,
        Kind::Symlink { target } => Some(target.len() as u64),
    }
}

fn is_executable(kind: &Kind) -> bool {
    matches!(kind, Kind::File { executable: true, .. })
}

/// What is compared of an entry: its bytes, not its mode or time.
fn content(kind: &Kind) -> String {
    match kind {
        Kind::File { sha256, .. } => sha256.to_string(),
        Kind::Dir => "a folder".to_owned(),
        Kind::Symlink { target } => format!("-> {target}"),
    }
}

/// The lines that differ; `None` where a side is no text, or too large.
fn lines(from: &Path, to: &Path, change: &FileChange) -> Option<String> {
    let side = |tree: &Path, size: Option<u64>| match size {
        Some(size) if size > MOST_TEXT => None,
        Some(_) => read_text(&tree.join(&change.path)),
        None => Some(String::new()),
    };
    let (before, after) = (side(from, change.from)?, side(to, change.to)?);
    let diff = TextDiff::from_lines(&before, &after);
    let (a, b) = (format!("a/{}", change.path), format!("b/{}", change.path));
    Some(diff.unified_diff().header(&a, &b).to_string())
}

fn read_text(path: &Path) -> Option<String> {
    // A link's target is shown by its bytes; what it leads to is another file.
    let file = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mut text = String::new();
    let opened = std::fs::File::open(path).ok()?;
    opened.take(file.len().min(MOST_TEXT)).read_to_string(&mut text).ok()?;
    (!text.contains('\0')).then_some(text)
}
