//! What is kept of one job, and how it is found again.

use std::collections::BTreeMap;

use std::path::PathBuf;

use crate::blobs::{Blobs, Created};
use crate::error::{Result, StoreError};
use crate::file::{self, IndexEntry};
use crate::manifest::{FileRef, Kind, Manifest};
use crate::names;

/// What is kept of one job. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobStore {
    pub(crate) blobs: Blobs,
    name: String,
    folder: String,
}

/// A checkpoint or savepoint in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestInfo {
    /// What [`JobStore::at`] finds it by.
    pub name: String,
    /// Its number, if it could be told.
    pub sequence: Option<u64>,
    /// The epoch as of which its state is, in milliseconds.
    pub epoch: Option<u64>,
    /// When it was written, in milliseconds since 1970.
    pub created_ms: Option<u64>,
    /// What it was made for; `None` if that could not be told.
    pub kind: Option<Kind>,
    /// How many bytes its files have.
    pub bytes: u64,
    /// How many files it has.
    pub files: usize,
    /// `None` if it is whole, as far as can be told without reading all rows; otherwise what is wrong with it.
    pub problem: Option<String>,
}

/// What a manifest is kept under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Number(u64),
    Savepoint(String),
}

impl JobStore {
    pub(crate) fn new(blobs: Blobs, name: String, folder: String) -> JobStore {
        JobStore { blobs, name, folder }
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for what belongs to the job and is no checkpoint: `<store>/<what>/<job>`, if the store is a directory of this
    /// machine. The store itself neither makes it nor looks into it.
    pub fn folder_beside(&self, what: &str) -> Option<PathBuf> {
        let part = self.folder.strip_prefix("jobs/").unwrap_or(&self.folder);
        self.blobs.folder().map(|store| store.join(what).join(part))
    }

    /// All checkpoints and savepoints, newest first. Damaged ones are among them, and say what is wrong.
    pub fn list(&self) -> Result<Vec<ManifestInfo>> {
        let mut found = Vec::new();
        for place in self.places()? {
            let manifest = self.load(&place);
            if matches!(&manifest, Ok(Manifest { kind: Kind::Claim { .. }, .. })) {
                continue;
            }
            let checked = manifest
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|manifest| self.check(manifest).map_err(|e| e.to_string()));
            let (problem, manifest) = (checked.err(), manifest.ok());
            let number = if let Place::Number(number) = place { Some(number) } else { None };
            found.push(ManifestInfo {
                name: place.name(),
                sequence: manifest.as_ref().map(|manifest| manifest.sequence).or(number),
                epoch: manifest.as_ref().map(|manifest| manifest.epoch),
                created_ms: manifest.as_ref().map(|manifest| manifest.created_ms),
                bytes: manifest.as_ref().map_or(0, Manifest::bytes),
                files: manifest.as_ref().map_or(0, |manifest| manifest.files.len()),
                kind: manifest.map(|manifest| manifest.kind),
                problem,
            });
        }
        found.sort_by_key(|info| std::cmp::Reverse(info.sequence.unwrap_or(u64::MAX)));
        Ok(found)
    }

    /// The newest checkpoint; `None` if none was ever written.
    ///
    /// If it is missing or damaged, or any of its files is, that is an error that names the file and the newest whole checkpoint
    /// before it. What lies within the sections is checked when they are read.
    pub fn latest(&self) -> Result<Option<Manifest>> {
        let Some(number) = self.newest()? else { return Ok(None) };
        let manifest = self.at_place(&Place::Number(number))?;
        Ok(manifest.has_state().then_some(manifest))
    }

    /// The checkpoint with a number, or the savepoint with a name.
    pub fn at(&self, name: &str) -> Result<Manifest> {
        let place = match name.parse() {
            Ok(number) => Place::Number(number),
            Err(_) => Place::Savepoint(name.to_string()),
        };
        let manifest = match self.load(&place) {
            Err(StoreError::Missing { .. }) if self.newest()? != place.number() || place.number().is_none() => {
                let names: Vec<String> = self.list()?.into_iter().map(|info| info.name).collect();
                let there = if names.is_empty() { "none".into() } else { names.join(", ") };
                return Err(StoreError::Unknown { job: self.name.clone(), wanted: place.wanted(), there });
            }
            Err(error) => return Err(self.offering(error, place.number())),
            Ok(manifest) => manifest,
        };
        if !manifest.has_state() {
            let there = "a writer that had claimed the job and written nothing".into();
            return Err(StoreError::Unknown { job: self.name.clone(), wanted: place.wanted(), there });
        }
        self.check(&manifest).map_err(|error| self.offering(error, Some(manifest.sequence)))?;
        Ok(manifest)
    }

    /// Like [`JobStore::at`], for what must be there.
    pub(crate) fn at_place(&self, place: &Place) -> Result<Manifest> {
        let manifest = self.load(place).map_err(|error| self.offering(error, place.number()))?;
        self.check(&manifest).map_err(|error| self.offering(error, Some(manifest.sequence)))?;
        Ok(manifest)
    }

