//! The set of backends: as slotd wrote it, or, where it wrote none, as it follows from `current`.
//!
//! Both belong to slotd, and the helper is root: what is read has a bound, no link but `current` is followed, and a port
//! outside of the range that the administrator's unit names is refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::gate::current::{self, CurrentError, read_bounded};
use crate::model::layout::SLOT_ROUTE;
use crate::model::route::{
    MAX_BACKENDS, MAX_WEIGHT, PortRange, ROUTE_FORMAT, RouteBackend, RouteCall, RouteFile, RouteKind, SlotRoute,
    port_of_env,
};
use crate::model::{InstanceName, Layout, SlotName, Template};

/// Longest set file that is read: [`MAX_BACKENDS`] of some 150 bytes, indented.
const MAX_SET_BYTES: u64 = 256 << 10;

/// Longest environment file that is read; its variables have at most 128 KiB each, and a slot has few.
const MAX_ENV_BYTES: u64 = 4 << 20;

/// Whom users are to be sent to, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// In the order of their names.
    pub backends: Vec<RouteBackend>,
    /// Who would serve one whom none of them takes, in that order; only slotd names any.
    pub standby: Vec<RouteBackend>,
    /// The ports that users call, where the kernel redirects them.
    pub public: Vec<u16>,
    /// Who says so.
    pub source: Source,
}

/// Who says whom users are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// slotd, by its file.
    Slotd,
    /// `current`, which names this slot.
    Current(SlotName),
    /// Nobody: nothing is deployed.
    Nothing,
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// slotd's file can't be read or is none.
    #[error("{} is no set of backends: {what}; remove it to go by the live slot", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// `current` or its record can't be used.
    #[error("can't tell whom to send users to: {0}")]
    Current(#[from] CurrentError),
    /// The live slot counts another template.
    #[error("slot {slot} has no {template}")]
    Template {
        /// The slot.
        slot: SlotName,
        /// The one of the command line.
        template: Template,
    },
    /// An instance's environment can't be read.
    #[error("can't read {}: {cause}", .path.display())]
    Env {
        /// The file.
        path: PathBuf,
        /// Why; "too many levels of symbolic links" where a link stands in the way.
        cause: io::Error,
    },
    /// An instance without a port of its own.
    #[error("instance {0} has no PORT: it was made before the app had this route; deploy it again")]
    NoPort(InstanceName),
    /// A port that the administrator's unit doesn't allow.
    #[error("instance {instance} has port {port}, outside of {ports}, which the helper's unit allows")]
    Range {
        /// The instance.
        instance: InstanceName,
        /// Its port.
        port: u16,
        /// What is allowed.
        ports: PortRange,
    },
    /// A port for users that the administrator's unit doesn't allow.
    #[error("users are to come by port {port}, and the helper's unit allows --port {}", .allowed.iter().map(u16::to_string).collect::<Vec<_>>().join(","))]
    Public {
        /// Their port.
        port: u16,
        /// What is allowed.
        allowed: Vec<u16>,
    },
}

/// Reads it.
pub fn read(layout: &Layout, call: &RouteCall) -> Result<Set, SetError> {
    let set = match wanted(&layout.route())? {
        Some(RouteFile { backends, standby, public, .. }) => {
            let public =
                public_ports(call, public, || current::read(layout).ok().flatten().map(|live| live.slot), layout)?;
            Set { backends, standby, public, source: Source::Slotd }
        }
        None => {
            let set = live(layout, &call.template)?;
            let slot = match &set.source {
                Source::Current(slot) => Some(slot.clone()),
                Source::Slotd | Source::Nothing => None,
            };
            Set { public: public_ports(call, Vec::new(), || slot, layout)?, ..set }
        }
    };
    for RouteBackend { instance, port, .. } in set.backends.iter().chain(&set.standby) {
        if !call.ports.contains(*port) {
            return Err(SetError::Range { instance: instance.clone(), port: *port, ports: call.ports });
        }
    }
    Ok(set)
}

