//! Where reading a partition stands, as text that is kept with a job's state.
//!
//! `<rows done after the offset> <rows given> <watermark, or -> <offset, or nothing>`: an offset is its connector's, and may
//! have anything in it, so it comes last.

use std::fmt;
use std::str::FromStr;

use highwater_connectors::source::Offset;

/// Where reading a partition stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stood {
    /// Where the last batch ended that was given whole; `None` before the first.
    pub(crate) offset: Option<Offset>,
    /// How many rows after it are done with.
    pub(crate) done_after: u64,
    /// How many rows were given in all.
    pub(crate) rows: u64,
    /// The largest watermark of those, in microseconds.
    pub(crate) watermark: Option<i64>,
}

impl fmt::Display for Stood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.done_after, self.rows)?;
        match self.watermark {
            Some(watermark) => write!(f, "{watermark} ")?,
            None => f.write_str("- ")?,
        }
        f.write_str(self.offset.as_ref().map_or("", |offset| &*offset.0))
    }
}

/// The text is none of [`Stood`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no position of a partition")]
pub(crate) struct NoPosition(String);

impl FromStr for Stood {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let wrong = || NoPosition(text.to_owned());
        let mut parts = text.splitn(4, ' ');
        let mut next = || parts.next().ok_or_else(wrong);
        let done_after = next()?.parse().map_err(|_| wrong())?;
        let rows = next()?.parse().map_err(|_| wrong())?;
        let watermark = match next()? {
            "-" => None,
            number => Some(number.parse().map_err(|_| wrong())?),
        };
        let offset = Some(next()?).filter(|offset| !offset.is_empty()).map(Offset::new);
        Ok(Stood { offset, done_after, rows, watermark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_were_written() {
        let positions =
            [Stood::default(), Stood { offset: Some(Offset::new("a path 17")), done_after: 3, rows: 90, watermark: Some(-5) }];
        for stood in positions {
            assert_eq!(stood.to_string().parse(), Ok(stood));
        }
        for wrong in ["", "1", "1 2 3", "x 2 - 4", "1 2 y 4"] {
            assert_eq!(wrong.parse::<Stood>(), Err(NoPosition(wrong.into())));
        }
    }
}
