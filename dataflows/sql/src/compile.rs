//! The one entry: text in, job or diagnostics out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_plan::{Diagnostic, Job};

use crate::diagnose::{Result, error};

/// How a job is compiled. There is nothing to choose yet; new choices come with defaults.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CompileOptions {}

/// Compiles a job's text.
///
/// Errors: what stops the job, each with its place; warnings are in [`Job::warnings`]. A failure of the planner itself is
/// an error as well (`internal-planner-error`), never a panic.
pub fn compile(text: &str, options: &CompileOptions) -> std::result::Result<Job, Vec<Diagnostic>> {
    let CompileOptions {} = options;
    let failure = match on_large_stack(|| catch_unwind(AssertUnwindSafe(|| compile_text(text)))) {
        Some(Ok(Ok(job))) => return Ok(job),
        Some(Ok(Err(failure))) => failure,
        Some(Err(_)) | None => {
            error("internal-planner-error", "the planner failed").help("please report this together with the job's text")
        }
    };
    Err(vec![*failure.0])
}

/// The planner walks trees by recursion, and a stack overflow cannot be caught: a long chain of ORs needs room.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    const STACK_BYTES: usize = 256 << 20;
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().name("planner".into()).stack_size(STACK_BYTES);
        planner.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

fn compile_text(text: &str) -> Result<Job> {
    crate::lower::lower(crate::bind::bind(crate::parse::parse(text)?)?)
}
