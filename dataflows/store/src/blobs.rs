//! Files of one store: written whole, read by range, from threads that may wait.
//!
//! The only place that calls `object_store`. Its futures run on a small runtime of this crate's own and are waited for over a
//! channel, so that it does not matter which thread asks, even one of another runtime.
//!
//! A file that is there is durable: a local directory is opened with `fsync`, which flushes a file before it gets its name and
//! the folder before the call returns; the others answer when they have it.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Result, StoreError};
use crate::local;

/// Files that are larger are sent in parts of this size, while more is made.
const PART_BYTES: usize = 8 << 20;
/// Larger files are not copied by the object store itself: none copies more than 5 GiB at once.
const COPY_BYTES_MAX: u64 = 4 << 30;

/// The files of one store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    inner: Arc<dyn ObjectStore>,
    base: Path,
    runtime: Arc<Background>,
    /// The address, as errors name it.
    place: String,
    /// Where it lies, if that is a directory of this machine.
    folder: Option<PathBuf>,
}

/// What a thread reads into, again and again.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    /// Of a file of this machine.
    own: Vec<u8>,
    /// Of any other.
    fetched: Bytes,
}

/// How an attempt to create a file ended.
pub(crate) enum Created {
    /// It is there, and durable.
    Done,
    /// Something of this name was there before.
    Exists,
    /// It failed, and the file may be there or not.
    Failed(StoreError),
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Blobs").field(&self.place).finish()
    }
}

