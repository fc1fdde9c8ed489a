//! Problem documents (RFC 9457): every answer that is not what was asked for, with a code that does not change.
//!
//! `type` is `/errors/<code>`, and the service answers that path with what the code means and what to do about it.

use highwater_plan::Diagnostic;
use serde_json::{Map, Value, json};
use warp::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::Response;

macro_rules! codes {
    ($($name:ident $status:literal $code:literal $title:literal $remedy:literal;)*) => {
        /// What can go wrong, for a client.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// All of them, in the order of their statuses.
            pub(crate) const ALL: &[Code] = &[$(Code::$name,)*];

            fn facts(self) -> (u16, &'static str, &'static str, &'static str) {
                match self { $(Code::$name => ($status, $code, $title, $remedy),)* }
            }
        }
    };
}

codes! {
    BadQuery 400 "bad-query" "The query string cannot be read" "Percent-encode names and values; see docs/serving.md for the parameters.";
    UnknownColumn 400 "unknown-column" "The view has no such column" "The detail lists the columns; `GET /v1/views` has their types.";
    BadValue 400 "bad-value" "A value does not have its type" "Write the value as the column's type is written in SQL; `column.is=null` asks for NULL.";
    BadToken 400 "bad-token" "This is no token of this job" "A token is `job:epoch`, as an answer's `Highwater-Token` header has it.";
    BadBody 400 "bad-body" "The body cannot be read" "The detail says where it stops making sense.";
    BadName 400 "bad-name" "A job cannot have this name" "Use letters, digits, '_', '-' and '.', at most 128.";
    CrossOrigin 403 "cross-origin" "A web page of another origin may not change anything here" "Send the request from a program, or from a page that this service serves.";
    UnknownRoute 404 "unknown-route" "There is nothing at this path" "The paths are in docs/serving.md.";
    UnknownJob 404 "unknown-job" "There is no such job" "`GET /v1/jobs` lists them.";
    UnknownView 404 "unknown-view" "There is no such view" "`GET /v1/views` lists them.";
    UnknownSavepoint 404 "unknown-savepoint" "There is no such checkpoint or savepoint" "`GET /v1/jobs/{name}/savepoints` lists them.";
    UnknownSource 404 "unknown-source" "There is no such source" "`GET /v1/jobs/{name}` lists a job's sources.";
    WrongMethod 405 "method-not-allowed" "This path does not have this method" "The `Allow` header lists the methods.";
    NotAcceptable 406 "not-acceptable" "The answer does not exist in this format" "Accept application/json, application/x-ndjson, text/csv or application/vnd.apache.arrow.stream.";
    BodyTimeout 408 "body-timeout" "The body did not arrive in time" "Send the body without long pauses.";
    JobExists 409 "job-exists" "A job of this name runs already" "Choose another name; or change the job, with `upgrade`. Dropping it forgets its state.";
    AmbiguousName 409 "ambiguous-name" "Several jobs have a relation of this name" "Say which job is meant: /v1/jobs/{job}/views/{view}, /v1/jobs/{job}/sources/{source}, or `job=` of a query.";
    CheckpointsUnusable 409 "checkpoints-unusable" "The job's checkpoints cannot be read or written" "The detail says why and what can be done; under another name the job starts with nothing.";
    NotPushable 409 "not-pushable" "This source does not take rows from clients" "Only sources with `connector = 'http'` do.";
    JobOver 409 "job-over" "The job has ended" "Its views can be read as long as it is not dropped, but nothing changes any more.";
    BodyTooLarge 413 "body-too-large" "The body is larger than allowed" "Send several smaller bodies, or raise --limit-body-bytes.";
    UnsupportedMedia 415 "unsupported-media-type" "The body's format is not known" "Send application/x-ndjson, application/json or text/csv.";
    UnknownHost 421 "unknown-host" "This service does not go by this name" "Address it by its IP address or as localhost, or start it with --allow-host NAME.";
    InvalidJob 422 "invalid-job" "The job's text is wrong" "`diagnostics` says what, where and how to mend it.";
    InvalidScript 422 "invalid-script" "The script is wrong" "`diagnostics` says what, where and how to mend it.";
    DifferentJobs 422 "different-jobs" "The relations of one statement are of different jobs" "A statement is answered at one moment of one job; put the views into one job, or ask twice.";
    QueryFailed 422 "query-failed" "The statement failed on a row" "The detail says which expression and row; CASE, NULLIF or a condition can leave the row out.";
    InvalidRows 422 "invalid-rows" "The rows cannot be rows of the table" "The detail says which column does not take what.";
    TooManyRows 422 "too-many-rows" "The answer has more rows than allowed" "Add conditions or LIMIT, read the view as a stream of changes, or raise --limit-query-rows.";
    TooManyQueries 429 "too-many-queries" "There are as many queries running as allowed" "Try again after `Retry-After` seconds, or raise --limit-queries.";
    QueueFull 429 "queue-full" "The source's queue is full: the dataflow is behind" "Send the same body again after `Retry-After` seconds.";
    TooManySubscribers 429 "too-many-subscribers" "There are as many subscribers as allowed" "Try again later, or raise --limit-subscribers or --limit-subscribers-per-view.";
    Internal 500 "internal" "Something went wrong that should not" "The service's log has more; please report it.";
    TooManyConnections 503 "too-many-connections" "There are as many connections as allowed" "Try again later, or raise --limit-connections.";
    JobReturning 503 "job-returning" "The job is being brought back from its checkpoint" "Try again after `Retry-After` seconds; `GET /v1/jobs` says how far it is.";
    NotKept 503 "not-kept" "The rows could not be kept so that a restart finds them" "Nothing was taken: send the same body again after `Retry-After` seconds. The detail says what is wrong.";
    Overloaded 503 "overloaded" "Too many request bodies are being received" "Try again after `Retry-After` seconds.";
    NoRoom 507 "no-room" "The disk that keeps accepted rows is full" "Nothing was taken. Make room where the checkpoints are, then send the same body again.";
    QueryTimeout 504 "query-timeout" "The statement was not done in time" "Ask for less, or allow more (`timeout_ms`).";
    EpochTimeout 504 "epoch-timeout" "The epoch was not closed in time" "Wait longer (`timeout_ms`), or see `GET /v1/jobs/{name}` for what is behind.";
}

