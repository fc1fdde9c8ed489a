//! A store: where the checkpoints of many jobs lie.

use serde::{Deserialize, Serialize};

use crate::address;
use crate::blobs::{Blobs, Created};
use crate::error::{Result, StoreError};
use crate::job::JobStore;
use crate::names;

/// The file that says what a folder is.
const MARK: &str = "highwater-store.json";
/// The newest layout that is read, and the one that is written.
const LAYOUT: u64 = 1;

/// Where the checkpoints of many jobs lie. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    blobs: Blobs,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    highwater_store: u64,
}

impl Store {
    /// Opens a store that is there.
    ///
    /// The address is a directory or `file://`, `memory://name` (for tests: the same store for the whole process; without a name a
    /// new one), or with the feature `cloud` `s3://bucket/prefix`, `gs://..`, `az://..` with credentials from the environment
    /// (`AWS_*`, `GOOGLE_*`, `AZURE_*`).
    pub fn open(address: &str) -> Result<Store> {
        Store::open_with(address, &[])
    }

    /// Like [`Store::open`], with options of the object store that go before the environment's: `aws_endpoint`, say.
    pub fn open_with(address: &str, options: &[(&str, &str)]) -> Result<Store> {
        let store = Store { blobs: address::open(address, false, options)? };
        if store.is_marked()? {
            return Ok(store);
        }
        let what = format!("there is no {MARK}; a job that keeps checkpoints writes it, or check the address");
        Err(StoreError::NotAStore { place: store.blobs.name(""), what })
    }

    /// Opens a store, and makes one where nothing is.
    pub fn create(address: &str) -> Result<Store> {
        Store::create_with(address, &[])
    }

    /// Like [`Store::create`], with options as in [`Store::open_with`].
    pub fn create_with(address: &str, options: &[(&str, &str)]) -> Result<Store> {
        Store::over(address::open(address, true, options)?)
    }

    pub(crate) fn over(blobs: Blobs) -> Result<Store> {
        let store = Store { blobs };
        if store.is_marked()? {
            return Ok(store);
        }
        let (folders, files) = store.blobs.folders("")?;
        if files || !folders.is_empty() {
            let what = format!("it holds other things and no {MARK}; give an empty directory");
            return Err(StoreError::NotAStore { place: store.blobs.name(""), what });
        }
        let mark = serde_json::to_vec(&Mark { highwater_store: LAYOUT }).expect("a number is JSON");
        match store.blobs.create(MARK, mark) {
            Created::Done | Created::Exists => Ok(store),
            Created::Failed(error) => Err(error),
        }
    }

    /// Whether the mark is there, and of a layout that can be read.
    fn is_marked(&self) -> Result<bool> {
        let text = match self.blobs.read(MARK) {
            Ok(text) => text,
            Err(StoreError::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let file = self.blobs.name(MARK);
        let mark: Mark = serde_json::from_slice(&text)
            .map_err(|error| StoreError::corrupt(&file, format!("it must be {{\"highwater_store\":{LAYOUT}}}: {error}")))?;
        match mark.highwater_store {
            LAYOUT => Ok(true),
            0 => Err(StoreError::corrupt(file, "there is no layout 0")),
            found => Err(StoreError::Newer { file, found, supported: LAYOUT }),
        }
    }

    /// The address, as errors name it.
    pub fn address(&self) -> String {
        self.blobs.name("")
    }

    /// Names of all jobs that have something here, sorted.
    pub fn jobs(&self) -> Result<Vec<String>> {
        let (folders, _) = self.blobs.folders("jobs")?;
        let mut names: Vec<String> = folders.iter().filter_map(|part| names::from_part(part)).collect();
        names.sort();
        Ok(names)
    }

    /// What is kept of one job. It need not have anything yet.
    pub fn job(&self, name: &str) -> Result<JobStore> {
        let folder = format!("jobs/{}", names::to_part(name, "job")?);
        Ok(JobStore::new(self.blobs.clone(), name.to_string(), folder))
    }
}