impl Blobs {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, base: Path, place: String, folder: Option<PathBuf>) -> Result<Blobs> {
        let io = |error: std::io::Error| StoreError::Io {
            file: place.clone(),
            attempted: "starting a thread for",
            what: error.to_string(),
        };
        let runtime = Background::shared().map_err(io)?;
        Ok(Blobs { inner, base, runtime, place, folder })
    }

    /// The address of a file, for errors.
    pub(crate) fn name(&self, path: &str) -> String {
        match path {
            "" => self.place.clone(),
            _ => format!("{}/{path}", self.place.trim_end_matches('/')),
        }
    }

    /// Whether both are the same store.
    pub(crate) fn is(&self, other: &Blobs) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) && self.base == other.base || self.folder.is_some() && self.folder == other.folder
    }

    /// The directory of this machine that the store is, if it is one.
    pub(crate) fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }

    fn path(&self, path: &str) -> Path {
        path.split('/').filter(|part| !part.is_empty()).fold(self.base.clone(), |path, part| path.join(part))
    }

    /// Reads a whole file.
    pub(crate) fn read(&self, path: &str) -> Result<Bytes> {
        let (inner, location) = (self.inner.clone(), self.path(path));
        let read = self.runtime.wait(async move { inner.get(&location).await?.bytes().await });
        read.map_err(|error| self.fault(path, "reading", error))
    }

    /// Reads part of a file that must be `bytes` long.
    pub(crate) fn read_range(&self, path: &str, range: Range<u64>, bytes: u64) -> Result<Bytes> {
        let (inner, location, wanted) = (self.inner.clone(), self.path(path), range.clone());
        let read = self.runtime.wait(async move {
            let options = GetOptions { range: Some(GetRange::Bounded(wanted)), ..GetOptions::default() };
            let found = inner.get_opts(&location, options).await?;
            let size = found.meta.size;
            Ok((size, found.bytes().await?))
        });
        match read {
            Ok((size, read)) if size == bytes && read.len() as u64 == range.end - range.start => Ok(read),
            Ok((size, _)) => Err(self.wrong_size(path, size, bytes)),
            Err(error @ Error::NotFound { .. }) => Err(self.fault(path, "reading", error)),
            // What a range beyond the end gives differs from store to store.
            Err(error) => match self.size(path)? {
                Some(size) if size != bytes => Err(self.wrong_size(path, size, bytes)),
                _ => Err(self.fault(path, "reading", error)),
            },
        }
    }

    /// As [`Blobs::read_range`], of a file that nobody reads again soon.
    pub(crate) fn read_once<'a>(
        &self,
        path: &str,
        range: Range<u64>,
        bytes: u64,
        buffer: &'a mut ReadBuffer,
    ) -> Result<&'a [u8]> {
        let Some(folder) = &self.folder else {
            buffer.fetched = self.read_range(path, range, bytes)?;
            return Ok(&buffer.fetched);
        };
        let file = folder.join(self.path(path).as_ref());
        match local::read_once(&file, &range, &mut buffer.own) {
            Ok((size, found)) if size == bytes && range.end <= size => Ok(&buffer.own[found]),
            Ok((size, _)) => Err(self.wrong_size(path, size, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::Missing { file: self.name(path), instead: None })
            }
            Err(error) => Err(StoreError::Io { file: self.name(path), attempted: "reading", what: error.to_string() }),
        }
    }

    fn wrong_size(&self, path: &str, found: u64, bytes: u64) -> StoreError {
        StoreError::corrupt(self.name(path), format!("it has {found} bytes and must have {bytes}"))
    }

    /// How long a file is; `None` if it is not there.
    pub(crate) fn size(&self, path: &str) -> Result<Option<u64>> {
        let (inner, location) = (self.inner.clone(), self.path(path));
        match self.runtime.wait(async move { inner.head(&location).await }) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fault(path, "looking at", error)),
        }
    }

    /// Creates a file, unless there is one of this name.
    pub(crate) fn create(&self, path: &str, content: Vec<u8>) -> Created {
        let (inner, location) = (self.inner.clone(), self.path(path));
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.runtime.wait(async move { inner.put_opts(&location, PutPayload::from(content), options).await }) {
            Ok(_) => Created::Done,
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Created::Exists,
            Err(error) => Created::Failed(self.fault(path, "writing", error)),
        }
    }

    /// Writes a file, over the one that is there.
    pub(crate) fn replace(&self, path: &str, content: Vec<u8>) -> Result<()> {
        let (inner, location) = (self.inner.clone(), self.path(path));
        let written = self.runtime.wait(async move { inner.put(&location, PutPayload::from(content)).await });
        written.map(|_| ()).map_err(|error| self.fault(path, "writing", error))
    }

    /// Begins a file whose name nobody else uses.
    pub(crate) fn upload(&self, path: &str) -> Upload {
        Upload { blobs: self.clone(), path: path.to_string(), buffer: Vec::new(), parts: None, pending: None, bytes: 0 }
    }

    /// Deletes a file; it is no error if it is not there.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        let (inner, location) = (self.inner.clone(), self.path(path));
        match self.runtime.wait(async move { inner.delete(&location).await }) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault(path, "deleting", error)),
        }
    }

    /// Paths within the store of all files below a folder, sorted.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        let (inner, location) = (self.inner.clone(), self.path(folder));
        let listed: std::result::Result<Vec<ObjectMeta>, _> =
            self.runtime.wait(async move { inner.list(Some(&location)).try_collect().await });
        let listed = match listed {
            Ok(listed) => listed,
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(self.fault(folder, "listing", error)),
        };
        let within = |location: &Path| {
            let parts = location.prefix_match(&self.base)?;
            Some(parts.map(|part| part.as_ref().to_string()).collect::<Vec<_>>().join("/"))
        };
        let mut paths: Vec<String> = listed.iter().filter_map(|meta| within(&meta.location)).collect();
        paths.sort();
        Ok(paths)
    }

    /// Names of the folders in a folder, and whether it has files of its own.
    pub(crate) fn folders(&self, folder: &str) -> Result<(Vec<String>, bool)> {
        let (inner, location) = (self.inner.clone(), self.path(folder));
        match self.runtime.wait(async move { inner.list_with_delimiter(Some(&location)).await }) {
            Ok(listed) => {
                let names = listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_string));
                Ok((names.collect(), !listed.objects.is_empty()))
            }
            Err(Error::NotFound { .. }) => Ok((Vec::new(), false)),
            Err(error) => Err(self.fault(folder, "listing", error)),
        }
    }

    /// Copies a file of this store or another to a name that nobody uses. A local file becomes a second name of the same content.
    pub(crate) fn copy_from(&self, other: &Blobs, from: &str, bytes: u64, to: &str) -> Result<()> {
        if self.is(other) && bytes <= COPY_BYTES_MAX {
            let (inner, from_path, to_path) = (self.inner.clone(), self.path(from), self.path(to));
            return match self.runtime.wait(async move { inner.copy(&from_path, &to_path).await }) {
                Ok(()) => Ok(()),
                Err(error @ Error::NotFound { .. }) => Err(self.fault(from, "copying", error)),
                Err(error) => Err(self.fault(to, "copying to", error)),
            };
        }
        let mut upload = self.upload(to);
        let mut at = 0;
        while at < bytes {
            let end = (at + PART_BYTES as u64).min(bytes);
            upload.write(&other.read_range(from, at..end, bytes)?)?;
            at = end;
        }
        upload.finish().map(|_| ())
    }

    fn fault(&self, path: &str, attempted: &'static str, error: Error) -> StoreError {
        let file = self.name(path);
        match error {
            Error::NotFound { .. } => StoreError::Missing { file, instead: None },
            error => StoreError::Io { file, attempted, what: text(&error) },
        }
    }
}

