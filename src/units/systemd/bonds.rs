//! What ties a unit to others, as systemd's properties show it: systemd.unit(5), "Mapping of unit properties to their
//! inverses".

use crate::model::UnitName;
use crate::units::Bonds;

use super::trouble::Trouble;
use super::view::{Properties, names};
use super::{Systemd, bounded, properties};

/// Whose stop follows the stop of the unit.
const STOPS: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];

/// What a start of the unit brings up, or can't do without.
const STARTS: [&str; 5] = ["Requires", "Requisite", "BindsTo", "Wants", "Upholds"];

impl Systemd {
    pub(super) async fn try_bonds(&self, unit: &UnitName) -> Result<Bonds, Trouble> {
        let link = self.link().await?;
        let path = bounded(link.manager.load_unit(unit.as_str())).await?;
        let mut shown = properties(&link, &path, "org.freedesktop.systemd1.Unit").await?;
        Ok(Bonds { stops: all(&mut shown, &STOPS), starts: all(&mut shown, &STARTS) })
    }
}

fn all(shown: &mut Properties, keys: &[&str]) -> Vec<UnitName> {
    let mut found: Vec<UnitName> = keys.iter().flat_map(|key| names(shown, key)).map(UnitName::new).collect();
    found.sort();
    found.dedup();
    found
}
