//! Names in addresses to jobs, views and sources. Views and sources are addressed without their job: the runtime lets no
//! two jobs have the same.

use std::sync::Arc;

use highwater_engine::ViewHandle;
use highwater_runtime::RunningJob;

use super::Context;
use super::problem::{Code, Problem};

/// The job of this name.
pub(crate) fn job(context: &Context, name: &str) -> Result<Arc<RunningJob>, Problem> {
    context.highwater.runtime().job(name).ok_or_else(|| {
        let jobs = context.highwater.runtime().jobs();
        Problem::new(Code::UnknownJob, format!("no job '{name}'; jobs: {}", list(jobs.iter().map(|job| job.name()))))
    })
}

/// The view of this name, and its job.
pub(crate) fn view(context: &Context, name: &str) -> Result<(Arc<RunningJob>, Arc<ViewHandle>), Problem> {
    let jobs = context.highwater.runtime().jobs();
    let found = jobs.iter().find_map(|job| job.handle().view(name).map(|view| (Arc::clone(job), Arc::clone(view))));
    found.ok_or_else(|| {
        let views = jobs.iter().flat_map(|job| job.handle().views());
        let names = views.filter(|view| !view.is_side_relation()).map(|view| view.name());
        Problem::new(Code::UnknownView, format!("no view '{name}'; views: {}", list(names)))
    })
}

/// The job that has a source of this name.
pub(crate) fn source(context: &Context, name: &str) -> Result<Arc<RunningJob>, Problem> {
    let jobs = context.highwater.runtime().jobs();
    let has = |job: &&Arc<RunningJob>| job.handle().job().sources.iter().any(|source| source.name == name);
    jobs.iter().find(has).map(Arc::clone).ok_or_else(|| {
        let sources = jobs.iter().flat_map(|job| &job.handle().job().sources);
        let names = sources.map(|source| source.name.as_str());
        Problem::new(Code::UnknownSource, format!("no source '{name}'; sources: {}", list(names)))
    })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { String::from("none") } else { names.join(", ") }
}
