//! A disk that fails when it is told to, for tests of this crate and of those that use it.
//!
//! It lies in memory and counts what changes it. At a given operation it can refuse, lose its answer, or lose power, before the
//! operation, in the middle of it or after it; then nothing works until it is [revived](Disk::revive), and what was there is there.
//! Files can be damaged as well. A [`Watch`] decides it operation by operation, for one of several processes that use the same disk.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as ObjectResult, UploadPart,
};

use crate::blobs::Blobs;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::store::Store;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation is refused, as when the disk is full. What follows works.
    Refused,
    /// The operation is done, and its answer is lost. What follows works.
    AnswerLost,
    /// The power fails before the operation.
    PowerBefore,
    /// The power fails in the middle: of a data file the first half is there under its final name. Manifests are small enough to
    /// be there or not, which is what a store promises of them.
    PowerWithin,
    /// The power fails after the operation, before its answer.
    PowerAfter,
}

/// All of them.
pub const FAULTS: [Fault; 5] = [Fault::Refused, Fault::AnswerLost, Fault::PowerBefore, Fault::PowerWithin, Fault::PowerAfter];

/// Looks on as a disk is used, and says what goes wrong.
pub trait Watch: Send + Sync {
    /// Before an operation that changes the disk; called on the thread that waits for it, which may be made to wait longer. If the
    /// power fails, [`Watch::has_power`] says so from then on.
    fn operation(&self, what: &str, path: &str) -> Option<Fault>;

    /// Whether the disk can be used at all.
    fn has_power(&self) -> bool;
}

/// A disk that fails when it is told to. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk {
    files: Arc<InMemory>,
    plan: Arc<Mutex<Plan>>,
    watch: Option<Arc<dyn Watch>>,
}

#[derive(Default)]
struct Plan {
    operations: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    log: Vec<String>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk that fails")
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// The same files, with a power supply of their own, which somebody watches.
    pub fn watched(&self, watch: Arc<dyn Watch>) -> Disk {
        Disk { files: Arc::clone(&self.files), plan: Arc::default(), watch: Some(watch) }
    }

    /// The store on this disk.
    pub fn store(&self) -> Result<Store> {
        Store::over(Blobs::new(Arc::new(self.clone()), Path::default(), "disk:".into(), None)?)
    }

    /// How many operations have changed it or tried to.
    pub fn operations(&self) -> u64 {
        self.plan().operations
    }

    /// What the operations were, for messages of tests.
    pub fn log(&self) -> Vec<String> {
        self.plan().log.clone()
    }

    /// Lets the operation with this number fail; the first has number 0.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.plan().fault = Some((operation, fault));
    }

    /// Brings the power back, and forgets the fault.
    pub fn revive(&self) {
        let mut plan = self.plan();
        plan.dead = false;
        plan.fault = None;
    }

    /// Whether it has power.
    pub fn is_alive(&self) -> bool {
        !self.plan().dead && self.watch.as_ref().is_none_or(|watch| watch.has_power())
    }

    /// A manifest as it would be written.
    pub fn encode(&self, manifest: &Manifest) -> Vec<u8> {
        manifest.encode()
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let listed: Vec<_> = wait(async { self.files.list(None).collect().await });
        let mut paths: Vec<String> = listed.into_iter().flatten().map(|meta: ObjectMeta| meta.location.to_string()).collect();
        paths.sort();
        paths
    }

    /// What a file holds; `None` if it is not there.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let read = wait(async { self.files.get(&Path::from(path)).await?.bytes().await });
        read.ok().map(|bytes| bytes.to_vec())
    }

    /// Writes a file, or removes it.
    pub fn set(&self, path: &str, content: Option<Vec<u8>>) {
        let path = Path::from(path);
        wait(async {
            match content {
                Some(content) => self.files.put(&path, PutPayload::from(content)).await.map(|_| ()),
                None => self.files.delete(&path).await,
            }
        })
        .expect("memory can be written");
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; says what goes wrong with it.
    fn begin(&self, what: &str, path: &Path) -> ObjectResult<Option<Fault>> {
        // Other threads may use the disk meanwhile.
        let watched = self.watch.as_ref().and_then(|watch| watch.operation(what, path.as_ref()));
        let fails_here = matches!(watched, Some(Fault::PowerWithin | Fault::PowerAfter));
        if !fails_here && !self.is_alive() {
            return Err(failure("there is no power"));
        }
        let mut plan = self.plan();
        let number = plan.operations;
        plan.operations += 1;
        plan.log.push(format!("{what} {path}"));
        let fault = plan.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault).or(watched);
        match fault {
            Some(Fault::Refused) => Err(failure("no space left on device")),
            Some(Fault::PowerBefore) => {
                plan.dead = true;
                Err(failure("the power failed"))
            }
            Some(Fault::PowerWithin | Fault::PowerAfter) => {
                plan.dead = true;
                Ok(fault)
            }
            fault => Ok(fault),
        }
    }
}

