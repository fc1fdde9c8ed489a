//! The repository's files: what git knows or would add, or everything but build output where there is no git.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file.
pub(crate) struct File {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// How long it is.
    pub(crate) bytes: u64,
    /// Its text; `None` if it is not UTF-8.
    pub(crate) text: Option<String>,
}

/// The root: two folders above this crate.
pub(crate) fn root() -> PathBuf {
    // Asked when the test runs: clones that share a build directory share this binary, too.
    let built = || env!("CARGO_MANIFEST_DIR").into();
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built);
    let crate_folder = Path::new(&crate_folder);
    crate_folder.ancestors().nth(2).expect("this crate lies in tests/tidy").to_path_buf()
}

/// All files, by path.
pub(crate) fn files() -> Vec<File> {
    let root = root();
    let mut paths = from_git(&root).unwrap_or_else(|| from_disk(&root));
    paths.sort();
    let files = paths.into_iter().filter_map(|path| {
        let content = fs::read(root.join(&path)).ok()?;
        Some(File { path, bytes: content.len() as u64, text: String::from_utf8(content).ok() })
    });
    files.collect()
}

/// All files of Rust.
pub(crate) fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// The text of a file; empty if it is not there.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

impl File {
    /// Its text.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Its lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text().lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether it is only compiled for tests and benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        let part = |part: &str| self.path.split('/').any(|found| found.strip_suffix(".rs").unwrap_or(found) == part);
        ["tests", "benches", "testing"].into_iter().any(part)
    }

    /// The lines that are no comments and stand before the file's own tests.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text().lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair[0].starts_with("#[cfg(test)]") && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
        let end = if self.is_test() { 0 } else { tests.unwrap_or(lines.len()) };
        self.lines().take(end).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let listed = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    if !listed.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    Some(text.split('\0').filter(|path| !path.is_empty()).map(str::to_string).collect())
}

fn from_disk(root: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be listed").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                paths.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    paths
}
