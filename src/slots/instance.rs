//! Instances: what a template unit reads as `instances/%i`, durable before the unit starts.
//!
//! `root` leads to the tree, relative to where it stands, so that it holds in whatever place the state is mounted;
//! PID 1 follows it for `BindReadOnlyPaths=`. `env` is the slot's snapshot, then what the unit's instance alone
//! has, then slotd's own variables, which nobody can give another value.
//!
//! Where an instance takes connections by signal, `env.other` lies beside `env` and differs in `SLOTD_ACCEPT` alone. So to
//! tell it the other thing is an exchange of two names, which needs no room on the disk: a way back must not need any.

use std::path::{Path, PathBuf};

use crate::durable::{
    DurableError, aside_in, exchange, make_dir, names, read_bytes, remove_tree, symlink_new, write_new,
};
use crate::model::route::{AcceptAt, port_of_env};
use crate::model::slot::SlotRecord;
use crate::model::{AppName, InstanceName, SlotName};

use super::env;
use super::error::SlotError;
use super::store::{ENV_FILE, SlotStore};

/// Below it each instance has its runtime folder, `APP/INSTANCE`, made by the template's `RuntimeDirectory=`.
pub const HEALTH_DIR: &str = "/run/slots";

const ROOT_LINK: &str = "root";

/// The environment with the other value of `SLOTD_ACCEPT`.
const OTHER_ENV_FILE: &str = "env.other";

/// Where an instance binds its health socket.
pub fn health_socket(app: &AppName, instance: &InstanceName) -> PathBuf {
    Path::new(HEALTH_DIR).join(app.as_str()).join(instance.encoded()).join("health.sock")
}

impl SlotStore {
    /// Makes `instances/NAME`, durably, with `extra` in its environment. If it is so already nothing is done.
    /// Returns whether anything was. What its unit, should it run, has read already doesn't change.
    pub fn publish_instance(&self, instance: &InstanceName, extra: &[(String, String)]) -> Result<bool, SlotError> {
        let record = self.record(&instance.slot)?;
        let text = self.instance_env(&record, instance, extra)?;
        let other = AcceptAt::of(extra).map(|at| {
            let extra: Vec<_> = extra.iter().cloned().chain([at.other().variable()]).collect();
            self.instance_env(&record, instance, &extra)
        });
        let other = other.transpose()?;
        let root = Path::new("../../trees").join(record.tree.to_string());
        let place = self.layout.instance(instance);
        if is_so(&place, &root, &text, other.as_deref()) {
            return Ok(false);
        }
        if other.as_deref().is_some_and(|other| is_so(&place, &root, other, Some(&text))) {
            let exchanged = exchange(&place.join(OTHER_ENV_FILE), &place.join(ENV_FILE));
            return exchanged.map(|()| true).map_err(SlotError::disk("change", format!("instance {instance}")));
        }
        let aside = aside_in(&self.layout.staging());
        let made = || -> Result<(), DurableError> {
            make_dir(&aside, 0o700)?;
            symlink_new(&root, &aside.join(ROOT_LINK))?;
            write_new(&aside.join(ENV_FILE), text.as_bytes())?;
            if let Some(other) = &other {
                write_new(&aside.join(OTHER_ENV_FILE), other.as_bytes())?;
            }
            self.put(&aside, &place)
        };
        made().map(|()| true).map_err(SlotError::disk("make", format!("instance {instance}")))
    }

    /// The port of its own that an instance on disk has, if it has one.
    pub fn port(&self, instance: &InstanceName) -> Option<u16> {
        let text = std::fs::read_to_string(self.layout.instance(instance).join(ENV_FILE)).ok()?;
        port_of_env(&text)
    }

    /// Removes `instances/NAME`. One that isn't there is removed. Its unit must be down: nobody here knows.
    pub fn remove_instance(&self, instance: &InstanceName) -> Result<bool, SlotError> {
        remove_tree(&self.layout.instance(instance)).map_err(SlotError::disk("remove", format!("instance {instance}")))
    }

    /// The instances on disk, of all slots.
    pub fn instances(&self) -> Result<Vec<InstanceName>, SlotError> {
        let names = names(&self.layout.instances());
        let names = names.map_err(SlotError::disk("list", "the instances"))?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    fn instance_env(
        &self,
        record: &SlotRecord,
        instance: &InstanceName,
        extra: &[(String, String)],
    ) -> Result<String, SlotError> {
        let slot: &SlotName = &record.slot;
        let socket = health_socket(&record.app, instance);
        let own = [
            ("SLOTD_APP", record.app.to_string()),
            ("SLOTD_SLOT", slot.to_string()),
            ("SLOTD_VERSION", slot.version.to_string()),
            ("SLOTD_INSTANCE", instance.encoded()),
            ("HEALTH_SOCKET", socket.to_string_lossy().into_owned()),
        ];
        let mut variables = record.env.clone();
        variables.extend(extra.iter().cloned());
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        env::encode(&variables).map_err(|source| SlotError::Env { slot: slot.clone(), source })
    }
}

fn is_so(place: &Path, root: &Path, text: &str, other: Option<&str>) -> bool {
    let reads = |file: &str, text: &str| matches!(read_bytes(&place.join(file), text.len() as u64), Ok(Some(there)) if there == text.as_bytes());
    std::fs::read_link(place.join(ROOT_LINK)).is_ok_and(|target| target == root)
        && reads(ENV_FILE, text)
        && other.is_none_or(|other| reads(OTHER_ENV_FILE, other))
}