/// Runs what never waits.
fn wait<T>(work: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(work).expect("memory answers at once")
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "disk", source: what.into() }
}

fn answer<T>(fault: Option<Fault>, done: ObjectResult<T>) -> ObjectResult<T> {
    match fault {
        Some(Fault::AnswerLost) => done.and_then(|_| Err(failure("the answer was lost"))),
        Some(_) => Err(failure("the power failed")),
        None => done,
    }
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> ObjectResult<PutResult> {
        let fault = self.begin("put", path)?;
        if fault == Some(Fault::PowerWithin) {
            if path.filename().is_some_and(|name| name.ends_with(".state")) {
                let whole: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
                self.files.put(path, PutPayload::from(whole[..whole.len() / 2].to_vec())).await?;
            }
            return Err(failure("the power failed"));
        }
        answer(fault, self.files.put_opts(path, payload, options).await)
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> ObjectResult<Box<dyn MultipartUpload>> {
        let fault = self.begin("begin", path)?;
        let upload = answer(fault, self.files.put_multipart_opts(path, options).await)?;
        Ok(Box::new(Parts { disk: self.clone(), path: path.clone(), upload }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> ObjectResult<GetResult> {
        if !self.is_alive() {
            return Err(failure("there is no power"));
        }
        self.files.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> ObjectResult<Vec<Bytes>> {
        if !self.is_alive() {
            return Err(failure("there is no power"));
        }
        self.files.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, ObjectResult<Path>>) -> BoxStream<'static, ObjectResult<Path>> {
        let disk = self.clone();
        let delete = move |path: ObjectResult<Path>| {
            let disk = disk.clone();
            async move {
                let path = path?;
                let fault = disk.begin("delete", &path)?;
                if fault != Some(Fault::PowerWithin) {
                    disk.files.delete(&path).await?;
                }
                answer(fault, Ok(path))
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, ObjectResult<ObjectMeta>> {
        match self.is_alive() {
            true => self.files.list(prefix),
            false => futures_util::stream::once(async { Err(failure("there is no power")) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ObjectResult<ListResult> {
        if !self.is_alive() {
            return Err(failure("there is no power"));
        }
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ObjectResult<()> {
        let fault = self.begin("copy", to)?;
        if fault == Some(Fault::PowerWithin) {
            return Err(failure("the power failed"));
        }
        answer(fault, self.files.copy_opts(from, to, options).await)
    }
}

#[derive(Debug)]
struct Parts {
    disk: Disk,
    path: Path,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.disk.begin("part", &self.path) {
            Ok(fault) => {
                let part = self.upload.put_part(data);
                Box::pin(async move { answer(fault, part.await) })
            }
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    async fn complete(&mut self) -> ObjectResult<PutResult> {
        let fault = self.disk.begin("complete", &self.path)?;
        if fault == Some(Fault::PowerWithin) {
            return Err(failure("the power failed"));
        }
        answer(fault, self.upload.complete().await)
    }

    async fn abort(&mut self) -> ObjectResult<()> {
        self.upload.abort().await
    }
}
