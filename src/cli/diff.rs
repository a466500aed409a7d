//! `diff`: what is live against what is set, or two slots.

use crate::control::api::{Change, Difference, FileChange, How};
use crate::model::release::Release;
use crate::model::{AppName, Class, Exit, SlotName};

use super::Context;
use super::ending::{During, Ending, Failure};
use super::text::{plain, size};

/// `slotctl diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// A slot, or its version; without slots what is live is compared with what is set
    #[arg(requires = "to")]
    from: Option<SlotName>,
    /// Another one
    to: Option<SlotName>,
    /// The changed lines of text files too
    #[arg(long, requires = "to")]
    text: bool,
    /// Show values of the environment too; only for those who may operate
    #[arg(long)]
    reveal: bool,
}

/// A difference a line.
pub async fn run(args: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let Args { app, from, to, text, reveal } = args;
    let mut query = vec![format!("text={text}"), format!("reveal={reveal}")];
    query.extend(from.iter().map(|slot| format!("from={}", slot.encoded())));
    query.extend(to.iter().map(|slot| format!("to={}", slot.encoded())));
    let path = format!("/v1/apps/{app}/diff?{}", query.join("&"));
    let difference: Difference = context.client.get(&path).await.during(format!("diff {app}"))?;
    context.out.document(&difference);
    let Difference { from, to, settings, files, releases, units } = &difference;
    let out = context.out;
    let second = to.as_ref().map_or_else(|| "what is set".to_owned(), |slot| slot.to_string());
    if settings.is_empty() && files.is_empty() && releases.is_none() && units.is_empty() {
        out.line(format!("{app}: {from} and {second} don't differ"));
        return Ok(Exit::Ok.into());
    }
    out.line(format!("{app}: {from} against {second}"));
    let head = ["SETTING", from.to_string().as_str(), second.as_str(), "A CHANGE HOLDS"].map(str::to_owned);
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    out.table(&head, settings.iter().map(setting_row).collect());
    if settings.iter().any(|change| change.class == Class::OwnStep) && to.is_none() {
        out.line(format!("  next: slotctl plan {app} --route; slotctl redeploy {app} --route"));
    }
    if let Some(releases) = releases {
        out.table(&["RELEASE", head[1], head[2]], release_rows(&releases.0, &releases.1));
    }
    out.table(&["FILE", "", head[1], head[2]], files.iter().map(file_row).collect());
    for text in files.iter().filter_map(|file| file.text.as_ref()) {
        text.lines().for_each(|line| out.line(plain(line)));
    }
    for unit in units {
        let name = plain(&unit.unit);
        if unit.changed {
            out.line(format!("{name}.service isn't as it was when {from} went live"));
        }
        if unit.need_reload {
            out.line(format!("{name}.service changed, and systemd hasn't read it"));
            out.line("  next: systemctl daemon-reload");
        }
    }
    Ok(Exit::Ok.into())
}

fn setting_row(change: &Change) -> Vec<String> {
    let side = |value: &Option<String>| match (value, change.hidden) {
        (Some(value), _) => plain(value),
        (None, true) => "(hidden)".to_owned(),
        (None, false) => "-".to_owned(),
    };
    vec![plain(&change.key), side(&change.from), side(&change.to), change.class.to_string()]
}

fn release_rows(from: &Release, to: &Release) -> Vec<Vec<String>> {
    let fields = |release: &Release| {
        let all = serde_json::to_value(release).unwrap_or_default();
        all.as_object().cloned().unwrap_or_default()
    };
    let (from, to) = (fields(from), fields(to));
    let text = |value: Option<&serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => plain(text),
        Some(serde_json::Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
    keys.sort();
    keys.dedup();
    let differs = |key: &&String| from.get(*key) != to.get(*key);
    keys.into_iter().filter(differs).map(|key| vec![plain(key), text(from.get(key)), text(to.get(key))]).collect()
}

fn file_row(change: &FileChange) -> Vec<String> {
    let how = match change.how {
        How::Added => "added",
        How::Removed => "removed",
        How::Changed => "changed",
        How::Mode => "mode",
    };
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
    vec![plain(&change.path), how.to_owned(), bytes(change.from), bytes(change.to)]
}
