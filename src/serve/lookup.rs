//! Names in addresses to jobs, views and sources. Views and sources are addressed without their job as long as only one
//! job has them; `?job=` decides otherwise.

use std::sync::Arc;

use highwater_engine::ViewHandle;
use highwater_runtime::RunningJob;

use super::Context;
use super::problem::{Code, Problem};

/// The job of this name.
pub(crate) fn job(context: &Context, name: &str) -> Result<Arc<RunningJob>, Problem> {
    context.highwater.runtime().job(name).ok_or_else(|| {
        let jobs = context.highwater.runtime().jobs();
        let names = list(jobs.iter().map(|job| job.name()));
        Problem::new(Code::UnknownJob, format!("no job '{name}'; jobs: {names}"))
    })
}

/// The view of this name, and its job.
pub(crate) fn view(context: &Context, name: &str, of: Option<&str>) -> Result<(Arc<RunningJob>, Arc<ViewHandle>), Problem> {
    let jobs = candidates(context, of)?;
    let found: Vec<_> =
        jobs.iter().filter_map(|job| job.handle().view(name).map(|view| (Arc::clone(job), Arc::clone(view)))).collect();
    one(found, "view", name, |(job, _)| job.name()).map_err(|problem| {
        problem.unwrap_or_else(|| {
            let views: Vec<Arc<ViewHandle>> = jobs.iter().flat_map(|job| job.handle().views().to_vec()).collect();
            let names = list(views.iter().filter(|view| !view.is_side_relation()).map(|view| view.name()));
            Problem::new(Code::UnknownView, format!("no view '{name}'; views: {names}"))
        })
    })
}

/// The job that has a source of this name.
pub(crate) fn source(context: &Context, name: &str, of: Option<&str>) -> Result<Arc<RunningJob>, Problem> {
    let jobs = candidates(context, of)?;
    let has = |job: &&Arc<RunningJob>| job.handle().job().sources.iter().any(|source| source.name == name);
    let found: Vec<_> = jobs.iter().filter(has).map(Arc::clone).collect();
    one(found, "source", name, |job| job.name()).map_err(|problem| {
        problem.unwrap_or_else(|| {
            let plans: Vec<_> = jobs.iter().map(|job| Arc::clone(job.handle().job())).collect();
            let names = list(plans.iter().flat_map(|plan| plan.sources.iter().map(|source| source.name.as_str())));
            Problem::new(Code::UnknownSource, format!("no source '{name}'; sources: {names}"))
        })
    })
}

fn candidates(context: &Context, of: Option<&str>) -> Result<Vec<Arc<RunningJob>>, Problem> {
    match of {
        Some(name) => Ok(vec![job(context, name)?]),
        None => Ok(context.highwater.runtime().jobs()),
    }
}

/// The only one; `Err(None)` if there is none.
fn one<T>(mut found: Vec<T>, what: &str, name: &str, job: impl Fn(&T) -> &str) -> Result<T, Option<Problem>> {
    if found.len() > 1 {
        let jobs = list(found.iter().map(job));
        return Err(Some(Problem::new(Code::AmbiguousName, format!("{what} '{name}' exists in the jobs {jobs}"))));
    }
    found.pop().ok_or(None)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { String::from("none") } else { names.join(", ") }
}
