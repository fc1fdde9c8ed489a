//! `GET /`: a page that shows the jobs and, live, their views. It needs nothing but what this service serves.

use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use warp::reply::Response;

use super::Context;
use super::respond::{answer, text_response};

const PAGE: &str = include_str!("console.html");

/// Only its own script and style, and only requests to this service: rows are shown as text, whatever is in them.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) fn routes(_: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path::end()
        .and(warp::get())
        .then(|| async {
            let mut response = text_response("text/html; charset=utf-8", PAGE);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            answer("GET /", Ok(response))
        })
        .boxed()
}
