//! The one who writes a job's checkpoints.
//!
//! ```text
//! claim ──► manifest n      (same content as n-1: from now on n-1's writer is fenced)
//! commit ─► data file, durable ──► manifest n+1, put if absent ──► is it the newest? ──► note it ──► tidy
//! ```
//!
//! **Fencing.** Two writers cannot both create manifest n+1, and who claims takes the number after the manifest whose content it goes
//! on from. A number can become free again when retention deletes an old manifest. A writer that slept so long sees, after it has
//! put its own, that there are newer ones; each manifest says by which numbers the job was claimed, so it can tell whether they
//! follow its own (then it was taken over just now) or whether its number had been another's (then it takes its manifest back).
//!
//! **What an error means.** After [`StoreError::Io`] and [`StoreError::Refused`] the checkpoint was not written, and the same
//! sections may be committed again. After [`StoreError::Uncertain`] nobody can tell, and this writer writes no more: whoever goes
//! on claims the job and reads what is there. After [`StoreError::Fenced`] it must stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use highwater_turns::{Point, crash_point, lock, wall};
use serde_json::Value;

use crate::blobs::Created;
use crate::compact::Folded;
use crate::error::{Result, StoreError};
use crate::file::FileWriter;
use crate::job::{JobStore, Place};
use crate::manifest::{FileRef, Kind, Manifest, Owner};
use crate::names;
use crate::section::{Section, check_depth};

/// How often a claim is tried when others claim at the same time.
const CLAIMS_MAX: usize = 16;

/// How many claims a manifest remembers.
const CLAIMS_KEPT: usize = 64;

/// How a writer behaves, and what it says of itself.
#[derive(Clone)]
pub struct Options {
    /// How many checkpoints are kept, the newest; at least 1.
    pub retain: usize,
    /// The machine's name, for whoever is fenced.
    pub host: String,
    /// The process, for whoever is fenced.
    pub pid: u32,
    /// Tells the time, in milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for Options {
    fn default() -> Options {
        let now_ms = || wall().as_millis() as u64;
        Options { retain: 3, host: host(), pid: std::process::id(), now_ms: Arc::new(now_ms) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("retain", &self.retain).field("host", &self.host).field("pid", &self.pid).finish()
    }
}

fn host() -> String {
    let asked = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    asked.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).unwrap_or_else(|| "an unnamed host".into())
}

/// What a checkpoint is to hold.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The epoch as of which the state is, in milliseconds; not before that of the checkpoint before.
    pub epoch: u64,
    /// What the writer says of it. Numbers that are no integers may lose their last digit.
    pub meta: Value,
    /// What is new. None: no file is written.
    pub sections: Vec<Section>,
    /// Which files of the checkpoint before it are part of it.
    pub keep: Keep,
}

/// Which files of the checkpoint before stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All: what is committed is an increment.
    #[default]
    All,
    /// None: what is committed is everything.
    None,
    /// Those with these paths ([`FileRef::path`]), in the order in which they were.
    Files(Vec<String>),
}

/// The one who writes a job's checkpoints. It may be shared between threads; commits follow one another.
pub struct Writer {
    pub(crate) job: JobStore,
    owner: Owner,
    pub(crate) options: Options,
    files: AtomicU64,
    pub(crate) compacting: Mutex<()>,
    /// No compaction is of use any more.
    pub(crate) stopped: AtomicBool,
    state: Mutex<State>,
}

