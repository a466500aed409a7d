//! What TOML says, as validated settings; errors show the line with a caret.

pub mod app;
pub mod host;
pub mod pattern;

pub use app::AppSettings;
pub use pattern::Pattern;
