//! Whether polkit lets slotd start what its probes ask and what its hooks run. The rule of the app's own units comes with
//! them, by `new`; probes and hooks are written into the settings later.

use super::super::polkit::PolkitRules;
use super::{Expected, Findings, Place, Profile};

/// `what`: what no release can do without that unit.
pub(super) fn check(expected: &Expected, rules: &PolkitRules, name: &str, what: &str, findings: &mut Findings) {
    if expected.profile == Profile::Root {
        return;
    }
    let app = &expected.app;
    let file = super::super::scaffold::polkit_file(app);
    match rules.name(name) {
        Ok(true) => {}
        Ok(false) => findings.error(
            Place { file: &file, line: None },
            format!("no rule of polkit names {name}"),
            &format!("slotd may not start it, so no release of {app} can {what}"),
            format!(
                "let a rule allow start and stop of it (where a wider one does, name it there in a comment); \
                 slotctl new {app} --exec … shows one made from the app's settings"
            ),
        ),
        Err(error) => findings.warning(
            Place { file: &error.path, line: None },
            format!("whether slotd may start {name} can't be told: {error}"),
            &format!("without a rule for it no release of {app} can {what}"),
            format!("sudo slotctl check {app}"),
        ),
    }
}
