//! What every route has in common: its context, its name in the metrics, and problems as answers.

use std::convert::Infallible;
use std::sync::Arc;

use serde_json::Value;
use warp::http::Response as HttpResponse;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::Context;
use super::problem::{Code, Problem};

/// A route's name, as the metrics have it; an extension of its responses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteName(pub(crate) &'static str);

/// Gives a route the context.
pub(crate) fn with(context: &Arc<Context>) -> impl Filter<Extract = (Arc<Context>,), Error = Infallible> + Clone + use<> {
    let context = Arc::clone(context);
    warp::any().map(move || Arc::clone(&context))
}

/// A route's outcome as its answer.
pub(crate) fn answer(route: &'static str, outcome: Result<Response, Problem>) -> Response {
    let mut response = outcome.unwrap_or_else(Problem::into_response);
    response.extensions_mut().insert(RouteName(route));
    response
}

/// A JSON document.
pub(crate) fn json_response(document: &Value) -> Response {
    text_response("application/json", format!("{document}\n"))
}

/// A text of some type.
pub(crate) fn text_response(content_type: &'static str, text: impl Into<String>) -> Response {
    let mut response = HttpResponse::new(text.into().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What no route took: an unknown path or a wrong method. Routes themselves never reject.
pub(crate) async fn unmatched(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = match rejection.find::<warp::reject::MethodNotAllowed>() {
        Some(_) => Problem::new(Code::WrongMethod, "the path exists, with other methods"),
        None if rejection.is_not_found() => Problem::new(Code::UnknownRoute, "no route has this path"),
        None => Problem::new(Code::Internal, format!("no route took the request: {rejection:?}")),
    };
    Ok(answer("unmatched", Err(problem)))
}
