//! Names in addresses to jobs, views and sources. A view or source is addressed below its job, or without it as long as only
//! one job has its name.

use std::sync::Arc;

use highwater_engine::ViewHandle;
use highwater_runtime::RunningJob;

use serde_json::json;
use warp::Filter;
use warp::filters::BoxedFilter;

use super::problem::{Code, Problem};
use super::{Context, query};

/// The job of this name.
pub(crate) fn job(context: &Context, name: &str) -> Result<Arc<RunningJob>, Problem> {
    let returning = returning(context);
    context.highwater.runtime().job(name).ok_or_else(|| {
        if returning.iter().any(|other| other == name) {
            return not_back(format!("job '{name}' is being brought back"), &returning);
        }
        let jobs = context.highwater.runtime().jobs();
        Problem::new(Code::UnknownJob, format!("no job '{name}'; jobs: {}", list(jobs.iter().map(|job| job.name()))))
    })
}

/// The jobs that are being brought back, also as another version of themselves. Asked before others are looked for: one of them may be
/// back then.
pub(super) fn returning(context: &Context) -> Vec<String> {
    let runtime = context.highwater.runtime();
    [runtime.returning(), runtime.changing()].concat()
}

/// That something is not there yet.
pub(super) fn not_back(detail: String, returning: &[String]) -> Problem {
    Problem::new(Code::JobReturning, detail).with("returning", json!(returning)).retry_after(1)
}

/// What is not found, unless it may be in a job that is being brought back.
fn missing(code: Code, detail: String, of_job: bool, returning: &[String]) -> Problem {
    if of_job || returning.is_empty() {
        return Problem::new(code, detail);
    }
    not_back(format!("{detail}; jobs that are being brought back: {}", returning.join(", ")), returning)
}

/// A view or source as an address names it: `/v1/views/{name}`, `/v1/jobs/{job}/views/{name}`.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    job: Option<String>,
    name: String,
}

/// Paths of `kind` (`views`, `sources`) up to the name, of either form.
pub(crate) fn named(kind: &'static str) -> BoxedFilter<(Named,)> {
    let short = warp::path("v1").and(warp::path(kind)).and(warp::path::param()).map(|name| Named { job: None, name });
    let of_job = warp::path("v1").and(warp::path("jobs")).and(warp::path::param()).and(warp::path(kind)).and(warp::path::param());
    let of_job = of_job.map(|job, name| Named { job: Some(job), name });
    short.or(of_job).unify().boxed()
}

/// The view of this name, and its job.
pub(crate) fn view(context: &Context, named: &Named) -> Result<(Arc<RunningJob>, Arc<ViewHandle>), Problem> {
    let name = query::segment(&named.name)?;
    let returning = returning(context);
    let jobs = candidates(context, named)?;
    let found = jobs.iter().filter_map(|job| job.handle().view(&name).map(|view| (Arc::clone(job), Arc::clone(view))));
    only(found.collect(), "view", &name, |(job, _)| job.name())?.ok_or_else(|| {
        let views = jobs.iter().flat_map(|job| job.handle().views());
        let names = views.filter(|view| !view.is_side_relation()).map(|view| view.name());
        missing(Code::UnknownView, format!("no view '{name}'; views: {}", list(names)), named.job.is_some(), &returning)
    })
}

/// The source of this name, and its job.
pub(crate) fn source(context: &Context, named: &Named) -> Result<(Arc<RunningJob>, String), Problem> {
    let name = query::segment(&named.name)?;
    let returning = returning(context);
    let jobs = candidates(context, named)?;
    let has = |job: &&Arc<RunningJob>| job.handle().job().sources.iter().any(|source| source.name == name);
    let found = jobs.iter().filter(has).map(Arc::clone).collect();
    let job = only(found, "source", &name, |job| job.name())?.ok_or_else(|| {
        let sources = jobs.iter().flat_map(|job| &job.handle().job().sources);
        let names = sources.map(|source| source.name.as_str());
        missing(Code::UnknownSource, format!("no source '{name}'; sources: {}", list(names)), named.job.is_some(), &returning)
    })?;
    Ok((job, name))
}

/// The jobs that may be meant.
fn candidates(context: &Context, named: &Named) -> Result<Vec<Arc<RunningJob>>, Problem> {
    match &named.job {
        Some(name) => Ok(vec![job(context, &query::segment(name)?)?]),
        None => Ok(context.highwater.runtime().jobs()),
    }
}

/// What was found, if it is not several.
fn only<T>(mut found: Vec<T>, what: &str, name: &str, job: impl Fn(&T) -> &str) -> Result<Option<T>, Problem> {
    if found.len() > 1 {
        let jobs: Vec<&str> = found.iter().map(job).collect();
        let detail = format!("jobs {} have a {what} '{name}'; ask for /v1/jobs/{}/{what}s/{name}", jobs.join(", "), jobs[0]);
        return Err(Problem::new(Code::AmbiguousName, detail).with("jobs", json!(jobs)));
    }
    Ok(found.pop())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { String::from("none") } else { names.join(", ") }
}
