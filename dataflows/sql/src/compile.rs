//! The one entry: text in, job or diagnostics out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_plan::{Diagnostic, Job};

use crate::diagnose::{Result, error};

/// How a job is compiled.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CompileOptions {
    /// Whether tables without `WITH` are kept, and can be read by their names like views; those with `readable = 'true'` are
    /// in any case.
    pub readable_tables: bool,
    /// How many rows sources and tables have, by name, where that is known. It decides the order of joins, nothing else.
    pub rows: BTreeMap<String, u64>,
}

impl CompileOptions {
    /// The same with tables kept, as [`CompileOptions::readable_tables`] says.
    pub fn with_readable_tables(mut self) -> Self {
        self.readable_tables = true;
        self
    }

    /// The same where sources and tables have so many rows, as [`CompileOptions::rows`] says.
    pub fn with_rows(mut self, rows: BTreeMap<String, u64>) -> Self {
        self.rows = rows;
        self
    }
}

/// Compiles a job's text.
///
/// Errors: what stops the job, each with its place; warnings are in [`Job::warnings`]. A failure of the planner itself is
/// an error as well (`internal-planner-error`), never a panic.
pub fn compile(text: &str, options: &CompileOptions) -> std::result::Result<Job, Vec<Diagnostic>> {
    let failure = match on_large_stack(|| catch_unwind(AssertUnwindSafe(|| compile_text(text, options)))) {
        Some(Ok(Ok(job))) => return Ok(job),
        Some(Ok(Err(failure))) => failure,
        Some(Err(_)) | None => {
            error("internal-planner-error", "the planner failed").help("please report this together with the job's text")
        }
    };
    Err(vec![*failure.0])
}

/// The planner walks trees by recursion, and a stack overflow cannot be caught: a long chain of ORs needs room.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    const STACK_BYTES: usize = 256 << 20;
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().name("planner".into()).stack_size(STACK_BYTES);
        planner.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

fn compile_text(text: &str, options: &CompileOptions) -> Result<Job> {
    let mut warnings = Vec::new();
    let statements = crate::parse::parse(text, &mut warnings)?;
    crate::lower::lower(crate::bind::bind(statements, warnings, options)?)
}
