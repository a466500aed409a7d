//! A unit as systemd's properties show it.

use std::collections::HashMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::units::{Active, Load, UnitStatus};

/// Properties of one interface.
pub(super) type Properties = HashMap<String, OwnedValue>;

/// What one look at a unit shows.
#[derive(Debug)]
pub(super) struct View {
    /// For the caller.
    pub(super) status: UnitStatus,
    /// The job that is queued for it.
    pub(super) job: Option<OwnedObjectPath>,
}

impl View {
    /// From the properties of the interface Unit, and of Service or Socket (empty for other types).
    pub(super) fn new(unit: &mut Properties, own: &mut Properties) -> View {
        let job = take::<(u32, OwnedObjectPath)>(unit, "Job").filter(|(id, _)| *id != 0).map(|(_, path)| path);
        let status = UnitStatus {
            load: load(unit),
            active: active(&take::<String>(unit, "ActiveState").unwrap_or_default()),
            sub: take(unit, "SubState").unwrap_or_default(),
            result: take(own, "Result").unwrap_or_else(|| "success".to_owned()),
            reload_failed: take::<String>(own, "ReloadResult").is_some_and(|result| result != "success"),
            invocation: take::<Vec<u8>>(unit, "InvocationID").and_then(|id| invocation(&id)),
            exit: exit(take(own, "ExecMainCode").unwrap_or(0), take(own, "ExecMainStatus").unwrap_or(0)),
            said: take::<String>(own, "StatusText").filter(|text| !text.is_empty()),
            restarts: take(own, "NRestarts").unwrap_or(0),
            job: job.is_some(),
            start_limit: take(own, "TimeoutStartUSec").and_then(limit),
            stop_limit: take(own, "TimeoutStopUSec").and_then(limit),
            runs_to_end: take::<String>(own, "Type").is_some_and(|kind| kind == "oneshot")
                && !take(own, "RemainAfterExit").unwrap_or(false),
            need_reload: take(unit, "NeedDaemonReload").unwrap_or(false),
            user: take(own, "User").unwrap_or_default(),
            private_network: take(own, "PrivateNetwork").unwrap_or(false),
            command: command(own),
            memory_max: take(own, "MemoryMax").filter(|bytes| *bytes != u64::MAX),
            memory: take(own, "MemoryCurrent").filter(|bytes| *bytes != u64::MAX),
            files: take::<String>(unit, "FragmentPath")
                .into_iter()
                .chain(take::<Vec<String>>(unit, "DropInPaths").unwrap_or_default())
                .filter(|path| !path.is_empty())
                .collect(),
        };
        View { status, job }
    }
}

/// A command line of a unit as systemd tells it: path, arguments, and how it ran.
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// What a service starts, if it is one.
fn command(own: &mut Properties) -> Option<String> {
    let (_, arguments, ..) = take::<Vec<Exec>>(own, "ExecStart")?.into_iter().next()?;
    Some(arguments.join(" "))
}

/// A list of units' names.
pub(super) fn names(unit: &mut Properties, key: &str) -> Vec<String> {
    take(unit, key).unwrap_or_default()
}

/// Takes a property out; one that is missing or of another type is none.
fn take<T: TryFrom<OwnedValue>>(properties: &mut Properties, name: &str) -> Option<T> {
    properties.remove(name).and_then(|value| T::try_from(value).ok())
}

fn load(unit: &mut Properties) -> Load {
    match take::<String>(unit, "LoadState").as_deref() {
        Some("loaded" | "merged") => Load::Loaded,
        Some("not-found") => Load::NotFound,
        Some("masked") => Load::Masked,
        state => {
            let (name, message) = take::<(String, String)>(unit, "LoadError").unwrap_or_default();
            let words = [message, name, state.unwrap_or("no load state").to_owned()];
            Load::Error(words.into_iter().find(|word| !word.is_empty()).unwrap_or_default())
        }
    }
}

fn active(word: &str) -> Active {
    match word {
        "active" => Active::Active,
        "reloading" | "refreshing" => Active::Reloading,
        "activating" => Active::Activating,
        // A unit in maintenance gives nothing away and isn't up.
        "deactivating" | "maintenance" => Active::Deactivating,
        "failed" => Active::Failed,
        _ => Active::Inactive,
    }
}

/// 32 hexadecimal digits; systemd gives nothing, or zeros, for a unit that never ran.
pub(super) fn invocation(id: &[u8]) -> Option<String> {
    (id.len() == 16 && id.iter().any(|byte| *byte != 0)).then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The end of the main process in words, from `si_code` and `si_status` of waitid(2). Nothing while it runs.
fn exit(code: i32, status: i32) -> Option<String> {
    let signal = || Signal::try_from(status).map_or_else(|_| format!("signal {status}"), |known| known.to_string());
    match code {
        1 => Some(match step(status) {
            Some(step) => format!("exited with status {status} (systemd's {step})"),
            None => format!("exited with status {status}"),
        }),
        2 => Some(format!("killed by {}", signal())),
        3 => Some(format!("killed by {}, with a core dump", signal())),
        _ => None,
    }
}

/// The step at which systemd itself gave up before the program ran: those of systemd.exec(5) that a deployment meets.
fn step(status: i32) -> Option<&'static str> {
    match status {
        200 => Some("CHDIR"),
        203 => Some("EXEC"),
        216 => Some("GROUP"),
        217 => Some("USER"),
        226 => Some("NAMESPACE"),
        233 => Some("RUNTIME_DIRECTORY"),
        _ => None,
    }
}

