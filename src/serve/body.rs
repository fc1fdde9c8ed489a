//! Request bodies: at most so large each, at most so much in total, and never waiting for a client that sends nothing.

use futures_util::{Stream, StreamExt};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use warp::Buf;
use warp::http::HeaderMap;
use warp::http::header::CONTENT_LENGTH;

use super::Context;
use super::problem::{Code, Problem};

/// How much of a body that is refused is still read, in multiples of what is allowed, so that its sender, who reads only
/// when all is written, hears why.
const DISCARD: usize = 8;

/// A body, and the room it takes until it is dropped.
pub(crate) struct Body {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    _room: Vec<OwnedSemaphorePermit>,
}

/// Receives a body whole. A client that goes away or stalls in the middle of it leaves nothing.
pub(crate) async fn receive<S, B>(context: &Context, headers: &HeaderMap, body: S) -> Result<Body, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let limits = &context.limits;
    let mut body = pin!(body);
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes) {
        discard(body.as_mut(), limits.body_bytes.saturating_mul(DISCARD), limits.stall_time).await;
        return Err(too_large(limits.body_bytes));
    }
    let mut received = Body { bytes: Vec::with_capacity(announced.unwrap_or(0).min(1 << 20)), _room: Vec::new() };
    let mut room = 0;
    loop {
        let next = tokio::time::timeout(limits.stall_time, body.next()).await;
        let piece = next.map_err(|_| {
            let detail = format!("nothing came for {} s after {} bytes", limits.stall_time.as_secs(), received.bytes.len());
            Problem::new(Code::BodyTimeout, detail)
        })?;
        let Some(piece) = piece else { return Ok(received) };
        let mut piece = piece.map_err(|error| Problem::new(Code::BadBody, format!("the body broke off: {error}")))?;
        let length = received.bytes.len() + piece.remaining();
        if length > limits.body_bytes {
            discard(body.as_mut(), limits.body_bytes.saturating_mul(DISCARD), limits.stall_time).await;
            return Err(too_large(limits.body_bytes));
        }
        while room < length {
            // Half as much again each time, so that a large body is not a thousand permits.
            let more = (length - room).max(room / 2).max(64 * 1024).div_ceil(1024);
            let permit = Arc::clone(&context.bodies).try_acquire_many_owned(more as u32).map_err(|_| {
                Problem::new(Code::Overloaded, format!("{} bytes of bodies are on their way", limits.bodies_bytes)).retry_after(1)
            })?;
            received._room.push(permit);
            room += more * 1024;
        }
        while piece.has_remaining() {
            let chunk = piece.chunk();
            received.bytes.extend_from_slice(chunk);
            let taken = chunk.len();
            piece.advance(taken);
        }
    }
}

async fn discard<S, B>(mut body: std::pin::Pin<&mut S>, most: usize, patience: Duration)
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let all = async {
        let mut seen = 0;
        while let Some(Ok(piece)) = body.next().await {
            seen += piece.remaining();
            if seen > most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(patience, all).await;
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("a body may have {limit} bytes")).with("limit_bytes", limit.into())
}
