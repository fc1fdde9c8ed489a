//! Interrupts: the first asks the command to finish in good order, the second ends the process at once.

use std::sync::mpsc::Sender;

/// What wakes a command that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// SIGINT or SIGTERM.
    Interrupt,
    /// The job's state changed.
    JobOver,
}

/// Sends [`Wake::Interrupt`] at the first interrupt; exits with 130 at the second.
pub(super) fn watch(wake: Sender<Wake>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            for round in 0.. {
                interrupted().await;
                if round > 0 {
                    std::process::exit(130);
                }
                // A command that no longer listens is ending already.
                let _ = wake.send(Wake::Interrupt);
            }
        });
    })?;
    Ok(())
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}