/// systemd says infinity by all bits.
fn limit(microseconds: u64) -> Option<Duration> {
    (microseconds != u64::MAX).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use zbus::zvariant::Value;

    use super::*;

    fn properties<const N: usize>(list: [(&str, Value<'_>); N]) -> Properties {
        list.into_iter().map(|(name, value)| (name.to_owned(), value.try_into().expect("a value"))).collect()
    }

    #[test]
    fn a_service_that_was_killed_between_two_restarts() {
        let job: OwnedObjectPath = "/org/freedesktop/systemd1/job/7".try_into().expect("a path");
        let mut unit = properties([
            ("LoadState", "loaded".into()),
            ("ActiveState", "activating".into()),
            ("SubState", "auto-restart".into()),
            ("InvocationID", vec![0xabu8; 16].into()),
            ("Job", (7u32, job.clone()).into()),
            ("NeedDaemonReload", true.into()),
            ("FragmentPath", "/etc/systemd/system/web@.service".into()),
            ("DropInPaths", vec!["/etc/systemd/system/web@.service.d/a.conf"].into()),
        ]);
        let words = ["/srv/web/bin/web", "--port", "80"].map(str::to_owned).to_vec();
        let exec: Exec = (words[0].clone(), words, false, 0, 0, 0, 0, 0, 0, 0);
        let mut service = properties([
            ("Result", "signal".into()),
            ("ReloadResult", "exit-code".into()),
            ("ExecMainCode", 2i32.into()),
            ("ExecMainStatus", 9i32.into()),
            ("NRestarts", 4u32.into()),
            ("StatusText", "quiet".into()),
            ("User", "web".into()),
            ("PrivateNetwork", true.into()),
            ("MemoryMax", (1u64 << 30).into()),
            ("MemoryCurrent", u64::MAX.into()),
            ("ExecStart", Value::from(vec![exec])),
            ("Type", "oneshot".into()),
            ("RemainAfterExit", false.into()),
            ("TimeoutStartUSec", u64::MAX.into()),
            ("TimeoutStopUSec", 30_000_000u64.into()),
        ]);
        let view = View::new(&mut unit, &mut service);
        let expected = UnitStatus {
            load: Load::Loaded,
            active: Active::Activating,
            sub: "auto-restart".into(),
            result: "signal".into(),
            reload_failed: true,
            invocation: Some("ab".repeat(16)),
            exit: Some("killed by SIGKILL".into()),
            said: Some("quiet".into()),
            restarts: 4,
            job: true,
            start_limit: None,
            stop_limit: Some(Duration::from_secs(30)),
            runs_to_end: true,
            need_reload: true,
            user: "web".into(),
            private_network: true,
            command: Some("/srv/web/bin/web --port 80".into()),
            memory_max: Some(1 << 30),
            memory: None,
            files: vec![
                "/etc/systemd/system/web@.service".to_owned(),
                "/etc/systemd/system/web@.service.d/a.conf".to_owned(),
            ],
        };
        assert_eq!(view.status, expected);
        assert_eq!(view.job, Some(job));
    }

    #[test]
    fn a_unit_that_never_ran_and_one_that_is_wrong() {
        let none: OwnedObjectPath = "/".try_into().expect("a path");
        let mut unit = properties([
            ("LoadState", "masked".into()),
            ("ActiveState", "inactive".into()),
            ("InvocationID", Vec::<u8>::new().into()),
            ("Job", (0u32, none).into()),
        ]);
        let view = View::new(&mut unit, &mut properties([("StatusText", "".into())]));
        assert_eq!(view.status.load, Load::Masked);
        assert_eq!((view.status.invocation, view.status.job, view.status.exit), (None, false, None));
        assert_eq!(view.status.said, None);

        let mut unit = properties([
            ("LoadState", "bad-setting".into()),
            (
                "LoadError",
                ("org.freedesktop.systemd1.BadUnitSetting", "Unit x.service has a bad unit file setting.").into(),
            ),
        ]);
        let view = View::new(&mut unit, &mut Properties::new());
        assert_eq!(view.status.load, Load::Error("Unit x.service has a bad unit file setting.".into()));
    }

    #[test]
    fn ends_in_words() {
        assert_eq!(exit(1, 3).as_deref(), Some("exited with status 3"));
        assert_eq!(exit(1, 203).as_deref(), Some("exited with status 203 (systemd's EXEC)"));
        assert_eq!(exit(3, 6).as_deref(), Some("killed by SIGABRT, with a core dump"));
        assert_eq!(exit(2, 40).as_deref(), Some("killed by signal 40"));
        assert_eq!(exit(0, 0), None);
    }
}
