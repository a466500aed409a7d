//! In which line of a settings file each key stands.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::document::{Place, Section};

impl Section<'_> {
    /// The line in which each key stands: "soak.time", "env.A", "unit.web@.instances"; what a list of sections says of a
    /// unit goes by the unit's name, the first one's unless it names one, and its number.
    pub(super) fn lines(&self, first_unit: &str) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        let line = |place: Place| 1 + self.document.text.get(..place.start).unwrap_or_default().matches('\n').count();
        let mut counts = BTreeMap::<String, usize>::new();
        for (name, value) in self.table.iter() {
            lines.insert(name.get_ref().to_string(), line(name.span()));
            match value.get_ref() {
                DeValue::Table(table) => {
                    for (key, _) in table.iter() {
                        lines.insert(format!("{}.{}", name.get_ref(), key.get_ref()), line(key.span()));
                    }
                }
                DeValue::Array(list) => {
                    for item in list.iter() {
                        let DeValue::Table(table) = item.get_ref() else { continue };
                        let text = |key: &str| match table.get(key).map(Spanned::get_ref) {
                            Some(DeValue::String(text)) => Some(text.as_ref()),
                            _ => None,
                        };
                        let named = if name.get_ref() == "unit" { "name" } else { "unit" };
                        let unit = text(named).unwrap_or(first_unit);
                        let path = format!("{}.{unit}", name.get_ref());
                        let count = counts.entry(path.clone()).or_default();
                        *count += 1;
                        lines.insert(format!("{path}.{count}"), line(item.span()));
                        for (key, _) in table.iter() {
                            lines.insert(format!("{path}.{}", key.get_ref()), line(key.span()));
                        }
                    }
                }
                _ => {}
            }
        }
        lines
    }
}
