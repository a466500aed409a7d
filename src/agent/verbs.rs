//! The verbs of an app, and what becomes of each as the app stands. Pure; every pair is written out.
//!
//! `docs/verbs.md` is the table of all pairs, made from this file and from what a deployment hears in its stages.

use crate::deployment::{Facts, Refused, Stage};
use crate::model::deployment::Say;
use crate::points::named;

named! {
    /// What is asked of an app.
    Verb {
        Plan = "plan",
        Deploy = "deploy",
        Activate = "activate",
        Rollback = "rollback",
        Scale = "scale",
        DeployStaged = "deploy-staged",
        Redeploy = "redeploy",
        Set = "set",
        Retry = "retry",
        Cancel = "cancel",
        Promote = "promote",
        Confirm = "confirm",
        Prune = "prune",
        Pin = "pin",
        Unpin = "unpin",
        Freeze = "freeze",
        Unfreeze = "unfreeze",
        Clear = "quarantine clear",
    }
}

/// How an app stands.
#[derive(Debug, Clone, Copy)]
pub enum Standing<'a> {
    /// Nothing is under way, and nothing waits.
    Idle,
    /// A deployment is under way.
    In(&'a Stage, &'a Facts),
}

/// What becomes of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is done at once.
    Done,
    /// What it begins waits until the deployment is over.
    Waits,
    /// The deployment does it.
    Followed,
    /// The deployment is in the way.
    Busy,
    /// No deployment is there that could hear it.
    Nothing,
    /// The deployment doesn't do what it was told.
    Refused(Say, Refused),
}

/// Who decides about a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// Nobody: it disturbs nothing.
    Nobody,
    /// It takes its turn.
    Queue,
    /// It has to have the app to itself.
    Rest,
    /// The deployment itself.
    Deployment(Say),
    /// What is live: a deployment whose slot is live is undone, any other one is in the way.
    Live,
}

impl Verb {
    fn judge(self) -> Judge {
        match self {
            Verb::Plan | Verb::Set | Verb::Pin | Verb::Unpin | Verb::Clear => Judge::Nobody,
            Verb::Freeze | Verb::Unfreeze => Judge::Nobody,
            Verb::Deploy => Judge::Queue,
            Verb::Rollback => Judge::Live,
            Verb::Activate | Verb::Scale | Verb::DeployStaged | Verb::Redeploy => Judge::Rest,
            Verb::Retry | Verb::Prune => Judge::Rest,
            Verb::Cancel => Judge::Deployment(Say::Cancel),
            Verb::Promote => Judge::Deployment(Say::Promote),
            Verb::Confirm => Judge::Deployment(Say::Confirm),
        }
    }

    /// Whether nothing else may be under way, where it isn't a word to just that.
    pub fn needs_rest(self) -> bool {
        matches!(self.judge(), Judge::Rest | Judge::Live)
    }

    /// What becomes of it.
    pub fn heard(self, standing: Standing<'_>) -> Heard {
        match (self.judge(), standing) {
            (Judge::Nobody, _) | (Judge::Queue | Judge::Rest | Judge::Live, Standing::Idle) => Heard::Done,
            (Judge::Queue, Standing::In(..)) => Heard::Waits,
            (Judge::Rest, Standing::In(..)) => Heard::Busy,
            (Judge::Live, Standing::In(stage, facts)) => match Say::Cancel.heard_in(stage, facts) {
                Ok(()) if stage.is_linked() => Heard::Followed,
                Ok(()) | Err(_) => Heard::Busy,
            },
            (Judge::Deployment(_), Standing::Idle) => Heard::Nothing,
            (Judge::Deployment(say), Standing::In(stage, facts)) => match say.heard_in(stage, facts) {
                Ok(()) => Heard::Followed,
                Err(refused) => Heard::Refused(say, refused),
            },
        }
    }
}

#[cfg(test)]
#[path = "verbs_tests.rs"]
mod tests;