/// slotd's file, its lists in order; `None` where there is none.
fn wanted(path: &Path) -> Result<Option<RouteFile>, SetError> {
    let wrong = |what: String| SetError::File { path: path.to_owned(), what };
    let file = match rustix::fs::open(path, PLAIN, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(wrong(io::Error::from(error).to_string())),
    };
    let read = read_bounded(File::from(file), MAX_SET_BYTES)
        .and_then(|bytes| serde_json::from_slice::<RouteFile>(&bytes).map_err(io::Error::from));
    let RouteFile { format, mut backends, mut standby, public } = read.map_err(|error| wrong(error.to_string()))?;
    if format != ROUTE_FORMAT {
        return Err(wrong(format!("its format is {format}, this slotd-gate reads {ROUTE_FORMAT}")));
    }
    for some in [&mut backends, &mut standby] {
        if some.len() > MAX_BACKENDS {
            return Err(wrong(format!("{} backends, and {MAX_BACKENDS} are the most", some.len())));
        }
        some.sort();
    }
    let all = || backends.iter().chain(&standby);
    if let Some(bad) = all().find(|it| !(1..=MAX_WEIGHT).contains(&it.weight)) {
        return Err(wrong(format!("{} has the weight {}, and 1 to {MAX_WEIGHT} are some", bad.instance, bad.weight)));
    }
    let instances: BTreeSet<&InstanceName> = all().map(|backend| &backend.instance).collect();
    let ports: BTreeSet<u16> = all().map(|backend| backend.port).collect();
    if instances.len() < all().count() || ports.len() < all().count() {
        return Err(wrong("an instance or a port stands there twice".to_owned()));
    }
    Ok(Some(RouteFile { format, backends, standby, public }))
}

/// The instances of the live slot, each with the same share.
fn live(layout: &Layout, template: &Template) -> Result<Set, SetError> {
    let Some(live) = current::read(layout)? else {
        let (backends, standby, public) = Default::default();
        return Ok(Set { backends, standby, public, source: Source::Nothing });
    };
    let counted = live.units.iter().find(|unit| unit.name == *template);
    let counted = counted.ok_or_else(|| SetError::Template { slot: live.slot.clone(), template: template.clone() })?;
    let backend = |instance: InstanceName| match port(layout, &instance)? {
        Some(port) => Ok(RouteBackend { instance, port, weight: 1 }),
        None => Err(SetError::NoPort(instance)),
    };
    let backends = live.slot.instances(counted.instances).into_iter().map(backend).collect::<Result<_, _>>()?;
    Ok(Set { backends, standby: Vec::new(), public: Vec::new(), source: Source::Current(live.slot) })
}

/// The ports that users call: those that slotd names; else the only one that the unit allows, or of several the one by which
/// they come to the live slot. Where nobody tells it is the first.
fn public_ports(
    call: &RouteCall,
    named: Vec<u16>,
    live: impl FnOnce() -> Option<SlotName>,
    layout: &Layout,
) -> Result<Vec<u16>, SetError> {
    let RouteKind::Nftables { public: allowed } = &call.kind else { return Ok(Vec::new()) };
    let public = match (named.as_slice(), allowed.as_slice()) {
        ([_, ..], _) => named,
        ([], [_]) => allowed.clone(),
        ([], _) => {
            let recorded = live().map(|slot| recorded(layout, &slot)).transpose()?.flatten();
            recorded.or(allowed.first().copied()).into_iter().collect()
        }
    };
    match public.iter().find(|port| !allowed.contains(port)) {
        Some(port) => Err(SetError::Public { port: *port, allowed: allowed.clone() }),
        None => Ok(public),
    }
}

