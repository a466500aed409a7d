//! The effects of a deployment: all that it ever does to the host.
//!
//! The machine names them, the world performs them. Each asks for what is: performed twice, the second time finds
//! nothing to do. The list of [`Kind`]s is also the list of crash points, so an effect without one doesn't compile.

use std::fmt;

use crate::model::route::AcceptAt;
use crate::model::{AppName, HookPoint, InstanceName, SlotName, UnitName};
use crate::points::named;

use super::facts::{Facts, Rerouted, Side, Traffic, Way};
use super::stage::{Ruling, Runs};
use crate::model::deployment::{Reroute, Say};

/// One effect. What isn't said here stands in the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the intent with the stage that begins.
    Announce,
    /// Set the hold mark.
    Hold,
    /// Raise the mark to the candidate: it was tried.
    RaiseMark,
    /// See that the apps are up which this one depends on.
    AskNeeds(Vec<AppName>),
    /// See that systemd has the units of B, and that none is masked.
    CheckUnits,
    /// See to it that the gate is active; under the hold mark it starts nothing.
    Gate,
    /// Let `next` name the candidate.
    LinkNext,
    /// Compare a slot's files with its content manifest.
    Verify(SlotName),
    /// Make the folders that the units of a side read. Where it is asked for, what they say of when to take users.
    Provide(Side, AcceptAt),
    /// See whether the app is up, and ask the live slot's probes.
    AskLive,
    /// Run a hook to its end.
    Hook(Hook),
    /// Stop what runs of these hooks, and forget how they ended.
    EndHooks(Vec<UnitName>),
    /// Stop these units, in this order.
    Stop(Vec<UnitName>),
    /// Start these units, in this order.
    Start(Vec<UnitName>),
    /// Prove that these instances are ready and stay up.
    Prove(Vec<(UnitName, InstanceName)>, Runs),
    /// Exchange `current`.
    Switch,
    /// Bring the route to these instances, and to no others.
    Route(Traffic),
    /// Wait until these instances, which get no new users, have none any more, or for as long as they may.
    Drain(Vec<(UnitName, InstanceName)>),
    /// Watch what is proved until an operator says that it goes on.
    Await(Runs),
    /// Ask the address that users call.
    AskOutside,
    /// Watch the new slot for the soak time.
    Soak(Runs),
    /// See that B still runs under the InvocationIDs that proved themselves.
    Confirm(Runs),
    /// Let `fallback` name the slot that was left, and `next` go.
    Retire,
    /// Stop all units of the app but this side's.
    StopOthers(Option<Side>),
    /// Send users back to those of these instances that still run, if any does: before all else on the way back.
    Return(Vec<(UnitName, InstanceName)>),
    /// Start those of these units that don't run, and wait for them to be ready.
    Restore(Vec<UnitName>),
    /// Let `current` name this slot.
    Point(SlotName),
    /// Let `next` go, and `fallback` name what it should beside this slot.
    Links(Option<SlotName>),
    /// Ask the restored slot the probe that the candidate failed.
    AskAgain(Side),
    /// Write the evidence, and the quarantine if the release is at fault.
    Judge(Ruling),
    /// Start those of these units that went down with the app's.
    Rejoin(Vec<UnitName>),
    /// End the intent: it becomes the record of the last deployment.
    Close,
    /// Remove the hold mark.
    Unhold,
    /// Stop the gate if nothing of `current` runs: it would let clients hang.
    Rest,
    /// Write the history.
    Record,
}

/// A hook to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// At which point.
    pub point: HookPoint,
    /// Its unit.
    pub unit: UnitName,
    /// It was begun before an interruption: its end is waited for, and it isn't begun again.
    pub begun: bool,
}

named! {
    /// The kind of an effect, for crash points and logs.
    Kind {
        Announce = "announce",
        Hold = "hold",
        RaiseMark = "raise-mark",
        AskNeeds = "ask-needs",
        CheckUnits = "check-units",
        Gate = "gate",
        LinkNext = "link-next",
        Verify = "verify",
        Provide = "provide",
        AskLive = "ask-live",
        Hook = "hook",
        EndHooks = "end-hooks",
        Stop = "stop",
        Start = "start",
        Prove = "prove",
        Switch = "switch",
        Route = "route",
        Drain = "drain",
        Await = "await",
        AskOutside = "ask-outside",
        Soak = "soak",
        Confirm = "confirm",
        Retire = "retire",
        StopOthers = "stop-others",
        Return = "return",
        Restore = "restore",
        Point = "point",
        Links = "links",
        AskAgain = "ask-again",
        Judge = "judge",
        Rejoin = "rejoin",
        Close = "close",
        Unhold = "unhold",
        Rest = "rest",
        Record = "record",
    }
}

