//! `[build]`: what a build gets, beside the artifact and its unit.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{HookPoint, Hooks};

use super::app_file::env;
use super::document::Section;

/// How releases are built before they become slots; what builds them is a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Whether the build's unit may have the host's network.
    pub network: bool,
    /// Its environment. The app's own isn't among it.
    pub env: BTreeMap<String, String>,
}

/// `[build]` of an app with these hooks.
pub(super) fn read(top: &Section<'_>, hooks: &Hooks) -> Build {
    let Some(section) = top.section("build") else { return Build::default() };
    if hooks.at(HookPoint::Build).is_none() {
        let help = "add\n[hooks]\nbuild = \"web-build@\"    # for the template web-build@.service";
        section.error(section.place(), "[build] without a build hook: nothing is built", help.to_owned());
    }
    let build = Build { network: section.flag("network").unwrap_or(false), env: env(&section) };
    section.finish();
    build
}
