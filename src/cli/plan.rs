//! `plan`: what a deployment would do, and whether it can be.

use crate::control::api::{
    FileCounts, Foreseen, Gap, Planned, PlannedBatch, PlannedContract, PlannedReroute, PlannedUnit, Resources, Spell,
};
use crate::model::{AppName, Exit, HookPoint, Migration, SlotName, StrategyName, UnitName};

use super::Context;
use super::dependencies::dependency;
use super::ending::{During, Ending, Failure};
use super::output::{Tone, field_line};
use super::status::name;
use super::text::{plain, size};

/// `slotctl plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: AppName,
    /// The slot, or its version; without it what is staged, of which the slot is made for that
    version: Option<SlotName>,
    /// What `redeploy --route` would do: which address begins, which one ends, and what users notice
    #[arg(long, conflicts_with = "version")]
    route: bool,
    /// By another strategy than the app's: stop-start, blue-green or rolling
    #[arg(long, value_name = "NAME")]
    strategy: Option<StrategyName>,
    /// With another word for what it does to the data: none, compatible or breaking
    #[arg(long, value_name = "WORD")]
    migration: Option<Migration>,
}

/// What it would do, a step a line.
pub async fn run(args: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let Args { app, version, route, strategy, migration } = args;
    let words = [strategy.map(|it| format!("strategy={it}")), migration.map(|it| format!("migration={it}"))];
    let words: Vec<String> = words.into_iter().flatten().collect();
    let query = if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) };
    let planned: Planned = match version {
        None if route => {
            context.client.get(&format!("/v1/apps/{app}/plan{query}")).await.during(format!("plan {app} --route"))?
        }
        Some(version) => {
            let path = format!("/v1/apps/{app}/plan/{}{query}", version.encoded());
            context.client.get(&path).await.during(format!("plan {app} {version}"))?
        }
        None => context.client.post(&format!("/v1/apps/{app}/plan{query}")).await.during(format!("plan {app}"))?,
    };
    let out = context.out;
    out.document(&planned);
    lines(&planned).iter().for_each(|line| out.line(line));
    foreseen(&planned.foreseen, context);
    for refusal in &planned.refusals {
        let code = format!("{}:", refusal.code);
        out.line(format!("{} {}", out.tone(Tone::Bad, &code), plain(&refusal.message)));
        out.line(field_line(&("instead", plain(&refusal.fix))));
    }
    Ok(match (planned.refusals.is_empty(), planned.foreseen.change) {
        (false, _) => Exit::Refused,
        (true, true) => Exit::Ok,
        (true, false) => Exit::Unchanged,
    }
    .into())
}

/// What else would come of it, and the token.
fn foreseen(foreseen: &Foreseen, context: &Context<'_>) {
    let Foreseen { because, files, settings, runtime, resources, pruned, past, token, .. } = foreseen;
    if token.is_empty() {
        return;
    }
    let mut fields: Vec<(&str, String)> = vec![("strategy", format!("from {}", plain(because)))];
    let FileCounts { added, removed, changed } = files;
    fields.push(("files", format!("{added} added, {removed} removed, {changed} changed")));
    for change in settings {
        let side = |value: &Option<String>| plain(value.as_deref().unwrap_or("-"));
        fields.push((
            "setting",
            match change.hidden {
                true => format!("{} (hidden)", plain(&change.key)),
                false => format!("{}: {} to {}", plain(&change.key), side(&change.from), side(&change.to)),
            },
        ));
    }
    for it in runtime {
        let user = if it.user.is_empty() { "root" } else { &it.user };
        let most = it.memory_max.map(|most| format!(", at most {} of memory", size(most))).unwrap_or_default();
        let command = it.command.as_deref().unwrap_or("?");
        fields.push(("runs", plain(&format!("{} × {} as {user}{most}: {command}", it.instances, it.unit))));
    }
    let Resources { memory, memory_available, disk_free } = resources;
    if let (Some(memory), Some(available)) = (memory, memory_available) {
        fields.push(("memory", format!("{} more while both run, {} available", size(*memory), size(*available))));
    }
    fields.extend(disk_free.map(|free| ("disk", format!("{} free, none needed", size(free)))));
    if !pruned.is_empty() {
        let names: Vec<String> = pruned.iter().map(ToString::to_string).collect();
        fields.push(("pruned", names.join(" ")));
    }
    if let Some(Spell { deployments, gap_ms, worst_gap_ms, total_ms }) = *past {
        let of = format!("the median of {deployments} before");
        fields.extend(total_ms.map(|total| ("takes", format!("{total} ms, {of}"))));
        let gaps = gap_ms.zip(worst_gap_ms);
        fields.extend(gaps.map(|(gap, worst)| ("gap", format!("{gap} ms, {of}; {worst} ms at worst"))));
    }
    fields.push(("token", token.clone()));
    context.out.fields(&fields);
}

