//! Formats of answers: which one a client accepts, and rows in it, piece by piece.

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use highwater_connectors::format::encode;
use warp::http::HeaderMap;
use warp::http::header::ACCEPT;

use super::problem::{Code, Problem};

/// A format that rows can be answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// One JSON object with the rows and what they are rows of.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// CSV with a header line.
    Csv,
    /// The Arrow IPC streaming format.
    Arrow,
}

const ALL: [(Media, &str, &str); 4] = [
    (Media::Json, "json", "application/json"),
    (Media::Ndjson, "ndjson", "application/x-ndjson"),
    (Media::Csv, "csv", "text/csv"),
    (Media::Arrow, "arrow", "application/vnd.apache.arrow.stream"),
];

impl Media {
    /// What `?format=` or else the `Accept` header asks for; JSON if neither cares.
    pub(crate) fn negotiate(headers: &HeaderMap, format: Option<&str>) -> Result<Media, Problem> {
        if let Some(format) = format {
            return ALL
                .iter()
                .find(|(_, short, full)| *short == format || *full == format)
                .map(|(media, ..)| *media)
                .ok_or_else(|| Problem::new(Code::NotAcceptable, format!("no format '{format}'")));
        }
        let ranges: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if ranges.is_empty() {
            return Ok(Media::Json);
        }
        let ranges = ranges.join(",");
        let quality = |full: &str| ranges.split(',').filter_map(|range| matches(range, full)).max_by_key(|found| found.0);
        // Ties go to the first of ALL; a more specific range decides over a wider one.
        let best = ALL
            .iter()
            .rev()
            .filter_map(|(media, _, full)| quality(full).map(|(_, quality)| (*media, quality)))
            .filter(|(_, quality)| *quality > 0)
            .max_by_key(|(_, quality)| *quality);
        best.map(|(media, _)| media).ok_or_else(|| Problem::new(Code::NotAcceptable, format!("nothing that '{ranges}' accepts")))
    }

    /// Its `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Csv => "text/csv; charset=utf-8",
            Media::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// How specific a media range of an `Accept` header is for `full`, and its quality in thousandths.
fn matches(range: &str, full: &str) -> Option<(u8, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let kind = full.split('/').next().unwrap_or_default();
    let specific = match name.as_str() {
        "*/*" => 0,
        name if name.strip_suffix("/*") == Some(kind) => 1,
        name if name == full => 2,
        // What others call NDJSON.
        "application/jsonl" | "application/ndjson" if full == "application/x-ndjson" => 2,
        _ => return None,
    };
    let quality = parts.find_map(|parameter| parameter.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
    Some((specific, (quality.clamp(0.0, 1.0) * 1_000.0) as u16))
}

/// Writes rows in a format; what is written is taken away between the calls.
pub(crate) enum Encoder {
    /// The text around the rows, and whether a row was written.
    Json { tail: &'static [u8], any: bool },
    /// Nothing to remember.
    Ndjson,
    /// Nothing to remember.
    Csv,
    /// The stream has written its schema.
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Encoder {
    /// Starts an answer. `head` is the text of a JSON answer up to its rows.
    pub(crate) fn start(media: Media, schema: &SchemaRef, head: &str, out: &mut Vec<u8>) -> Result<Encoder, ArrowError> {
        Ok(match media {
            Media::Json => {
                out.extend_from_slice(head.as_bytes());
                out.push(b'[');
                Encoder::Json { tail: b"]}\n", any: false }
            }
            Media::Ndjson => Encoder::Ndjson,
            Media::Csv => {
                encode::csv_header(schema.fields().iter().map(|field| field.name().as_str()), out);
                Encoder::Csv
            }
            Media::Arrow => {
                let mut writer = Box::new(StreamWriter::try_new(Vec::new(), schema)?);
                out.append(writer.get_mut());
                Encoder::Arrow(writer)
            }
        })
    }

    /// Appends rows.
    pub(crate) fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        match self {
            Encoder::Json { any, .. } => {
                let writer = encode::RowWriter::new(rows)?;
                for row in 0..rows.num_rows() {
                    out.extend_from_slice(if std::mem::replace(any, true) { b",\n" } else { b"\n" });
                    writer.write_object(row, out);
                }
                Ok(())
            }
            Encoder::Ndjson => encode::ndjson(rows, out),
            Encoder::Csv => encode::csv(rows, false, out),
            Encoder::Arrow(writer) => {
                writer.write(rows)?;
                out.append(writer.get_mut());
                Ok(())
            }
        }
    }

    /// Ends the answer.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        match self {
            Encoder::Json { tail, .. } => out.extend_from_slice(tail),
            Encoder::Ndjson | Encoder::Csv => {}
            Encoder::Arrow(writer) => {
                writer.finish()?;
                out.append(writer.get_mut());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    fn accept(value: &'static str) -> Option<Media> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
        Media::negotiate(&headers, None).ok()
    }

    #[test]
    fn the_accept_header_decides() {
        assert_eq!(accept("*/*"), Some(Media::Json));
        assert_eq!(accept("text/html, application/xhtml+xml, */*;q=0.8"), Some(Media::Json));
        assert_eq!(accept("text/csv"), Some(Media::Csv));
        assert_eq!(accept("text/*"), Some(Media::Csv));
        assert_eq!(accept("application/json;q=0.5, application/x-ndjson"), Some(Media::Ndjson));
        assert_eq!(accept("application/json;q=0, */*;q=0.1"), Some(Media::Ndjson));
        assert_eq!(accept("application/vnd.apache.arrow.stream"), Some(Media::Arrow));
        assert_eq!(accept("image/png"), None);
    }

    #[test]
    fn a_format_in_the_query_goes_before() {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/csv"))]);
        assert_eq!(Media::negotiate(&headers, Some("arrow")).ok(), Some(Media::Arrow));
        assert!(Media::negotiate(&headers, Some("xml")).is_err());
    }
}
