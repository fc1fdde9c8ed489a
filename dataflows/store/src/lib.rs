//! Keeps checkpoints of jobs, on a disk or in an object store.
//!
//! A checkpoint is a *manifest*: a small text that names files. A file is immutable and holds *sections*: tables of Arrow rows
//! under a key, with a little JSON. What the rows mean is the engine's business; this crate promises four things of them:
//!
//! - **Whole or not at all.** The manifest is written last, when everything that it names is durable; a crash at any step leaves
//!   the checkpoint before it as it was.
//! - **One writer.** Manifests are numbered, and a number is taken only if nobody has it. Who [claims](JobStore::claim) a job
//!   takes a number; whoever wrote before finds it taken and is told by whom ([`StoreError::Fenced`]).
//! - **Nothing wrong is ever read.** The manifest has the checksum of each file's index, the index of each section; every byte is
//!   covered. What is missing or damaged is an error that names the file and the newest whole checkpoint before it, which is
//!   offered and never chosen silently.
//! - **Nothing needed is deleted.** The newest checkpoints and whatever a savepoint names stay ([`Options::retain`]).
//!
//! ```text
//! <store>/highwater-store.json                       what this folder is
//! <store>/jobs/<job>/manifests/<number>.manifest     one per checkpoint
//! <store>/jobs/<job>/savepoints/<name>.manifest      kept until deleted
//! <store>/jobs/<job>/data/<claim>-<n>.state          the rows
//! ```
//!
//! Checkpoints are increments: a manifest names the files of the one before and one more, until [`Writer::compact`] has folded
//! them into one, on a thread of its own ([`policy`]).
//!
//! Everything blocks: it is called from threads that may wait. It knows neither the engine nor its plans, does not decide when a
//! checkpoint is made, and keeps no cache.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use highwater_store::{Checkpoint, Keep, Options, ReadOptions, Section, Store};
//! # fn main() -> highwater_store::Result<()> {
//! let store = Store::create("memory://")?;
//! let job = store.job("orders")?;
//! let writer = job.claim(Options::default())?;
//! let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
//! let rows = arrow::array::RecordBatch::try_from_iter([("id", ids)]).expect("one column is as long as itself");
//! let section = Section::new("view/orders/0", rows.schema(), vec![rows]);
//! writer.commit(Checkpoint { epoch: 1_000, meta: serde_json::json!({}), sections: vec![section], keep: Keep::All })?;
//!
//! let manifest = job.latest()?.expect("one was just written");
//! for section in job.read(&manifest, ReadOptions::default())? {
//!     let section = section?;
//!     println!("{} has {} rows", section.key, section.rows());
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod blobs;
mod codec;
mod compact;
mod error;
mod file;
mod job;
mod local;
mod manifest;
mod names;
pub mod policy;
mod read;
mod savepoint;
mod section;
mod store;
mod sweep;
pub mod testing;
mod writer;

pub use self::compact::{Compacted, Fold, Folder};
pub use self::error::{Result, StoreError};
pub use self::job::{JobStore, ManifestInfo};
pub use self::manifest::{FileRef, Kind, Manifest, Owner};
pub use self::names::to_part;
pub use self::policy::{Policy, Span};
pub use self::read::{Progress, ReadOptions, SectionInfo, Sections};
pub use self::section::Section;
pub use self::store::Store;
pub use self::writer::{Checkpoint, Keep, Options, Writer};
