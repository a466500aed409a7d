//! Symbolic and hard links: where they may lead.

use std::collections::HashMap;

use thiserror::Error;

use crate::model::Code;

use super::path::{MAX_DEPTH, MAX_PATH_BYTES, PathError, check_component};

/// Links on the way of one; the kernel's own bound (path_resolution(7)).
const MAX_HOPS: usize = 40;
/// Components on the way of one, so that no row of long links takes for ever to prove.
const MAX_STEPS: usize = 4096;

/// Why a link isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// From the root.
    #[error("the link leads to the absolute path {0}")]
    Absolute(String),
    /// Out of the tree.
    #[error("the link to {0} leads out of the tree")]
    Escapes(String),
    /// Round and round.
    #[error("the link to {0} leads round in a circle, or through more than {MAX_HOPS} links")]
    Circle(String),
    /// A target that can't be read in one way.
    #[error("the link's target can't stand in a tree ({0})")]
    Target(&'static str),
    /// An entry below a link.
    #[error("{0} is a symbolic link, and entries lie below it")]
    Through(String),
    /// A hard link to what isn't there.
    #[error("the hard link leads to {0}, which is no file that the archive had before")]
    NoFile(String),
}

impl LinkError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            LinkError::NoFile(_) => Code::ArchiveHardlink,
            _ => Code::ArchiveLinkEscape,
        }
    }
}

/// A symbolic link's target as text, if its parts can stand in a tree at all.
pub(super) fn target(raw: &[u8]) -> Result<&str, LinkError> {
    let text = str::from_utf8(raw).map_err(|_| LinkError::Target("it isn't UTF-8"))?;
    if text.is_empty() {
        return Err(LinkError::Target("it is empty"));
    }
    // The kernel counts the NUL that ends it.
    if text.len() >= MAX_PATH_BYTES {
        return Err(LinkError::Target("it is too long"));
    }
    if text.starts_with('/') {
        return Err(LinkError::Absolute(text.to_owned()));
    }
    for component in text.split('/').filter(|component| !matches!(*component, "" | "." | "..")) {
        check_component(component).map_err(|error| match error {
            PathError::Backslash => LinkError::Target("a backslash"),
            PathError::Nul => LinkError::Target("a NUL byte"),
            _ => LinkError::Target("a component is too long"),
        })?;
    }
    Ok(text)
}

/// Proves that the link at `path` ends inside the tree, those of `links` (path → target) on its way followed.
/// What it leads to needn't be there.
pub(super) fn check<'a>(path: &'a str, target: &'a str, links: &HashMap<&'a str, &'a str>) -> Result<(), LinkError> {
    // What is left to walk, the next component last.
    let mut todo: Vec<&str> = target.rsplit('/').collect();
    let mut at: Vec<&str> = path.split('/').collect();
    at.pop();
    let (mut hops, mut steps) = (0, 0);
    while let Some(component) = todo.pop() {
        steps += 1;
        if steps > MAX_STEPS || at.len() > MAX_DEPTH {
            return Err(LinkError::Target("the way is too long"));
        }
        match component {
            "" | "." => {}
            ".." => {
                at.pop().ok_or_else(|| LinkError::Escapes(target.to_owned()))?;
            }
            name => {
                at.push(name);
                if let Some(next) = links.get(at.join("/").as_str()) {
                    at.pop();
                    todo.extend(next.rsplit('/'));
                    hops += 1;
                    if hops > MAX_HOPS {
                        return Err(LinkError::Circle(target.to_owned()));
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(links: &[(&'static str, &'static str)]) -> Option<LinkError> {
        let map = links.iter().copied().collect();
        links.iter().find_map(|(path, target)| check(path, target, &map).err())
    }

    #[test]
    fn links_inside_pass() {
        for links in [
            &[("current", "releases/1")][..],
            &[("bin/web", "../lib/web")],
            &[("a/b/c", "../..")],
            &[("a", ".")],
            &[("a", "b"), ("b", "c")],
            &[("lib64", "lib/"), ("lib/x", "./y")],
            &[("up", "deep/er"), ("x", "up/../other")],
        ] {
            assert_eq!(checked(links), None, "{links:?}");
        }
    }

    #[test]
    fn links_out_are_refused() {
        for links in [
            &[("a", "..")][..],
            &[("a/b", "../../etc")],
            &[("a", "b/../../c")],
            // `x` is the top folder, so `x/..` is above it.
            &[("x", "."), ("y", "x/..")],
            &[("d/x", ".."), ("y", "d/x/../z")],
        ] {
            assert!(matches!(checked(links), Some(LinkError::Escapes(_))), "{links:?}");
        }
        assert!(matches!(checked(&[("a", "a")]), Some(LinkError::Circle(_))));
        assert!(matches!(checked(&[("a", "b"), ("b", "a/x")]), Some(LinkError::Circle(_))));
    }

    #[test]
    fn targets_are_relative_plain_text() {
        assert_eq!(target(b"../a/./b/"), Ok("../a/./b/"));
        assert!(matches!(target(b"/etc/passwd"), Err(LinkError::Absolute(_))));
        for bad in [&b""[..], b"a\\b", b"a\0b", b"\xff", &[b'a'; 256], &b"a/".repeat(2048)] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }
}