impl Code {
    /// The code as clients see it.
    pub(crate) fn code(self) -> &'static str {
        self.facts().1
    }

    /// What `GET /errors/<code>` answers.
    pub(crate) fn page(self) -> String {
        let (status, code, title, remedy) = self.facts();
        format!("{code} (HTTP {status})\n\n{title}.\n\n{remedy}\n")
    }
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this code; `detail` says what it is this time: lower case, names what was asked for.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into(), members: Map::new(), headers: Vec::new() }
    }

    /// Adds a member of its own.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_string(), value);
        self
    }

    /// Adds `Retry-After`.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.headers.push((warp::http::header::RETRY_AFTER, HeaderValue::from(seconds)));
        self
    }

    /// What is wrong with a job's text.
    pub(crate) fn diagnostics(name: &str, text: &str, diagnostics: &[Diagnostic]) -> Self {
        Problem::text(Code::InvalidJob, name, text, diagnostics)
    }

    /// What is wrong with a text.
    pub(crate) fn text(code: Code, name: &str, text: &str, diagnostics: &[Diagnostic]) -> Self {
        let detail = diagnostics.first().map_or_else(String::new, ToString::to_string);
        let rendered: Vec<String> = diagnostics.iter().map(|diagnostic| diagnostic.render(name, text)).collect();
        Problem::new(code, detail)
            .with("diagnostics", diagnostics.iter().map(diagnostic_json).collect())
            .with("rendered", Value::from(rendered.join("\n")))
    }

    /// The document.
    fn document(&self) -> Value {
        let (status, code, title, remedy) = self.code.facts();
        let mut document = json!({
            "type": format!("/errors/{code}"),
            "title": title,
            "status": status,
            "detail": self.detail,
            "code": code,
            "help": remedy,
        });
        if let Value::Object(members) = &mut document {
            members.extend(self.members.clone());
        }
        document
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response {
        let body = self.document().to_string();
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = StatusCode::from_u16(self.code.facts().0).expect("the table has HTTP statuses");
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(self.headers);
        response
    }

    /// The answer as bytes, for a connection that is refused before it is served.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let body = self.document().to_string();
        let status = self.code.facts().0;
        format!(
            "HTTP/1.1 {status} Problem\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A diagnostic as clients see it.
pub(crate) fn diagnostic_json(diagnostic: &Diagnostic) -> Value {
    let notes: Vec<Value> = diagnostic
        .notes
        .iter()
        .map(|note| json!({ "message": note.message, "line": note.span.map(|span| span.start.line), "column": note.span.map(|span| span.start.column) }))
        .collect();
    json!({
        "code": diagnostic.code,
        "message": diagnostic.message,
        "line": diagnostic.span.map(|span| span.start.line),
        "column": diagnostic.span.map(|span| span.start.column),
        "end_line": diagnostic.span.map(|span| span.end.line),
        "end_column": diagnostic.span.map(|span| span.end.column),
        "help": diagnostic.help,
        "notes": notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_statuses_exist() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(Problem::new(*code, "x").into_response().status().as_u16() >= 400);
        }
    }

    #[test]
    fn a_diagnostic_keeps_its_place() {
        let diagnostic = Diagnostic::error("unknown-option", "unknown option 'x'")
            .at(highwater_plan::Span::new((2, 7), (2, 12)))
            .help("valid options: topic");
        let document = Problem::diagnostics("job", "a\nWITH ('topc' = 'x')", &[diagnostic]).document();
        assert_eq!(document["diagnostics"][0]["line"], 2);
        assert_eq!(document["diagnostics"][0]["end_column"], 12);
        assert!(document["rendered"].as_str().expect("text").contains("^^^^^^"));
    }
}