/// An error with its causes, as far as they say something new.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A file that is being written. It has no name until it is [finished](Upload::finish); dropped before, it is gone.
pub(crate) struct Upload {
    blobs: Blobs,
    path: String,
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    pending: Option<Pending<object_store::Result<()>>>,
    bytes: u64,
}

impl Upload {
    /// How many bytes were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.buffer.len()));
            // What is likely to become a whole part does not grow step by step: each step is new memory, and a copy.
            if self.buffer.len() + now.len() > self.buffer.capacity().max(PART_BYTES / 32) {
                self.buffer.reserve_exact(PART_BYTES - self.buffer.len());
            }
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PART_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Sends what was collected as a part, when the one before has arrived.
    fn send(&mut self) -> Result<()> {
        self.arrived()?;
        if self.parts.is_none() {
            let (inner, location) = (self.blobs.inner.clone(), self.blobs.path(&self.path));
            let parts = self.blobs.runtime.wait(async move { inner.put_multipart(&location).await });
            self.parts = Some(parts.map_err(|error| self.blobs.fault(&self.path, "writing", error))?);
        }
        let parts = self.parts.as_mut().expect("it was begun above");
        let part = parts.put_part(PutPayload::from(std::mem::take(&mut self.buffer)));
        self.pending = Some(self.blobs.runtime.start(part));
        Ok(())
    }

    fn arrived(&mut self) -> Result<()> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        pending.wait().map_err(|error| self.blobs.fault(&self.path, "writing", error))
    }

    /// Makes the file durable and visible; returns its length.
    pub(crate) fn finish(mut self) -> Result<u64> {
        if self.parts.is_none() {
            return match self.blobs.create(&self.path, std::mem::take(&mut self.buffer)) {
                Created::Done => Ok(self.bytes),
                Created::Exists => Err(StoreError::corrupt(self.blobs.name(&self.path), "it was there before it was written")),
                Created::Failed(error) => Err(error),
            };
        }
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.arrived()?;
        let mut parts = self.parts.take().expect("it was asked for above");
        let finished = self.blobs.runtime.wait(async move { parts.complete().await });
        finished.map_err(|error| self.blobs.fault(&self.path, "writing", error))?;
        Ok(self.bytes)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            let pending = self.pending.take();
            // Nobody waits for it: what stays behind is swept when the job is claimed.
            self.blobs.runtime.handle.spawn(async move {
                drop(pending);
                parts.abort().await
            });
        }
    }
}

/// The runtime of all stores of the process. It ends with the last of them, without waiting, wherever that is dropped.
struct Background {
    handle: Handle,
    runtime: Option<Runtime>,
}

static BACKGROUND: Mutex<Weak<Background>> = Mutex::new(Weak::new());

/// Something that runs there.
struct Pending<T>(mpsc::Receiver<T>);

impl Background {
    fn shared() -> std::io::Result<Arc<Background>> {
        let mut shared = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(background) = shared.upgrade() {
            return Ok(background);
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("highwater-store").enable_all().build()?;
        let background = Arc::new(Background { handle: runtime.handle().clone(), runtime: Some(runtime) });
        *shared = Arc::downgrade(&background);
        Ok(background)
    }

    fn start<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Pending<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let _ = sender.send(work.await);
        });
        Pending(receiver)
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> object_store::Result<T> {
        let mut work = Box::pin(work);
        // What lies in memory is there at once.
        let at_once = {
            let _inside = self.handle.enter();
            work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match at_once {
            Poll::Ready(done) => done,
            Poll::Pending => self.start(work).wait(),
        }
    }
}

impl<T> Pending<object_store::Result<T>> {
    fn wait(self) -> object_store::Result<T> {
        let gone = |_| Error::Generic { store: "highwater", source: "the thread that does it has ended".into() };
        self.0.recv().map_err(gone)?
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
