//! Flink's settings: those that have a counterpart, and those that a job runs as well without.

/// Flink's name and ours.
const COUNTERPARTS: [(&str, &str); 3] = [
    ("table.exec.state.ttl", "state_ttl"),
    ("table.exec.emit.allow-lateness", "allowed_lateness"),
    ("table.exec.source.idle-timeout", "idle_timeout"),
];

/// Settings that change how Flink runs, and nothing of the result: with the reason why they do nothing here.
const WITHOUT_EFFECT: [(&str, &str); 14] = [
    ("parallelism.default", "the number of workers is said when highwater starts: --workers"),
    ("table.exec.resource.default-parallelism", "the number of workers is said when highwater starts: --workers"),
    ("table.exec.mini-batch.enabled", "changes are taken together by epochs, always"),
    ("table.exec.mini-batch.allow-latency", "epochs size themselves"),
    ("table.exec.mini-batch.size", "epochs size themselves; SET epoch_rows_max bounds them"),
    ("table.optimizer.agg-phase-strategy", "rows are aggregated before they are exchanged where that helps"),
    ("table.optimizer.distinct-agg.split.enabled", "rows are aggregated before they are exchanged where that helps"),
    ("table.optimizer.join-reorder-enabled", "joins are ordered by how many rows they are estimated to have"),
    ("table.exec.sink.not-null-enforcer", "NOT NULL of a sink's column is not checked"),
    ("table.exec.sink.upsert-materialize", "changes of one epoch reach a sink together, in order"),
    ("table.exec.emit.early-fire.enabled", "open windows are always given, and corrected; EMIT FINAL waits for their end"),
    ("table.exec.emit.early-fire.delay", "EMIT EVERY INTERVAL '10' SECOND says how often changes are given"),
    ("table.dml-sync", "all statements of a text are one job"),
    ("pipeline.name", "a job's name is that of its file, or of PUT /v1/jobs/{name}"),
];

/// Beginnings of names that are about Flink's cluster and its client.
const ELSEWHERE: [&str; 6] = ["execution.checkpointing.", "state.", "restart-strategy", "sql-client.", "taskmanager.", "rest."];

/// What a Flink setting means here.
pub(super) enum Meaning {
    /// The same as a setting of ours.
    Setting(&'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Its value is the only one that is there.
    Fixed { value: &'static str, why: &'static str },
}

/// What a setting of this name means, if it is one of Flink's that is known.
pub(super) fn meaning(name: &str) -> Option<Meaning> {
    if let Some((_, ours)) = COUNTERPARTS.iter().find(|(known, _)| *known == name) {
        return Some(Meaning::Setting(ours));
    }
    match name {
        "execution.runtime-mode" => {
            return Some(Meaning::Fixed {
                value: "streaming",
                why: "every job is a stream: with bounded sources its views end up with what a batch would give",
            });
        }
        "table.local-time-zone" => {
            return Some(Meaning::Fixed {
                value: "UTC",
                why: "times are UTC: use AT TIME ZONE, or CONVERT_TZ, where another zone is wanted",
            });
        }
        "table.sql-dialect" => return Some(Meaning::Fixed { value: "default", why: "there is one dialect" }),
        _ => {}
    }
    if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name) {
        return Some(Meaning::Nothing(why));
    }
    let elsewhere = ELSEWHERE.iter().any(|begin| name.starts_with(begin));
    elsewhere.then_some(Meaning::Nothing("it is about Flink's cluster and client"))
}

/// Flink's names that have a counterpart, for whoever misspells one.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COUNTERPARTS.iter().map(|(name, _)| *name)
}
