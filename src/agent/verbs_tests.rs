//! The table of verbs and states, as `docs/verbs.md` shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::deployment::sim::{facts_by, hooked, side, stages};
use crate::model::{Code, Exit, Numbers, State};

const HEAD: &str = "# Verbs and states

What becomes of each verb as an app stands: `slotctl VERB APP`, or the same over the socket. Made from the code by
`WRITE_MANUAL=1 cargo test --lib verbs`, and tried cell by cell on a real systemd by `tests/host_crash_verbs.rs`.

The columns are the states of a deployment that `slotctl status` shows; `idle`: nothing is under way. Where another
deployment waits for its turn beside the one under way, `cancel` ends that one, which hasn't begun; all else is as in the
table. What is scheduled (`activate --at`) is what `cancel` takes back where nothing else is left to cancel.

While the app is frozen, or all are, `activate` without `--force` and `scale` are refused (`app.frozen`, 5), and what `deploy`
brings becomes ready and waits (20); all else is as in the table.

";

const FEET: &str = "
- *done*: at once, whatever else goes on (exit status 0).
- *waits*: the release is taken in at once, and its deployment waits for its turn (0).
- *followed*: the deployment does it; the answer comes once that is written down (0). `rollback` to where it came from, while
  the new slot is live and watched, is the same as `cancel`.
- *busy*: refused, and the deployment in the way is named (6).
- *nothing*: no deployment is there that could hear it (4).
";

/// A cell: all that may come of the verb in this state, by what the deployment is like.
fn cell(verb: Verb, standings: &[Standing<'_>], notes: &mut Vec<(Refused, Code)>) -> String {
    let mut words: Vec<String> = Vec::new();
    for standing in standings {
        let word = match verb.heard(*standing) {
            Heard::Done => "done".to_owned(),
            Heard::Waits => "waits".to_owned(),
            Heard::Followed if verb == Verb::Confirm => "followed, with `soak.confirm`".to_owned(),
            Heard::Followed => "followed".to_owned(),
            Heard::Busy => "busy".to_owned(),
            Heard::Nothing => "nothing".to_owned(),
            Heard::Refused(say, refused) => {
                let code = Refused::code(say);
                let number = notes.iter().position(|note| *note == (refused, code)).unwrap_or_else(|| {
                    notes.push((refused, code));
                    notes.len() - 1
                });
                format!("refused [{}]", number + 1)
            }
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join("; else ")
}

fn table() -> String {
    let facts = |confirm| {
        let numbers = Numbers { max_surge: 1, max_unavailable: 0 };
        let mut facts = hooked(facts_by(Some(side("1", 2)), side("2", 2), numbers));
        facts.plan.confirm = confirm;
        facts
    };
    // What is followed comes first in a cell.
    let all = [facts(true), facts(false)].map(|facts| (stages(&facts), facts));
    let mut columns: BTreeMap<State, Vec<Standing<'_>>> = BTreeMap::new();
    for (stages, facts) in &all {
        for stage in stages {
            columns.entry(stage.state()).or_default().push(Standing::In(stage, facts));
        }
    }
    let mut notes = Vec::new();
    let mut text = HEAD.to_owned();
    let states: Vec<&str> = columns.keys().map(|state| state.as_str()).collect();
    let _ = writeln!(text, "| | idle | {} |\n|---|---|{}", states.join(" | "), "---|".repeat(states.len()));
    for verb in Verb::ALL {
        let cells = columns.values().map(|standings| cell(*verb, standings, &mut notes)).collect::<Vec<_>>();
        let idle = cell(*verb, &[Standing::Idle], &mut Vec::new());
        let _ = writeln!(text, "| `{}` | {idle} | {} |", verb.as_str(), cells.join(" | "));
    }
    text.push_str(FEET);
    for (number, (refused, code)) in notes.iter().enumerate() {
        let _ = writeln!(text, "- *refused [{}]*: {refused} (`{code}`, {}).", number + 1, code.exit() as u8);
    }
    text
}

#[test]
fn docs_verbs_is_made_from_the_code() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verbs.md");
    if std::env::var_os("WRITE_MANUAL").is_some() {
        std::fs::write(&file, table()).expect("written");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(there, table(), "docs/verbs.md is not what the code says; WRITE_MANUAL=1 cargo test --lib verbs");
}

#[test]
fn every_state_of_a_deployment_has_a_column() {
    let text = table();
    let head = text.lines().find(|line| line.starts_with("| |")).expect("a head");
    for state in ["preparing", "starting", "proving", "switching", "waiting", "soaking", "draining", "post"] {
        assert!(head.contains(&format!("| {state} |")), "{head}");
    }
    assert!(head.contains("reverting") && Exit::Busy as u8 == 6, "{head}");
}
