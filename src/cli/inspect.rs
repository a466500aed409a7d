//! `inspect`: all that is known of one slot.

use crate::control::api::SlotDetail;
use crate::model::slot::Quarantine;
use crate::model::{AppName, Exit, SlotName, SlotState, Timestamp};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::text::{pin_text, plain, size, when};
use super::why::{JOURNAL_LINES, evidence_lines};

/// `slotctl inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// The slot, or its version
    version: SlotName,
}

/// A fact a line.
pub async fn run(Args { app, version }: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let path = format!("/v1/apps/{app}/slots/{}", version.encoded());
    let detail: SlotDetail = context.client.get(&path).await.during(format!("inspect {app} {version}"))?;
    context.out.document(&detail);
    let out = context.out;
    out.line(format!("{app} {}: {}", detail.info.slot, detail.info.state.word()));
    out.fields(&facts(&detail, Timestamp::now()));
    let fault = match (&detail.info.state, &detail.quarantine) {
        (_, Some(quarantine)) => Some(&quarantine.fault),
        (SlotState::Failed { fault, .. }, None) => Some(fault.as_ref()),
        _ => None,
    };
    if let Some(fault) = fault {
        evidence_lines(fault, JOURNAL_LINES).iter().for_each(|line| out.line(line));
    }
    if detail.quarantine.is_some() {
        out.fields(&[("next", format!("slotctl quarantine clear {app} {version}"))]);
    }
    Ok(Exit::Ok.into())
}

fn facts(detail: &SlotDetail, now: Timestamp) -> Vec<(&'static str, String)> {
    let info = &detail.info;
    let mut facts = vec![("created", when(info.created, now)), ("by", plain(&info.by))];
    let mut add = |label, value: Option<String>| facts.extend(value.map(|value| (label, plain(&value))));
    add("message", info.message.clone());
    add("fallback", info.fallback.then(|| "yes".to_owned()));
    add("pinned", info.pinned.as_ref().map(|pin| pin_text(pin, now)));
    add("barred", info.barred.as_ref().map(|by| format!("the data has had the form of {by} since")));
    add("artifact", info.artifact.map(|digest| format!("{digest}, {}", size(info.bytes))));
    if let SlotState::Waiting { reason } = &info.state {
        add("waits for", Some(reason.clone()));
    }
    add("files", detail.files.map(|files| files.to_string()));
    add("tree", detail.tree_path.clone());
    if let Some(record) = &detail.record {
        add("file", Some(record.origin.file.clone()));
        let release = &record.release;
        for (label, value) in [
            ("commit", &release.commit),
            ("branch", &release.branch),
            ("builder", &release.builder),
            ("url", &release.url),
            ("notes", &release.notes),
            ("health path", &release.health_path),
        ] {
            add(label, value.clone());
        }
        add("migration", Some(release.migration).filter(|it| !it.is_none()).map(|it| it.to_string()));
        for (key, value) in &record.env {
            add("env", Some(format!("{key}={value}")));
        }
    }
    for unit in &detail.units {
        add("unit", Some(format!("{}, {} of it", unit.name.unit_file(), unit.instances)));
    }
    if let Some(quarantine) = &detail.quarantine {
        let Quarantine { deployment, fault, at, .. } = quarantine;
        add("quarantined", Some(format!("by {deployment}, {}: {fault}", when(*at, now))));
    }
    facts
}
