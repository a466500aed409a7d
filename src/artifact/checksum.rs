//! The digest that may lie beside an artifact: `web-1.4.2.tar.zst.sha256`.
//!
//! It guards against damage only: who can replace the artifact can replace it too.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::model::Digest;

use super::error::{ArtifactError, Rule};
use super::spool;

/// Ending of the file beside an artifact.
pub const ENDING: &str = ".sha256";
/// The most that is read of it.
pub const MAX_BYTES: u64 = 4096;

/// Compares `actual` with what `FILE.sha256` in `dir` says; `None` if there is no such file. Either a bare digest
/// or a line as `sha256sum` writes it, of this file's name.
///
/// # Errors
/// `trust.digest_mismatch` for another digest and for a file that holds none; as [`spool::copy_in`] where it can't
/// be read.
pub fn verify(dir: &Path, file: &str, actual: &Digest) -> Result<Option<Digest>, ArtifactError> {
    let beside = format!("{file}{ENDING}");
    let path = dir.join(&beside);
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let mut text = Vec::new();
    let opened = File::from(spool::open(&path).map_err(|error| error.about(&beside))?);
    opened.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(ArtifactError::io("read", &path))?;
    let said = parse(&text, file)
        .map_err(|why| ArtifactError::from(Rule::DigestMalformed { beside: beside.clone(), why }).about(file))?;
    if said != *actual {
        let (said, actual) = (said.to_string(), actual.to_string());
        return Err(ArtifactError::from(Rule::DigestMismatch { beside, said, actual }).about(file));
    }
    Ok(Some(said))
}

fn parse(text: &[u8], file: &str) -> Result<Digest, String> {
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    let text = str::from_utf8(text).map_err(|_| "it isn't UTF-8")?.trim();
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.lines().count() > 1 {
        return Err("it has more than one line".into());
    }
    let (digest, name) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    // `*` marks binary mode; a path is the one of whoever made the file.
    let name = name.trim_start().trim_start_matches('*');
    let name = name.rsplit('/').next().unwrap_or(name);
    if !name.is_empty() && name != file {
        return Err(format!("it is about {name:?}"));
    }
    digest.to_ascii_lowercase().parse().map_err(|error: crate::model::digest::DigestError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn verified(content: Option<&str>) -> Result<bool, Code> {
        let dir = tempfile::tempdir().expect("folder");
        if let Some(content) = content {
            std::fs::write(dir.path().join("web-1.tar.sha256"), content).expect("write");
        }
        let actual = DIGEST.parse().expect("digest");
        verify(dir.path(), "web-1.tar", &actual).map(|said| said.is_some()).map_err(|error| error.code())
    }

    #[test]
    fn what_sha256sum_writes_is_understood() {
        assert_eq!(verified(None), Ok(false));
        for good in [
            DIGEST.to_owned(),
            format!("{DIGEST}\n"),
            format!("{DIGEST}  web-1.tar\n"),
            format!("{DIGEST} *web-1.tar\n"),
            format!("{DIGEST}  dist/web-1.tar\n"),
            format!("{}\r\n", DIGEST.to_uppercase()),
        ] {
            assert_eq!(verified(Some(&good)), Ok(true), "{good}");
        }
    }

    #[test]
    fn anything_else_is_a_mismatch() {
        for bad in [
            String::new(),
            DIGEST.replace('b', "c"),
            DIGEST[1..].to_owned(),
            format!("{DIGEST}  web-2.tar\n"),
            format!("{DIGEST}  web-1.tar\n{DIGEST}  web-2.tar\n"),
            format!("{DIGEST}{}", " ".repeat(5000)),
            "no digest".to_owned(),
        ] {
            assert_eq!(verified(Some(&bad)), Err(Code::TrustDigestMismatch), "{bad}");
        }
    }
}