/// What a writer knows.
pub(crate) struct State {
    /// The newest manifest: its own.
    pub(crate) head: Manifest,
    /// Why nobody can tell what the newest manifest is.
    lost: Option<StoreError>,
    /// A folded file that the next commit takes in.
    pub(crate) folded: Option<Folded>,
    /// Files that a compaction reads.
    pub(crate) reading: BTreeSet<String>,
    /// Files that nothing needs and that could not be deleted yet.
    pub(crate) condemned: BTreeSet<String>,
    /// Manifests that were read; `None`: it cannot be.
    pub(crate) known: BTreeMap<u64, Option<Manifest>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("job", &self.job).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl JobStore {
    /// Makes the caller the only writer of this job, going on from its newest checkpoint.
    ///
    /// Whoever wrote before is fenced from now on. Files that crashed writers left behind are deleted. If the newest checkpoint is
    /// damaged that is an error, as for [`JobStore::latest`].
    pub fn claim(&self, options: Options) -> Result<Writer> {
        self.claim_from(None, options)
    }

    /// Like [`JobStore::claim`], going on from the checkpoint or savepoint of this name ([`JobStore::at`]).
    pub fn claim_at(&self, name: &str, options: Options) -> Result<Writer> {
        self.claim_from(Some(name), options)
    }

    fn claim_from(&self, source: Option<&str>, options: Options) -> Result<Writer> {
        for _ in 0..CLAIMS_MAX {
            let used = self.used_number()?;
            let newest = self.newest()?;
            let found = match (source, newest) {
                (Some(name), _) => self.at(name).map(Some),
                (None, Some(number)) => self.at_place(&Place::Number(number)).map(Some),
                (None, None) => Ok(None),
            };
            let content = match found {
                Ok(content) => content,
                // Another writer has moved on meanwhile, and deleted what was the newest.
                Err(error) if error.is_damage() && self.newest()? != newest => continue,
                Err(error) => return Err(error),
            };
            // The number that follows the content: whoever writes between the two takes it.
            let number = used.max(newest).unwrap_or(0).checked_add(1).ok_or_else(|| self.used_up())?;
            // Going on from an old checkpoint, the newest may be damaged, and what it remembers lost.
            let before = newest.and_then(|number| self.load(&Place::Number(number)).ok());
            let mut claims = before.map_or(Vec::new(), |manifest| manifest.claims);
            claims.push(number);
            claims.drain(..claims.len().saturating_sub(CLAIMS_KEPT));
            let now_ms = (options.now_ms)();
            let owner = Owner { claim: number, host: options.host.clone(), pid: options.pid, since_ms: now_ms };
            let head = Manifest {
                job: self.name().to_string(),
                sequence: number,
                kind: Kind::Claim { of: content.as_ref().and_then(Manifest::content) },
                epoch: content.as_ref().map_or(0, |content| content.epoch),
                created_ms: now_ms,
                writer: owner.clone(),
                claims,
                meta: content.as_ref().map_or(Value::Null, |content| content.meta.clone()),
                files: content.map_or(Vec::new(), |content| content.files),
            };
            let place = Place::Number(number);
            match self.put(&place, &head)? {
                Created::Done => {}
                Created::Exists => continue,
                Created::Failed(error) => return Err(error),
            }
            if self.numbers()?.last() != Some(&number) {
                self.blobs.delete(&self.manifest_path(&place)?)?;
                continue;
            }
            // A savepoint, or an old checkpoint, may have been deleted before the claim held on to its files.
            if let Some(name) = source
                && let Err(error) = self.at(name)
            {
                self.blobs.delete(&self.manifest_path(&place)?)?;
                return Err(error);
            }
            self.note(number)?;
            let mut known = self.sweep(number)?;
            known.retain(|known, _| *known <= number);
            let state = State { head, lost: None, folded: None, reading: BTreeSet::new(), condemned: BTreeSet::new(), known };
            let writer = Writer {
                job: self.clone(),
                owner,
                options,
                files: AtomicU64::new(1),
                compacting: Mutex::new(()),
                stopped: AtomicBool::new(false),
                state: Mutex::new(state),
            };
            writer.tidy(&mut writer.state());
            return Ok(writer);
        }
        Err(StoreError::refused(format!("job {} is claimed by others all the time: let only one process run it", self.name())))
    }

    /// The highest number that savepoints and files bear. If it is asked for before the newest manifest's, it is not higher, unless
    /// somebody has removed manifests; then the names of files that are there must not be used again.
    fn used_number(&self) -> Result<Option<u64>> {
        let savepoints = self.savepoint_names()?.into_iter().filter_map(|name| self.load(&Place::Savepoint(name)).ok());
        let files = self.blobs.list(&self.path("data"))?;
        let files = files.iter().filter_map(|path| data_file(path)).map(|(claim, _)| claim);
        Ok(savepoints.map(|manifest| manifest.sequence).chain(files).max())
    }

    fn used_up(&self) -> StoreError {
        StoreError::refused(format!("job {} has used all numbers", self.name()))
    }
}

/// The claim and the number in the name of a data file; `None` if it is none of ours.
pub(crate) fn data_file(path: &str) -> Option<(u64, u64)> {
    let (claim, number) = path.rsplit('/').next()?.strip_suffix(".state")?.split_once('-')?;
    Some((claim.parse().ok()?, number.parse().ok()?))
}

impl Writer {
    /// The job.
    pub fn job(&self) -> &JobStore {
        &self.job
    }

