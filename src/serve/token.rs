//! Tokens: `job:epoch`, a moment in a job's history that a client can carry from an answer to a request.

use std::fmt;

use highwater_plan::Epoch;

use super::problem::{Code, Problem};

/// A moment in a job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The job; `None` if only an epoch was given.
    pub(crate) job: Option<&'a str>,
    /// The epoch.
    pub(crate) epoch: Epoch,
}

impl<'a> Token<'a> {
    /// The moment `epoch` of `job`.
    pub(crate) fn new(job: &'a str, epoch: Epoch) -> Self {
        Token { job: Some(job), epoch }
    }

    /// Reads `job:epoch` or `epoch`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (job, epoch) = match text.rsplit_once(':') {
            Some((job, epoch)) => (Some(job), epoch),
            None => (None, text),
        };
        Some(Token { job, epoch: epoch.parse().ok()? })
    }

    /// The epoch, if this is a token of `job`.
    pub(crate) fn epoch_of(text: &'a str, job: &str) -> Result<Epoch, Problem> {
        match Token::parse(text) {
            Some(Token { job: Some(other), .. }) if other != job => {
                Err(Problem::new(Code::BadToken, format!("'{text}' is a token of job '{other}', not of '{job}'")))
            }
            Some(token) => Ok(token.epoch),
            None => Err(Problem::new(Code::BadToken, format!("'{text}' is neither an epoch nor a token"))),
        }
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.job {
            Some(job) => write!(f, "{job}:{}", self.epoch),
            None => write!(f, "{}", self.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written() {
        let token = Token::new("hot", 17);
        assert_eq!(Token::parse(&token.to_string()), Some(token));
        assert_eq!(Token::parse("17"), Some(Token { job: None, epoch: 17 }));
        assert_eq!(Token::parse("hot:"), None);
        assert!(Token::epoch_of("cold:17", "hot").is_err());
        assert_eq!(Token::epoch_of("17", "hot").ok(), Some(17));
    }
}
