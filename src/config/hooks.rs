//! `[hooks]`: which template is run for a candidate at which point of its deployment.

use crate::model::{HookPoint, Hooks, Template};

use super::app::Unit;
use super::app_file::reserved;
use super::document::Section;

/// The hooks of an app whose units these are.
pub(super) fn read(top: &Section<'_>, units: &[Unit]) -> Hooks {
    let Some(section) = top.section("hooks") else { return Hooks::default() };
    let mut hooks: Vec<(HookPoint, Template)> = Vec::new();
    for point in HookPoint::ALL {
        if let Some(template) = hook(&section, point, units, &hooks) {
            hooks.push((point, template));
        }
    }
    section.finish();
    hooks.into_iter().collect()
}

fn hook(section: &Section<'_>, point: HookPoint, units: &[Unit], before: &[(HookPoint, Template)]) -> Option<Template> {
    let text = section.text(point.as_str())?;
    let (place, name) = (text.span(), text.into_inner());
    let refuse = |message: String, help: Option<String>| {
        section.error(place, message, help);
        None
    };
    let template: Template = match name.parse() {
        Ok(template) => template,
        Err(error) => {
            let meant = name.strip_suffix(".service").filter(|stem| stem.ends_with('@'));
            return refuse(error.to_string(), meant.map(|stem| format!("write {stem:?}")));
        }
    };
    if let Some(message) = reserved(&name) {
        return refuse(message, None);
    }
    if units.iter().any(|unit| unit.name == template) {
        return refuse(format!("{name} is a unit of the app itself; a hook is a oneshot of its own"), None);
    }
    if let Some((other, _)) = before.iter().find(|(_, hook)| *hook == template) {
        let help = "give it a template of its own; both may run the same program".to_owned();
        return refuse(format!("{name} is the {other} hook already: it couldn't tell which one it is"), Some(help));
    }
    Some(template)
}