    /// Who this writer is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The newest manifest: what the next checkpoint is an increment to.
    pub fn manifest(&self) -> Manifest {
        self.state().head.clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A path for a new file that nobody has used.
    pub(crate) fn new_path(&self) -> String {
        format!("data/{:020}-{:08}.state", self.owner.claim, self.files.fetch_add(1, Ordering::Relaxed))
    }

    /// Writes a checkpoint. When this returns it is durable, and [`JobStore::latest`].
    pub fn commit(&self, checkpoint: Checkpoint) -> Result<Manifest> {
        let mut state = self.state();
        state.usable()?;
        let head = &state.head;
        if head.has_state() && checkpoint.epoch < head.epoch {
            let what = format!("a checkpoint as of epoch {} cannot follow one as of {}", checkpoint.epoch, head.epoch);
            return Err(StoreError::refused(what));
        }
        check_depth(&checkpoint.meta, || "the meta of a checkpoint".into())?;
        let mut files = state.kept(&checkpoint.keep)?;
        let base = files.is_empty();
        let written = self.write(&checkpoint.sections, base, checkpoint.epoch).map_err(|error| self.fenced_or(error))?;
        crash_point(Point::FileWritten);
        files.extend(written.clone());
        let manifest = self.successor(head, checkpoint.epoch, checkpoint.meta, files)?;
        self.publish(&mut state, manifest, written.into_iter().collect())
    }

    /// Goes on from a checkpoint of another job, or of another store: copies its files, and commits them as this job's.
    ///
    /// In the same store of a local directory a copy is a second name of the same content and takes no space; retention of the two
    /// jobs does not touch the other's.
    pub fn adopt(&self, from: &JobStore, manifest: &Manifest) -> Result<Manifest> {
        let mut state = self.state();
        state.usable()?;
        let mut files = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            let copied = FileRef { path: self.new_path(), ..file.clone() };
            let to = self.job.path(&copied.path);
            self.job
                .blobs
                .copy_from(&from.blobs, &from.path(&file.path), file.bytes, &to)
                .map_err(|error| self.fenced_or(error))?;
            self.job.index(&copied).map_err(|error| self.fenced_or(error))?;
            files.push(copied);
        }
        let head = &state.head;
        if head.has_state() && manifest.epoch < head.epoch {
            let what = format!("a checkpoint as of epoch {} cannot follow one as of {}", manifest.epoch, head.epoch);
            return Err(StoreError::refused(what));
        }
        let adopted = self.successor(head, manifest.epoch, manifest.meta.clone(), files.clone())?;
        self.publish(&mut state, adopted, files)
    }

    fn successor(&self, head: &Manifest, epoch: u64, meta: Value, files: Vec<FileRef>) -> Result<Manifest> {
        let sequence = head.sequence.checked_add(1).ok_or_else(|| self.job.used_up())?;
        let created_ms = (self.options.now_ms)();
        let (job, writer, claims) = (head.job.clone(), self.owner.clone(), head.claims.clone());
        Ok(Manifest { job, sequence, kind: Kind::Checkpoint, epoch, created_ms, writer, claims, meta, files })
    }

    /// Writes sections to a new file, if there are any.
    fn write(&self, sections: &[Section], base: bool, epoch: u64) -> Result<Option<FileRef>> {
        if sections.is_empty() {
            return Ok(None);
        }
        let path = self.new_path();
        let mut file = FileWriter::new(&self.job.blobs, &self.job.path(&path))?;
        sections.iter().try_for_each(|section| file.push(section))?;
        file.finish(path, base, epoch).map(Some)
    }

