//! Where a store lies: a directory, memory, or an object store of a cloud.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::blobs::Blobs;
use crate::error::{Result, StoreError};

/// Schemes that need the feature `cloud`.
const CLOUD: [&str; 9] = ["s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl"];

/// Stores in memory that have names, for as long as the process lives.
static MEMORY: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());

/// Opens the files at an address; `create` makes the directory if there is none. Options are those of object stores.
pub(crate) fn open(address: &str, create: bool, options: &[(&str, &str)]) -> Result<Blobs> {
    let is_cloud = address.split_once("://").is_some_and(|(scheme, _)| CLOUD.contains(&scheme));
    if let Some((name, _)) = options.first().filter(|_| !is_cloud) {
        return Err(wrong(address, format!("only object stores of clouds have options, and `{name}` is given")));
    }
    let Some((scheme, rest)) = address.split_once("://") else { return directory(FilePath::new(address), address, create) };
    match scheme {
        "file" if rest.starts_with('/') => directory(FilePath::new(rest), address, create),
        "file" => Err(wrong(address, "a file's address has three slashes: file:///var/lib/highwater")),
        "memory" => memory(rest, address),
        _ if CLOUD.contains(&scheme) => cloud(address, options),
        _ => Err(wrong(address, "give a directory, or an address that begins with file://, memory://, s3://, gs:// or az://")),
    }
}

fn wrong(address: &str, what: impl Into<String>) -> StoreError {
    StoreError::Address { url: address.into(), what: what.into() }
}

fn directory(folder: &FilePath, address: &str, create: bool) -> Result<Blobs> {
    if folder.as_os_str().is_empty() {
        return Err(wrong(address, "it is empty"));
    }
    let fault = |attempted: &'static str| {
        move |error: std::io::Error| StoreError::Io { file: address.to_string(), attempted, what: error.to_string() }
    };
    if create {
        create_folders(folder).map_err(fault("creating"))?;
    } else if !folder.exists() {
        let what = "there is nothing; a job that keeps checkpoints makes it, or check the path";
        return Err(StoreError::NotAStore { place: address.into(), what: what.into() });
    }
    if !folder.is_dir() {
        return Err(StoreError::NotAStore { place: address.into(), what: "it is no directory".into() });
    }
    let folder = folder.canonicalize().map_err(fault("opening"))?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| wrong(address, error.to_string()))?;
    // Without it a file may be there after a crash and be empty.
    let store = store.with_fsync(true);
    let place = folder.display().to_string();
    Blobs::new(Arc::new(store), Path::default(), place, Some(folder))
}

/// Creates a directory and those above it, durably.
fn create_folders(folder: &FilePath) -> std::io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    create_folders(&parent)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if cfg!(unix) { std::fs::File::open(&parent)?.sync_all() } else { Ok(()) }
}

/// `memory://name` is the same store wherever the process names it; `memory://` is a new one every time.
fn memory(name: &str, address: &str) -> Result<Blobs> {
    let store = match name {
        "" => Arc::default(),
        _ => MEMORY.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_string()).or_default().clone(),
    };
    Blobs::new(store, Path::default(), address.trim_end_matches('/').to_string(), None)
}

#[cfg(not(feature = "cloud"))]
fn cloud(address: &str, _options: &[(&str, &str)]) -> Result<Blobs> {
    Err(wrong(address, "this build has no object stores of clouds; build highwater with `--features cloud`"))
}

/// Opens an object store with what the environment says of it: AWS_*, GOOGLE_*, AZURE_*.
#[cfg(feature = "cloud")]
fn cloud(address: &str, given: &[(&str, &str)]) -> Result<Blobs> {
    let url = url::Url::parse(address).map_err(|error| wrong(address, error.to_string()))?;
    let known = ["aws_", "google_", "azure_"];
    let options = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?)))
        .filter(|(name, _)| known.iter().any(|prefix| name.starts_with(prefix)))
        .chain(given.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let (store, base) = object_store::parse_url_opts(&url, options).map_err(|error| wrong(address, error.to_string()))?;
    Blobs::new(Arc::from(store), base, address.trim_end_matches('/').to_string(), None)
}