impl Effect {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Effect::Announce => Kind::Announce,
            Effect::Hold => Kind::Hold,
            Effect::RaiseMark => Kind::RaiseMark,
            Effect::AskNeeds(_) => Kind::AskNeeds,
            Effect::CheckUnits => Kind::CheckUnits,
            Effect::Gate => Kind::Gate,
            Effect::LinkNext => Kind::LinkNext,
            Effect::Verify(_) => Kind::Verify,
            Effect::Provide(..) => Kind::Provide,
            Effect::AskLive => Kind::AskLive,
            Effect::Hook(_) => Kind::Hook,
            Effect::EndHooks(_) => Kind::EndHooks,
            Effect::Stop(_) => Kind::Stop,
            Effect::Start(_) => Kind::Start,
            Effect::Prove(..) => Kind::Prove,
            Effect::Switch => Kind::Switch,
            Effect::Route(_) => Kind::Route,
            Effect::Drain(_) => Kind::Drain,
            Effect::Await(_) => Kind::Await,
            Effect::AskOutside => Kind::AskOutside,
            Effect::Soak(_) => Kind::Soak,
            Effect::Confirm(_) => Kind::Confirm,
            Effect::Retire => Kind::Retire,
            Effect::StopOthers(_) => Kind::StopOthers,
            Effect::Return(_) => Kind::Return,
            Effect::Restore(_) => Kind::Restore,
            Effect::Point(_) => Kind::Point,
            Effect::Links(_) => Kind::Links,
            Effect::AskAgain(_) => Kind::AskAgain,
            Effect::Judge(_) => Kind::Judge,
            Effect::Rejoin(_) => Kind::Rejoin,
            Effect::Close => Kind::Close,
            Effect::Unhold => Kind::Unhold,
            Effect::Rest => Kind::Rest,
            Effect::Record => Kind::Record,
        }
    }

    /// Whether it is left half-way when an operator says this: what he waits for ends with his word.
    pub fn gives_way_to(&self, word: Say) -> bool {
        match word {
            Say::Cancel => self.is_interruptible(),
            Say::Promote => self.kind() == Kind::Await,
            Say::Confirm => self.kind() == Kind::Soak,
        }
    }

    /// Whether it may be left half-way when an operator cancels: it only waits or reads, and what it began
    /// (a start job, a hook) the way back stops.
    pub fn is_interruptible(&self) -> bool {
        matches!(
            self.kind(),
            Kind::AskNeeds
                | Kind::Verify
                | Kind::Gate
                | Kind::AskLive
                | Kind::Hook
                | Kind::Start
                | Kind::Prove
                | Kind::Drain
                | Kind::Await
                | Kind::AskOutside
                | Kind::Soak
                | Kind::Confirm
        )
    }
}

impl Effect {
    /// The step that people see: where users come another way by the deployment, with that way.
    pub fn text(&self, facts: &Facts) -> String {
        match (self, &facts.reroute) {
            (Effect::Route(traffic), Some(Rerouted { to: Reroute { from, to }, .. })) => match traffic.way {
                Way::Old => format!("{self}, by {from}"),
                Way::Both => format!("{self}, by {to} beside {from}"),
                Way::New => format!("{self}, by {to} alone"),
            },
            _ => self.to_string(),
        }
    }
}

/// For the steps that people see.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |units: &[UnitName]| units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" ");
        match self {
            Effect::Announce => f.write_str("announce it"),
            Effect::Hold => f.write_str("set the hold mark"),
            Effect::RaiseMark => f.write_str("raise the mark"),
            Effect::AskNeeds(on) => {
                write!(f, "ask {}", on.iter().map(AppName::as_str).collect::<Vec<_>>().join(" "))
            }
            Effect::CheckUnits => f.write_str("check the units"),
            Effect::Gate => f.write_str("check the gate"),
            Effect::LinkNext => f.write_str("link next"),
            Effect::Verify(slot) => write!(f, "verify the files of {slot}"),
            Effect::Provide(side, _) => write!(f, "provide what {} reads", side.slot),
            Effect::AskLive => f.write_str("ask the live slot"),
            Effect::Hook(hook) => write!(f, "run the {} hook {}", hook.point, hook.unit),
            Effect::EndHooks(_) => f.write_str("end the hooks"),
            Effect::Stop(units) => write!(f, "stop {}", names(units)),
            Effect::Start(units) => write!(f, "start {}", names(units)),
            Effect::Prove(of, _) => {
                write!(f, "prove {}", units_of(of))
            }
            Effect::Switch => f.write_str("exchange current"),
            Effect::Route(traffic) => f.write_str(&route_text(traffic)),
            Effect::Drain(of) => write!(f, "drain {}", units_of(of)),
            Effect::Await(_) => f.write_str("an operator's `promote`"),
            Effect::AskOutside => f.write_str("ask from outside"),
            Effect::Soak(_) => f.write_str("watch it"),
            Effect::Confirm(_) => f.write_str("confirm that it still runs"),
            Effect::Retire => f.write_str("keep the old slot as fallback"),
            Effect::StopOthers(Some(side)) => write!(f, "stop all but {}", side.slot),
            Effect::StopOthers(None) => f.write_str("stop the candidate"),
            Effect::Return(to) => write!(f, "send users back to {}", units_of(to)),
            Effect::Restore(units) => write!(f, "bring up {}", names(units)),
            Effect::Point(slot) => write!(f, "point current at {slot}"),
            Effect::Links(_) => f.write_str("tidy the links"),
            Effect::AskAgain(side) => write!(f, "ask {} what the candidate failed", side.slot),
            Effect::Judge(_) => f.write_str("keep the evidence"),
            Effect::Rejoin(units) => write!(f, "see that {} still run", names(units)),
            Effect::Close => f.write_str("close it"),
            Effect::Unhold => f.write_str("remove the hold mark"),
            Effect::Rest => f.write_str("let the gate rest if nothing runs"),
            Effect::Record => f.write_str("write the history"),
        }
    }
}

fn units_of(instances: &[(UnitName, InstanceName)]) -> String {
    instances.iter().map(|(unit, _)| unit.as_str()).collect::<Vec<_>>().join(" ")
}

/// A whole side by its slot; else the instances.
fn route_text(traffic: &Traffic) -> String {
    match (traffic.to.as_slice(), traffic.weight) {
        ([], _) => "route to nobody".to_owned(),
        ([(_, first), ..], _) if traffic.whole => {
            let standby = traffic.standby.first().map(|(_, first)| format!(", {} stands by", first.slot));
            format!("route to {}{}", first.slot, standby.unwrap_or_default())
        }
        (_, None) => format!("route to {}", units_of(&traffic.to)),
        (_, Some(weight)) => format!("route to {}, {weight} % of it to the new ones", units_of(&traffic.to)),
    }
}