    /// Makes a manifest the newest. `written` are the files that only it names.
    fn publish(&self, state: &mut State, manifest: Manifest, written: Vec<FileRef>) -> Result<Manifest> {
        let place = Place::Number(manifest.sequence);
        let created = self.job.put(&place, &manifest)?;
        if let Err(error) = self.settle(&place, &manifest, created) {
            match &error {
                StoreError::Uncertain { .. } => state.lost = Some(uncertain(&error)),
                // Elsewhere a request that seemed to fail may still arrive, and then it must find its files.
                _ if self.job.blobs.folder().is_none() && !matches!(error, StoreError::Fenced { .. }) => {}
                _ => written.iter().for_each(|file| self.discard(&file.path)),
            }
            return Err(error);
        }
        crash_point(Point::ManifestWritten);
        let newest = match self.standing(&place, manifest.sequence) {
            Ok(newest) => newest,
            Err(error) => {
                if let StoreError::Fenced { .. } = error {
                    self.job.blobs.delete(&self.job.manifest_path(&place)?)?;
                    written.iter().for_each(|file| self.discard(&file.path));
                } else {
                    state.lost = Some(uncertain(&error));
                }
                return Err(error);
            }
        };
        if newest && let Err(error) = self.job.note(manifest.sequence) {
            tracing::warn!(job = self.job.name(), %error, "the newest checkpoint's number was not noted");
        }
        if let Some(folded) = state.folded.take() {
            state.condemned.extend(folded.file.map(|file| file.path));
        }
        state.known.insert(manifest.sequence, Some(manifest.clone()));
        state.head = manifest.clone();
        if newest {
            self.tidy(state);
        }
        Ok(manifest)
    }

    /// Whether a manifest that was just written is the newest, or was until another took over. Fails if its number had been another's.
    fn standing(&self, place: &Place, sequence: u64) -> Result<bool> {
        let mut fault = String::new();
        for _ in 0..CLAIMS_MAX {
            let newest = match self.job.numbers() {
                Ok(numbers) => numbers.last().copied().unwrap_or(sequence),
                Err(error) => return Err(self.in_doubt(place, &error.to_string())),
            };
            if newest == sequence {
                return Ok(true);
            }
            // It may be deleted meanwhile: then there is a newer one.
            match self.job.load(&Place::Number(newest)) {
                Ok(manifest) => {
                    let after = manifest.claims.iter().skip_while(|claim| **claim != self.owner.claim).nth(1);
                    return match after {
                        Some(claim) if *claim > sequence => Ok(false),
                        Some(_) => Err(self.fenced()),
                        None => Err(self.in_doubt(place, "the job was claimed so often meanwhile that nobody remembers")),
                    };
                }
                Err(error) => fault = error.to_string(),
            }
        }
        Err(self.in_doubt(place, &fault))
    }

    /// Finds out whether a manifest was written, however the attempt seemed to end.
    fn settle(&self, place: &Place, manifest: &Manifest, created: Created) -> Result<()> {
        let failed = match created {
            Created::Done => return Ok(()),
            Created::Exists => None,
            Created::Failed(error) => Some(error),
        };
        let found = match (self.job.blobs.read(&self.job.manifest_path(place)?), failed) {
            (Ok(found), _) if found != manifest.encode() => Manifest::decode(&found, "").ok().map(|manifest| manifest.writer),
            // The answer was lost, not the request. A directory that could not be flushed may forget it, though.
            (Ok(_), None) => return Ok(()),
            (Ok(_), Some(_)) if self.job.blobs.folder().is_none() => return Ok(()),
            (Ok(_), Some(error)) => return Err(self.in_doubt(place, &error.to_string())),
            (Err(StoreError::Missing { .. }), Some(error)) => return Err(self.fenced_or(error)),
            // Another's, who has taken it back or was followed by others. Ours would be there.
            (Err(StoreError::Missing { .. }), None) => {
                let what = "another process had the number, and gave it back; try again".into();
                return Err(self.fenced_or(StoreError::Io {
                    file: self.job.manifest_address(place),
                    attempted: "creating",
                    what,
                }));
            }
            (Err(error), _) => return Err(self.in_doubt(place, &error.to_string())),
        };
        match found {
            Some(owner) if owner == self.owner => Err(self.in_doubt(place, "an earlier attempt arrived late")),
            _ => Err(self.fenced()),
        }
    }