    /// Checks that all files of a manifest are there and are those that it names; does not read their rows.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<()> {
        manifest.files.iter().try_for_each(|file| self.index(file).map(|_| ()))
    }

    pub(crate) fn index(&self, file: &FileRef) -> Result<Vec<IndexEntry>> {
        file::read_index(&self.blobs, &self.path(&file.path), file)
    }

    /// Adds to an error about one file the newest whole checkpoint before `number` that does without it.
    pub(crate) fn offering(&self, error: StoreError, number: Option<u64>) -> StoreError {
        let (StoreError::Missing { file, .. } | StoreError::Corrupt { file, .. }) = &error else { return error };
        let damaged = file.clone();
        let before = number.unwrap_or(u64::MAX);
        let mut candidates = BTreeMap::new();
        for place in self.places().unwrap_or_default() {
            if let Ok(manifest) = self.load(&place)
                && manifest.has_state()
                && (manifest.sequence < before || manifest.sequence == before && place.number().is_none())
                && !manifest.files.iter().any(|file| self.address(&file.path) == damaged)
                && self.manifest_address(&place) != damaged
            {
                // Of equal content the checkpoint is named before the claim and the savepoint: it was the first.
                candidates.insert((manifest.sequence, manifest.kind == Kind::Checkpoint), manifest);
            }
        }
        let whole = candidates.into_values().rev().find(|manifest| self.check(manifest).is_ok());
        error.offering(whole.map(|manifest| manifest.name()))
    }

    /// Reads a manifest and checks that it is what its name says; does not look at its files.
    pub(crate) fn load(&self, place: &Place) -> Result<Manifest> {
        let path = self.manifest_path(place)?;
        let address = self.blobs.name(&path);
        let manifest = Manifest::decode(&self.blobs.read(&path)?, &address)?;
        let is_here = match (&manifest.kind, place) {
            (Kind::Savepoint { name }, Place::Savepoint(wanted)) => name == wanted,
            (Kind::Checkpoint | Kind::Claim { .. }, Place::Number(number)) => manifest.sequence == *number,
            _ => false,
        };
        if !is_here || manifest.job != self.name {
            return Err(StoreError::corrupt(
                address,
                format!("it is {} of job {}, and lies where another must be", manifest.name(), manifest.job),
            ));
        }
        if manifest.files.iter().any(|file| !file.path.starts_with("data/") || file.path.contains("..")) {
            return Err(StoreError::corrupt(address, "it names a file that does not lie in the job's data folder"));
        }
        Ok(manifest)
    }

    /// Numbers of manifests, oldest first.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> = self.names_in("manifests")?.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Names of savepoints.
    pub(crate) fn savepoint_names(&self) -> Result<Vec<String>> {
        Ok(self.names_in("savepoints")?.iter().filter_map(|part| names::from_part(part)).collect())
    }

    fn names_in(&self, folder: &str) -> Result<Vec<String>> {
        let listed = self.blobs.list(&self.path(folder))?;
        let name = |path: &str| path.rsplit('/').next().and_then(|file| file.strip_suffix(".manifest")).map(str::to_string);
        Ok(listed.iter().filter_map(|path| name(path)).collect())
    }

    /// Everything that has a manifest, and the newest number even if its manifest is gone.
    pub(crate) fn places(&self) -> Result<Vec<Place>> {
        let mut numbers = self.numbers()?;
        if let Some(newest) = self.newest()?
            && !numbers.contains(&newest)
        {
            numbers.push(newest);
        }
        let savepoints = self.savepoint_names()?.into_iter().map(Place::Savepoint);
        Ok(numbers.into_iter().map(Place::Number).chain(savepoints).collect())
    }

    /// The newest manifest's number. It is not less than what the last writer noted, so that a manifest which was removed is missed.
    pub(crate) fn newest(&self) -> Result<Option<u64>> {
        let noted = self.noted()?;
        Ok(self.numbers()?.last().copied().max(noted))
    }

    /// The number that was noted by [`JobStore::note`]; `None` if none was.
    pub(crate) fn noted(&self) -> Result<Option<u64>> {
        let path = self.path("newest");
        let text = match self.blobs.read(&path) {
            Ok(text) => text,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = std::str::from_utf8(&text).ok().and_then(|text| {
            let (number, rest) = text.strip_prefix("highwater-newest ")?.split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            (note(number) == text && rest.ends_with('\n')).then_some(number)
        });
        let wrong = || {
            let what = "its checksum does not match; delete it if the newest manifest beside it is the one you expect";
            StoreError::corrupt(self.blobs.name(&path), what)
        };
        number.map(Some).ok_or_else(wrong)
    }

    /// Notes the newest manifest's number, after it was written.
    pub(crate) fn note(&self, number: u64) -> Result<()> {
        self.blobs.replace(&self.path("newest"), note(number).into_bytes())
    }

    /// The path within the store of a path below the job's folder.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.folder)
    }

    /// The address of a path below the job's folder, for errors.
    pub(crate) fn address(&self, path: &str) -> String {
        self.blobs.name(&self.path(path))
    }

    pub(crate) fn manifest_path(&self, place: &Place) -> Result<String> {
        Ok(match place {
            Place::Number(number) => self.path(&format!("manifests/{number:020}.manifest")),
            Place::Savepoint(name) => self.path(&format!("savepoints/{}.manifest", names::to_part(name, "savepoint")?)),
        })
    }

    pub(crate) fn manifest_address(&self, place: &Place) -> String {
        self.manifest_path(place).map(|path| self.blobs.name(&path)).unwrap_or_default()
    }

    /// Writes a manifest where none is.
    pub(crate) fn put(&self, place: &Place, manifest: &Manifest) -> Result<Created> {
        Ok(self.blobs.create(&self.manifest_path(place)?, manifest.encode()))
    }
}

fn note(number: u64) -> String {
    let sum = crate::manifest::checksum(&number.to_le_bytes());
    format!("highwater-newest {number} xxh3-64 {sum}\n")
}

impl Place {
    pub(crate) fn number(&self) -> Option<u64> {
        if let Place::Number(number) = self { Some(*number) } else { None }
    }

    fn name(&self) -> String {
        match self {
            Place::Number(number) => number.to_string(),
            Place::Savepoint(name) => name.clone(),
        }
    }

    fn wanted(&self) -> String {
        match self {
            Place::Number(number) => format!("checkpoint {number}"),
            Place::Savepoint(name) => format!("savepoint `{name}`"),
        }
    }
}
