//! `highwater tail`: a view's changes as they happen.

use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{UrlArgs, address, agent, encode, success, unreachable};
use super::{Failure, say};

const EXAMPLES: &str = "\
Examples:
  highwater tail trending
  highwater tail 'bid$late' --from-now | head -5

A line is `+` or `-`, how often if not once, the epoch, and the row as JSON. Rows of the first snapshot are `+`. When the
connection breaks, it is taken up again where it broke.

Exit codes: 0 the job ended or the output was closed, 1 the job failed, 2 wrong usage, 3 no server or no such view.";

/// Tries before a server that was reached once is given up.
const RECONNECTS: u32 = 20;

/// Arguments of `highwater tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TailArgs {
    /// The view.
    view: String,
    /// Its job, if several have a view of this name.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    url: UrlArgs,
    /// Only changes from now on.
    #[arg(long, conflicts_with = "snapshot")]
    from_now: bool,
    /// The rows that are there first, then changes; this is the default.
    #[arg(long)]
    snapshot: bool,
}

/// Why a connection was left.
enum Left {
    /// It broke, or the server wants it taken up again.
    Broken,
    /// The job ended.
    Ended,
    /// The output was closed.
    Closed,
}

/// Prints changes until the job ends or the output is closed.
pub(super) fn tail(args: &TailArgs) -> Result<(), Failure> {
    let job = args.job.as_ref().map_or(String::new(), |job| format!("jobs/{}/", encode(job)));
    let path = format!("/v1/{job}views/{}/changes?snapshot={}", encode(&args.view), !args.from_now);
    let url = address(&args.url, &path);
    let agent = agent();
    let mut last_id: Option<String> = None;
    let mut attempts = 0;
    loop {
        let request = agent.get(&url).header("accept", "text/event-stream");
        let request = match &last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        match request.call() {
            Ok(response) => {
                let mut response = success(response)?;
                let reader = BufReader::new(response.body_mut().as_reader());
                let before = last_id.clone();
                match follow(reader, &mut last_id, &mut io::stdout().lock())? {
                    Left::Broken => {}
                    Left::Ended | Left::Closed => return Ok(()),
                }
                if before != last_id {
                    attempts = 0;
                }
            }
            Err(error) if last_id.is_none() || attempts >= RECONNECTS => return Err(unreachable(&args.url, &error)),
            Err(_) => {}
        }
        attempts += 1;
        if attempts > RECONNECTS {
            return Err(Failure::Unreachable(format!("the connection to {} breaks again and again", args.url.url)));
        }
        say(format_args!("the connection broke; taking it up again"));
        std::thread::sleep(Duration::from_millis(250) * attempts.min(8));
    }
}

#[derive(Debug, Deserialize)]
struct SnapshotData<'a> {
    epoch: u64,
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct ChangesData<'a> {
    epoch: u64,
    #[serde(borrow)]
    changes: Vec<Change<'a>>,
}

#[derive(Debug, Deserialize)]
struct Change<'a> {
    op: char,
    count: Option<u64>,
    #[serde(borrow)]
    row: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct EndData {
    state: String,
    reason: Option<String>,
}

/// Prints the events of one connection.
fn follow(mut reader: impl BufRead, last_id: &mut Option<String>, out: &mut impl Write) -> Result<Left, Failure> {
    let (mut event, mut id, mut data) = (String::new(), None, String::new());
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return Ok(Left::Broken),
            Ok(_) => {}
        }
        let text = line.trim_end_matches(['\n', '\r']);
        if let Some(name) = text.strip_prefix("event: ") {
            event = name.to_string();
        } else if let Some(token) = text.strip_prefix("id: ") {
            id = Some(token.to_string());
        } else if let Some(piece) = text.strip_prefix("data: ") {
            data.push_str(piece);
        } else if text.is_empty() && !event.is_empty() {
            match print(&event, &data, out) {
                Ok(Some(left)) => return left,
                Ok(None) => {}
                Err(_) => return Ok(Left::Closed),
            }
            if id.is_some() {
                *last_id = id.take();
            }
            event.clear();
            data.clear();
        }
    }
}

/// Prints one event; says whether the connection is to be left.
fn print(event: &str, data: &str, out: &mut impl Write) -> io::Result<Option<Result<Left, Failure>>> {
    let strange = |error: serde_json::Error| Some(Err(Failure::Unreachable(format!("a strange '{event}' event: {error}"))));
    match event {
        "snapshot" => match serde_json::from_str::<SnapshotData<'_>>(data) {
            Ok(SnapshotData { epoch, rows }) => rows.iter().try_for_each(|row| writeln!(out, "+ {epoch} {row}"))?,
            Err(error) => return Ok(strange(error)),
        },
        "changes" => match serde_json::from_str::<ChangesData<'_>>(data) {
            Ok(ChangesData { epoch, changes }) => {
                for Change { op, count, row } in changes {
                    let count = count.map_or(String::new(), |count| count.to_string());
                    writeln!(out, "{op}{count} {epoch} {row}")?;
                }
            }
            Err(error) => return Ok(strange(error)),
        },
        "reset" => say(format_args!("the view is sent anew: rows printed before do not count: {data}")),
        "lagged" => say(format_args!("too slow; reading on where it stopped")),
        "end" => return Ok(Some(end(data))),
        "error" => return Ok(Some(Err(Failure::Job(format!("the view cannot be followed: {data}"))))),
        _ => {}
    }
    out.flush()?;
    Ok(None)
}

fn end(data: &str) -> Result<Left, Failure> {
    match serde_json::from_str::<EndData>(data) {
        Ok(EndData { state, reason }) if state == "failed" => {
            Err(Failure::Job(format!("the job failed: {}", reason.unwrap_or_default())))
        }
        Ok(EndData { state, .. }) => {
            say(format_args!("the job is {state}"));
            Ok(Left::Ended)
        }
        Err(_) => Ok(Left::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_printed_as_signed_rows() {
        let stream = "retry: 1000\n\nevent: snapshot\ndata: {\"epoch\":3,\"rows\":[{\"b\":1,\"a\":2}],\"complete\":true}\nid: hot:3\n\n\
            event: changes\ndata: {\"epoch\":4,\"changes\":[{\"op\":\"-\",\"row\":{\"b\":1}},{\"op\":\"+\",\"count\":2,\"row\":{\"b\":9}}],\"complete\":true}\nid: hot:4\n\n";
        let (mut last_id, mut out) = (None, Vec::new());
        let left = follow(stream.as_bytes(), &mut last_id, &mut out).expect("the events are well formed");
        assert!(matches!(left, Left::Broken));
        assert_eq!(String::from_utf8_lossy(&out), "+ 3 {\"b\":1,\"a\":2}\n- 4 {\"b\":1}\n+2 4 {\"b\":9}\n");
        assert_eq!(last_id.as_deref(), Some("hot:4"));
    }

    #[test]
    fn a_failed_job_is_a_failure() {
        assert!(end("{\"epoch\":1,\"state\":\"failed\",\"reason\":\"x\"}").is_err());
        assert!(matches!(end("{\"epoch\":1,\"state\":\"dropped\",\"reason\":null}"), Ok(Left::Ended)));
    }
}