    fn in_doubt(&self, place: &Place, what: &str) -> StoreError {
        StoreError::Uncertain { file: self.job.manifest_address(place), what: what.into() }
    }

    /// Fails if the job was taken over since ([`StoreError::Fenced`]), or if that cannot be told now. It may be a moment later.
    pub fn check_owner(&self) -> Result<()> {
        let Some(newest) = self.job.newest()? else { return Ok(()) };
        match self.job.load(&Place::Number(newest)) {
            Ok(manifest) if manifest.writer != self.owner => Err(self.fenced()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.fenced_or(error)),
        }
    }

    /// Deletes a file that no manifest names. What stays behind is swept at the next claim.
    pub(crate) fn discard(&self, path: &str) {
        if let Err(error) = self.job.blobs.delete(&self.job.path(path)) {
            tracing::warn!(job = self.job.name(), %error, "a file that nothing needs was not deleted");
        }
    }

    /// That the job was taken over, if it was: its new writer deletes files, which looks like other faults here.
    pub(crate) fn fenced_or(&self, error: StoreError) -> StoreError {
        let newest = self.job.newest().ok().flatten();
        if newest.is_some_and(|newest| newest > self.owner.claim) && !self.is_ours(newest) { self.fenced() } else { error }
    }

    fn is_ours(&self, number: Option<u64>) -> bool {
        let manifest = number.map(|number| self.job.load(&Place::Number(number)));
        manifest.is_some_and(|manifest| manifest.is_ok_and(|manifest| manifest.writer == self.owner))
    }

    fn fenced(&self) -> StoreError {
        let newest = self.job.newest().ok().flatten().and_then(|number| self.job.load(&Place::Number(number)).ok());
        let owner = newest.map_or_else(|| "another process".into(), |manifest| manifest.writer.to_string());
        StoreError::Fenced { job: self.job.name().into(), owner }
    }
}

impl State {
    /// Fails if an earlier attempt left this writer in doubt.
    pub(crate) fn usable(&self) -> Result<()> {
        self.lost.as_ref().map_or(Ok(()), |error| Err(uncertain(error)))
    }

    /// The files of the newest manifest that the next one keeps, with a folded file in place of those that it was made of.
    fn kept(&self, keep: &Keep) -> Result<Vec<FileRef>> {
        let mut files = self.head.files.clone();
        match keep {
            Keep::All => {}
            Keep::None => files.clear(),
            Keep::Files(paths) => {
                if let Some(path) = paths.iter().find(|path| !files.iter().any(|file| file.path == **path)) {
                    return Err(StoreError::refused(format!(
                        "{path} is no file of checkpoint {} and cannot be kept",
                        self.head.sequence
                    )));
                }
                files.retain(|file| paths.contains(&file.path));
            }
        }
        if let Some(folded) = &self.folded {
            let at = files.iter().position(|file| Some(&file.path) == folded.replaces.first());
            let all = at.and_then(|at| files.get(at..at + folded.replaces.len()));
            if let (Some(at), Some(all)) = (at, all)
                && all.iter().map(|file| &file.path).eq(&folded.replaces)
            {
                files.splice(at..at + folded.replaces.len(), folded.file.clone());
            }
        }
        Ok(files)
    }
}

fn uncertain(error: &StoreError) -> StoreError {
    match error {
        StoreError::Uncertain { file, what } => StoreError::Uncertain { file: file.clone(), what: what.clone() },
        _ => StoreError::refused(error.to_string()),
    }
}

/// Checks what people call a savepoint.
pub(crate) fn check_savepoint_name(name: &str) -> Result<()> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = format!("a savepoint cannot be called `{name}`: numbers are the names of checkpoints");
        return Err(StoreError::Name { what });
    }
    names::to_part(name, "savepoint").map(|_| ())
}
