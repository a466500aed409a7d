//! Whether polkit lets slotd start what its probes ask what its hooks run, and what tells of results. The rule of the app's own units comes with
//! them, by `new`; these are written into the settings later.

use super::super::polkit::PolkitRules;
use super::{Expected, Findings, Place, Profile};

/// `lost`: what comes of it where slotd may not start the unit.
pub(super) fn check(expected: &Expected, rules: &PolkitRules, name: &str, lost: &str, findings: &mut Findings) {
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
            &format!("slotd may not start it, so {lost}"),
            format!(
                "let a rule allow start and stop of it (where a wider one does, name it there in a comment); \
                 sudo slotctl new {app} --rule --write makes it of the app's settings"
            ),
        ),
        Err(error) => findings.warning(
            Place { file: &error.path, line: None },
            format!("whether slotd may start {name} can't be told: {error}"),
            &format!("without a rule for it {lost}"),
            format!("sudo slotctl check {app}"),
        ),
    }
}