/// The port by which users come to a slot, as it is recorded, by a path on which no link is followed.
fn recorded(layout: &Layout, slot: &SlotName) -> Result<Option<u16>, SetError> {
    let path = layout.slot_route(slot);
    let wrong = |what: String| SetError::File { path: path.clone(), what };
    let opened = || -> io::Result<Option<File>> {
        let root = rustix::fs::open(layout.root(), FOLDER, Mode::empty())?;
        let slots = rustix::fs::openat(&root, "slots", FOLDER.union(OFlags::NOFOLLOW), Mode::empty())?;
        let own = rustix::fs::openat(&slots, slot.encoded(), FOLDER.union(OFlags::NOFOLLOW), Mode::empty())?;
        match rustix::fs::openat(&own, SLOT_ROUTE, PLAIN, Mode::empty()) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let Some(file) = opened().map_err(|error| wrong(error.to_string()))? else { return Ok(None) };
    let read = read_bounded(file, MAX_SET_BYTES)
        .and_then(|bytes| serde_json::from_slice::<SlotRoute>(&bytes).map_err(io::Error::from));
    read.map(|record| record.route.port).map_err(|error| wrong(error.to_string()))
}

/// The port of an instance, by a path on which no link is followed.
fn port(layout: &Layout, instance: &InstanceName) -> Result<Option<u16>, SetError> {
    let path = layout.instance(instance).join("env");
    let opened = || -> io::Result<File> {
        let root = rustix::fs::open(layout.root(), FOLDER, Mode::empty())?;
        let instances = rustix::fs::openat(&root, "instances", FOLDER.union(OFlags::NOFOLLOW), Mode::empty())?;
        let own = rustix::fs::openat(&instances, instance.encoded(), FOLDER.union(OFlags::NOFOLLOW), Mode::empty())?;
        Ok(File::from(rustix::fs::openat(&own, "env", PLAIN, Mode::empty())?))
    };
    match opened().and_then(|file| read_bounded(file, MAX_ENV_BYTES)) {
        Ok(bytes) => Ok(port_of_env(&String::from_utf8_lossy(&bytes))),
        Err(cause) => Err(SetError::Env { path, cause }),
    }
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Without NONBLOCK the open of a FIFO in the file's place would wait for a writer.
const PLAIN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::gate::hold::tests::World;

    fn call() -> RouteCall {
        let words = ["web", "nftables", "--port", "8080", "--ports", "20000-20009", "web@"].map(str::to_owned);
        RouteCall::parse(&words).expect("a call")
    }

    fn write_set(world: &World, text: &str) {
        let path = world.layout().route();
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("written");
    }

    fn write_env(world: &World, instance: &str, text: &str) {
        let folder = world.layout().instances().join(instance);
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join("env"), text).expect("written");
    }

    fn shown(set: &Set) -> Vec<String> {
        set.backends.iter().map(|it| format!("{} {} {}", it.instance, it.port, it.weight)).collect()
    }

    #[test]
    fn of_several_ports_for_users_one_counts() {
        let world = World::new();
        let ports = |allowed: &str| {
            let words = ["web", "nftables", "--port", allowed, "--ports", "20000-20009", "web@"].map(str::to_owned);
            let set = read(&world.layout(), &RouteCall::parse(&words).expect("a call"));
            set.map(|set| set.public).map_err(|error| error.to_string())
        };
        assert_eq!(ports("8080,9090"), Ok(vec![8080]), "nothing is deployed");
        world.deploy("1", &[("web@", 1)]);
        write_env(&world, "1", "PORT=\"20003\"\n");
        assert_eq!(ports("8080,9090"), Ok(vec![8080]), "nobody says which");
        let record = world.layout().slot_route(&"1".parse().expect("a slot"));
        std::fs::write(&record, r#"{"route":{"kind":"nftables","port":9090},"soak":{}}"#).expect("written");
        assert_eq!((ports("8080,9090"), ports("8080")), (Ok(vec![9090]), Ok(vec![8080])));
        assert_eq!(
            ports("8080,8081"),
            Err("users are to come by port 9090, and the helper's unit allows --port 8080,8081".to_owned())
        );
        std::fs::remove_file(&record).expect("removed");
        symlink("/etc/hostname", &record).expect("a link");
        assert!(ports("8080,9090").is_err_and(|error| error.contains("route.json")), "no link is followed");
        write_set(&world, r#"{"format":1,"backends":[],"public":[8080,9090]}"#);
        assert_eq!(ports("9090,8080"), Ok(vec![8080, 9090]), "slotd says both");
        assert!(ports("9090").is_err());
    }

    #[test]
    fn slotds_file_counts_and_without_one_current_does() {
        let world = World::new();
        let read = || read(&world.layout(), &call());
        assert_eq!(
            read().expect("nothing deployed"),
            Set { backends: vec![], standby: vec![], public: vec![8080], source: Source::Nothing }
        );
        world.deploy("1.4.2+b5", &[("worker@", 1), ("web@", 2)]);
        write_env(&world, "1.4.2@bb5", "PORT=\"20003\"\n");
        write_env(&world, "1.4.2@bb5@2", "A=\"\"\nPORT=\"20001\"\n");
        let set = read().expect("a set");
        assert_eq!(set.source, Source::Current("1.4.2+b5".parse().expect("a slot")));
        assert_eq!(shown(&set), ["1.4.2+b5 20003 1", "1.4.2+b5@2 20001 1"]);

        let backend = |name: &str, port| format!(r#"{{"instance":"{name}","port":{port},"weight":3}}"#);
        write_set(&world, &format!(r#"{{"format":1,"backends":[{}]}}"#, backend("2@2", 20009)));
        let set = read().expect("a set");
        assert_eq!((set.source.clone(), shown(&set)), (Source::Slotd, vec!["2@2 20009 3".to_owned()]));
        write_set(&world, r#"{"format":1,"backends":[]}"#);
        assert_eq!(shown(&read().expect("nobody is a set")), [""; 0]);
        let both = |a, b| format!(r#"{{"format":1,"backends":[{a}],"standby":[{b}]}}"#);
        write_set(&world, &both(backend("2", 20009), backend("1", 20008)));
        let set = read().expect("a set");
        assert_eq!((shown(&set), set.standby.len(), set.standby[0].port), (vec!["2 20009 3".to_owned()], 1, 20008));
        write_set(&world, &both(backend("2", 20009), backend("1", 20009)));
        assert!(read().expect_err("nobody stands by for himself").to_string().contains("twice"));
        write_set(&world, &both(backend("2", 20009), backend("1", 20010)));
        assert!(read().expect_err("not the app's").to_string().contains("outside of 20000-20009"));
    }

    #[test]
    fn files_that_are_no_set() {
        let one = r#"{"instance":"1","port":20001,"weight":1}"#;
        let many: Vec<String> =
            (0..=MAX_BACKENDS).map(|n| format!(r#"{{"instance":"{n}","port":20001,"weight":1}}"#)).collect();
        for (text, words) in [
            (String::new(), "EOF"),
            ("{".into(), "EOF"),
            (format!(r#"{{"format":2,"backends":[{one}]}}"#), "its format is 2"),
            (format!(r#"{{"format":1,"backends":[{one},{one}]}}"#), "twice"),
            (format!(r#"{{"format":1,"backends":[{one},{}]}}"#, one.replacen("\"1\"", "\"2\"", 1)), "twice"),
            (format!(r#"{{"format":1,"backends":[{}]}}"#, one.replace("t\":1", "t\":0")), "the weight 0"),
            (format!(r#"{{"format":1,"backends":[{}]}}"#, one.replace("t\":1", "t\":257")), "the weight 257"),
            (format!(r#"{{"format":1,"backends":[{}]}}"#, one.replace("20001", "70000")), "invalid value"),
            (format!(r#"{{"format":1,"backends":[{}]}}"#, one.replace("\"1\"", "\"../1\"")), "no instance name"),
            (format!(r#"{{"format":1,"backends":[{}]}}"#, one.replace("20001", "19999")), "outside of 20000-20009"),
            (format!(r#"{{"format":1,"backends":[{}]}}"#, many.join(",")), "513 backends"),
            (" ".repeat(MAX_SET_BYTES as usize + 1), "longer than"),
        ] {
            let world = World::new();
            write_set(&world, &text);
            let error = read(&world.layout(), &call()).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        let world = World::new();
        write_set(&world, "");
        let path = world.layout().route();
        std::fs::remove_file(&path).expect("removed");
        symlink("/etc/passwd", &path).expect("a link");
        assert!(matches!(read(&world.layout(), &call()), Err(SetError::File { .. })));
    }

    #[test]
    fn no_link_leads_to_an_environment() {
        let place = |world: &World, name: &str| world.layout().instances().join(name);
        for at in ["1", "1/env"] {
            let world = World::new();
            world.deploy("1", &[("web@", 1)]);
            write_env(&world, "else", "PORT=\"20003\"\n");
            if at == "1/env" {
                std::fs::create_dir_all(place(&world, "1")).expect("folder");
            }
            symlink(place(&world, at.replace('1', "else").as_str()), place(&world, at)).expect("a link");
            let error = read(&world.layout(), &call()).expect_err("refused");
            assert!(matches!(&error, SetError::Env { path, .. } if path.ends_with("1/env")), "{error}");
        }
        let world = World::new();
        world.deploy("1", &[("web@", 1)]);
        write_env(&world, "1", "A=\"1\"\n");
        assert!(read(&world.layout(), &call()).expect_err("no port").to_string().contains("has no PORT"));
        world.deploy("2", &[("worker@", 1)]);
        assert!(read(&world.layout(), &call()).expect_err("no template").to_string().contains("2 has no web@"));
    }
}
