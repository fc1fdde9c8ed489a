//! Which files a path means: itself, those in a directory, or those that match a pattern.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// What `path` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paths {
    /// One file.
    File(PathBuf),
    /// The files of a directory whose names match a pattern of `*` and letters.
    Matching(PathBuf, String),
}

impl Paths {
    /// Reads a path: with `*` in its last part a pattern, and a directory is all its files.
    pub(super) fn new(text: &str) -> Paths {
        let path = Path::new(text);
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.contains('*') => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Paths::Matching(parent.to_path_buf(), name.to_string())
            }
            _ if path.is_dir() => Paths::Matching(path.to_path_buf(), "*".to_string()),
            _ => Paths::File(path.to_path_buf()),
        }
    }

    /// The files there are now, sorted; hidden ones are left out. A single file need not exist.
    pub(super) fn list(&self) -> io::Result<Vec<PathBuf>> {
        let (directory, pattern) = match self {
            Paths::File(path) => return Ok(vec![path.clone()]),
            Paths::Matching(directory, pattern) => (directory, pattern),
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !name.starts_with('.') && matches(pattern.as_bytes(), name.as_bytes()) && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Paths::File(path) => write!(f, "{}", path.display()),
            Paths::Matching(directory, pattern) => write!(f, "{}/{pattern}", directory.display()),
        }
    }
}

/// Whether a name is the pattern with each `*` replaced by something.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|taken| matches(rest, &name[taken..])),
        Some((letter, rest)) => name.split_first().is_some_and(|(first, name)| first == letter && matches(rest, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_anything() {
        assert!(matches(b"*.json*", b"a.json.gz") && matches(b"*", b"") && matches(b"a*b*c", b"aXbYc"));
        assert!(!matches(b"*.json", b"a.jsonl") && !matches(b"a*", b"ba"));
    }
}
