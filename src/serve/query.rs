//! Query strings and path segments, decoded.

use std::time::Duration;

use warp::Filter;

use super::problem::{Code, Problem};

/// A request's query: names and values in order, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(pub(crate) Vec<(String, String)>);

/// The raw query string; empty without one.
pub(crate) fn raw() -> impl Filter<Extract = (String,), Error = std::convert::Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

impl Query {
    /// Reads a raw query string.
    pub(crate) fn parse(raw: &str) -> Result<Query, Problem> {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        });
        Ok(Query(pairs.collect::<Result<_, Problem>>()?))
    }

    /// The last value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| Problem::new(Code::BadQuery, format!("'{name}' must be a number, not '{value}'")))
    }

    /// `timeout_ms`, at most `longest`.
    pub(crate) fn timeout(&self, longest: Duration) -> Result<Duration, Problem> {
        let asked = self.number("timeout_ms")?.map_or(Duration::from_secs(10), Duration::from_millis);
        Ok(asked.min(longest))
    }
}

/// Decodes a path segment.
pub(crate) fn segment(raw: &str) -> Result<String, Problem> {
    decode(raw, false)
}

fn decode(raw: &str, plus_is_space: bool) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(Problem::new(Code::BadQuery, format!("'{raw}' has a '%' without two hex digits"))),
                }
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Problem::new(Code::BadQuery, format!("'{raw}' is not UTF-8 when decoded")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse("a+b=1%2B1&&flag&limit=3&%24x=%C3%A4").expect("it is well formed");
        let pairs: Vec<(&str, &str)> = query.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a b", "1+1"), ("flag", ""), ("limit", "3"), ("$x", "ä")]);
        assert_eq!(query.number::<usize>("limit").ok(), Some(Some(3)));
        assert!(query.number::<usize>("flag").is_err());
    }

    #[test]
    fn what_cannot_be_decoded_is_a_problem() {
        for wrong in ["a=%", "a=%2", "a=%zz", "%ff=1"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(segment("bid%24late").ok().as_deref(), Some("bid$late"));
        assert_eq!(segment("a+b").ok().as_deref(), Some("a+b"));
    }
}
