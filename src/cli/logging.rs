//! Where logs go: standard error, filtered by `HIGHWATER_LOG` (`warn`, `highwater=debug`, ...).

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging at `level` unless the environment says otherwise.
pub(super) fn start(level: &str) {
    let filter = EnvFilter::try_from_env("HIGHWATER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let terminal = std::io::stderr().is_terminal();
    // A second start (a test in the same process) keeps the first one's settings.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal).with_writer(Lines { terminal }).try_init();
}

/// Writes each event over a progress line that may stand there.
struct Lines {
    terminal: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = std::io::Stderr;

    fn make_writer(&'a self) -> Self::Writer {
        let mut stderr = std::io::stderr();
        if self.terminal {
            let _ = stderr.write_all(super::progress::ERASE.as_bytes());
        }
        stderr
    }
}