fn lines(planned: &Planned) -> Vec<String> {
    let over = name(planned.from.as_ref());
    let unchanged = planned.from.as_ref() == Some(&planned.to);
    let mut lines = vec![match unchanged {
        true => format!("{}: {} is live already, nothing to do", planned.app, planned.to),
        false => format!("{}: {} over {over}, {}", planned.app, planned.to, planned.strategy),
    }];
    let mut add = |label: &str, value: String| lines.push(field_line(&(label, value)));
    planned.units.iter().for_each(|unit| add("unit", unit_text(unit)));
    add("route", route_text(&planned.route, &planned.contract));
    planned.reroute.iter().flat_map(|it| lines_of_reroute(planned, it)).for_each(|(label, line)| add(label, line));
    if unchanged {
        return lines;
    }
    planned.dependencies.iter().for_each(|it| add("needs", dependency(it)));
    if planned.batches.is_empty() {
        return lines;
    }
    let hooks = |points: &[HookPoint]| {
        let of = planned.hooks.iter().filter(|hook| points.contains(&hook.at));
        of.map(|hook| format!("{}, {}", hook.unit, hook_text(hook.at))).collect::<Vec<_>>()
    };
    lines_of_data(planned).into_iter().for_each(|line| add("data", line));
    let first = [HookPoint::Preflight, HookPoint::Snapshot, HookPoint::Deploy];
    hooks(&first).into_iter().for_each(|hook| add("hook", hook));
    for (n, batch) in planned.batches.iter().enumerate() {
        add(&format!("batch {}", n + 1), batch_text(batch));
        if planned.pause_after == Some(n as u64 + 1) {
            let share = planned.weight.map(|weight| format!(", with {weight} % of new users")).unwrap_or_default();
            add("then", format!("waits for `slotctl promote {}`{share}", planned.app));
        }
    }
    if planned.by_hand {
        add("then", format!("waits, proved and without users, for `slotctl promote {}`", planned.app));
    }
    add("switch", format!("current names {}", planned.to));
    if !planned.soak.is_zero() {
        let soak = humantime::format_duration(planned.soak);
        let confirm = match planned.confirm {
            true => format!(", and back unless `slotctl confirm {}` comes", planned.app),
            false => String::new(),
        };
        add("soak", format!("watched for {soak}{confirm}"));
    }
    if planned.from.is_some() {
        add("then", "what is left of the old slot drains and stops".to_owned());
    }
    hooks(&[HookPoint::PostDeploy, HookPoint::Restore]).into_iter().for_each(|hook| add("hook", hook));
    lines
}

/// Which address begins and which ends, and what users notice of it.
fn lines_of_reroute(planned: &Planned, reroute: &PlannedReroute) -> Vec<(&'static str, String)> {
    let PlannedReroute { way, begins, ends, is_ended, gap } = reroute;
    let mut lines = vec![("users come", format!("by {}", plain(&way.to_string())))];
    lines.extend(begins.iter().map(|address| ("begins", format!("{}, with the switch", plain(address)))));
    lines.extend(ends.iter().map(|address| {
        let address = plain(address);
        (
            "ends",
            match is_ended {
                true => format!("{address}, once all is proved and watched; open connections go on"),
                false => format!("{address}: slotd asks there no more, and who listens there is the host's"),
            },
        )
    }));
    lines.push((
        "gap",
        match gap {
            Gap::None => "none expected: both lead to whoever serves".to_owned(),
            Gap::Restart => format!(
                "as long as an old instance takes to stop and a new one to start ({}); with --strategy blue-green none",
                planned.strategy
            ),
            Gap::Rest => "from the stop of the app, which has to rest, to the end of this".to_owned(),
        },
    ));
    if let Some(Spell { gap_ms: Some(gap), worst_gap_ms: Some(worst), deployments, .. }) = planned.foreseen.past {
        lines.push(("before", format!("{gap} ms, the median of {deployments} deployments; {worst} ms at worst")));
    }
    lines
}

/// What becomes of the data, and of who knows its old form only.
fn lines_of_data(planned: &Planned) -> Vec<String> {
    match planned.migration {
        Migration::None => Vec::new(),
        Migration::Compatible => vec!["compatible migration: older slots go on working".to_owned()],
        Migration::Breaking => vec![
            "breaking migration: the old slot stops first, whatever the strategy".to_owned(),
            format!("afterwards slots below {} are barred, unless forced", planned.to),
        ],
    }
}

fn hook_text(at: HookPoint) -> &'static str {
    match at {
        // It is over before there is anything to plan.
        HookPoint::Build => "build: before the release became a slot",
        HookPoint::Preflight => "preflight: before anything is touched; if it fails, nothing is",
        HookPoint::Deploy => "deploy: once, before the first new instance starts; if it fails, slotd goes back",
        HookPoint::Snapshot => "snapshot: once, when the old slot has stopped; if it fails, slotd goes back",
        HookPoint::Restore => {
            "restore: only on the way back, once `deploy` may have begun and before the old slot starts"
        }
        HookPoint::PostDeploy => "post_deploy: once the new slot is live for good; if it fails, it is told",
    }
}

fn unit_text(unit: &PlannedUnit) -> String {
    let PlannedUnit { unit, instances, max_surge, max_unavailable } = unit;
    format!("{unit} × {instances}: at most {max_surge} more run, at most {max_unavailable} fewer are ready")
}

fn route_text(route: &str, contract: &PlannedContract) -> String {
    let private = match contract.private {
        true => "a candidate has no users before the switch",
        false => "a candidate has users from READY=1 on",
    };
    let warm = if contract.warm { "the old slot can stay warm" } else { "the old slot can't stay warm" };
    let weights = if contract.weights { ", a share can be set" } else { "" };
    format!("{route}: {private}, {warm}{weights}")
}

fn batch_text(batch: &PlannedBatch) -> String {
    let names = |units: &[UnitName]| units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" ");
    let mut parts = Vec::new();
    if !batch.stop_first.is_empty() {
        parts.push(format!("stop {}", names(&batch.stop_first)));
    }
    parts.push(format!("start and prove {}", names(&batch.start)));
    if !batch.stop_after.is_empty() {
        parts.push(format!("drain and stop {}", names(&batch.stop_after)));
    }
    parts.join(", ")
}
