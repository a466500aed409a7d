//! Whether somebody else could change a folder: every step of the way to it is looked at.
//!
//! The rule is strict on purpose: a sticky bit doesn't save a shared folder. What lies below `/tmp` can be
//! raced for while it doesn't exist and is cleaned away by age while it does (CVE-2026-3888).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::error::DurableError;

/// Most symbolic links on the way to a folder, as the kernel has it.
const MAX_LINKS: usize = 40;

/// Checks an absolute path: every folder and link on the way to it, and itself, belongs to root or to us, and
/// no folder can be written by its group or by others. What isn't there yet is no fault: who makes it decides.
pub fn secure_dir(path: &Path) -> Result<(), DurableError> {
    secure_dir_below(Path::new(""), path)
}

/// [`secure_dir`], taking `base` and what leads to it as safe: for state below a folder that the caller made
/// and answers for.
pub fn secure_dir_below(base: &Path, path: &Path) -> Result<(), DurableError> {
    if !path.is_absolute() {
        return Err(insecure(path, "the path isn't absolute"));
    }
    let us = rustix::process::geteuid().as_raw();
    let mut rest: VecDeque<OsString> = steps(path);
    let (mut here, mut links) = (PathBuf::new(), 0);
    while let Some(step) = rest.pop_front() {
        if step == ".." {
            here.pop();
            continue;
        }
        here.push(&step);
        let meta = match std::fs::symlink_metadata(&here) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(DurableError::io("look at", &here)(error)),
        };
        let trusted = base.starts_with(&here);
        if !trusted && meta.uid() != 0 && meta.uid() != us {
            let reason = format!("it belongs to user {}, and should to root or to user {us}", meta.uid());
            return Err(insecure(&here, reason));
        }
        if meta.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(insecure(&here, "too many symbolic links lead to it"));
            }
            let target = std::fs::read_link(&here).map_err(DurableError::io("read the link", &here))?;
            here.pop();
            for step in steps(&target).into_iter().rev() {
                rest.push_front(step);
            }
        } else if !meta.is_dir() {
            return Err(insecure(&here, "it is no folder"));
        } else if !trusted && meta.mode() & 0o022 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(insecure(&here, format!("its mode {mode:04o} lets others write; at most 0755 will do")));
        }
    }
    Ok(())
}

/// The steps of a path; pushing an absolute one's first step starts over at the root.
fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |component: Component<'_>| (component != Component::CurDir).then(|| component.as_os_str().to_owned());
    path.components().filter_map(step).collect()
}

fn insecure(path: &Path, reason: impl Into<String>) -> DurableError {
    DurableError::Insecure { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn dir(path: PathBuf, mode: u32) -> PathBuf {
        std::fs::create_dir(&path).expect("folder");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
        path
    }

    #[test]
    fn the_systems_own_folders_are_safe_and_tmp_is_not() {
        secure_dir(Path::new("/etc")).expect("safe");
        secure_dir(Path::new("/etc/absent-for-a-test/below")).expect("not there yet");
        let error = secure_dir(Path::new("/tmp/slotd")).expect_err("shared");
        assert_eq!(error.code(), Code::ConfigInsecureDir);
        assert_eq!(
            error.to_string(),
            "/tmp isn't safe for slotd's state: its mode 1777 lets others write; at most 0755 will do"
        );
        assert!(secure_dir(Path::new("var/lib")).is_err(), "relative");
    }

    #[test]
    fn each_step_counts_and_links_are_walked() {
        let base = tempfile::tempdir().expect("dir");
        let base = base.path();
        let good = dir(base.join("good"), 0o755);
        let shared = dir(base.join("shared"), 0o775);
        let below = dir(shared.join("state"), 0o700);
        secure_dir_below(base, &good).expect("safe");
        assert!(secure_dir_below(base, &below).is_err(), "its parent is shared");
        symlink("shared/state", base.join("link")).expect("link");
        assert!(secure_dir_below(base, &base.join("link")).is_err(), "a link leads into a shared folder");
        symlink("../good", good.join("round")).expect("link");
        secure_dir_below(base, &good.join("round")).expect("a safe link to a safe folder");
        symlink("loop", base.join("loop")).expect("link");
        assert!(secure_dir_below(base, &base.join("loop")).is_err(), "no end");
        std::fs::write(good.join("file"), "").expect("file");
        assert!(secure_dir_below(base, &good.join("file")).is_err(), "no folder");
    }
}
