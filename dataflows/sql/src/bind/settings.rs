//! `SET name = value`: each setting's name, what it takes, and where it goes.

mod flink;

use std::time::Duration;

use highwater_plan::{Diagnostic, OnError, Settings, Span, parse_duration};

use crate::diagnose::{Result, error};
use crate::parse::{Statement, StatementKind};

/// What the SET statements of a job decide, for the plan and for the planner.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    /// For the engine.
    pub(crate) settings: Settings,
    /// Whether unquoted identifiers are folded to lower case.
    pub(crate) lower_identifiers: bool,
    /// The idle timeout of sources that do not say theirs.
    pub(crate) idle_timeout: Option<String>,
    /// Settings that do nothing here.
    pub(crate) warnings: Vec<Diagnostic>,
}

const NAMES: [&str; 8] = [
    "epochs_in_flight",
    "epoch_rows_max",
    "allowed_lateness",
    "on_error",
    "recursion_limit",
    "state_ttl",
    "idle_timeout",
    "sql.identifiers",
];

/// Reads all SET statements; they hold for the whole job, wherever they stand.
pub(crate) fn decide(statements: &[Statement]) -> Result<Decisions> {
    let mut decisions = Decisions::default();
    for statement in statements {
        if let StatementKind::Set { name, name_span, value, value_span } = &statement.kind {
            set(&mut decisions, name, *name_span, value, *value_span)?;
        }
    }
    Ok(decisions)
}

fn set(decisions: &mut Decisions, name: &str, name_span: Span, value: &str, value_span: Span) -> Result<()> {
    let invalid = |expected: &str| {
        error("invalid-setting", format!("setting '{name}' cannot be '{value}'"))
            .at(value_span)
            .help(format!("expected {expected}"))
    };
    let count = |value: &str| -> Option<usize> { value.parse().ok().filter(|count| *count > 0) };
    let settings = &mut decisions.settings;
    match name {
        "epochs_in_flight" => settings.epochs_in_flight = count(value).ok_or_else(|| invalid("a whole number from 1 up"))?,
        "epoch_rows_max" => settings.epoch_rows_max = count(value).ok_or_else(|| invalid("a whole number from 1 up"))?,
        "allowed_lateness" => {
            settings.allowed_lateness = duration(value).ok_or_else(|| invalid("a length of time such as '10 s' or '1 minute'"))?
        }
        "on_error" => {
            settings.on_error = match value.to_ascii_lowercase().as_str() {
                "fail" => OnError::Fail,
                "skip" => OnError::Skip,
                "null" => OnError::Null,
                _ => return Err(invalid("fail, skip or null")),
            }
        }
        "recursion_limit" => {
            settings.recursion_limit = count(value).ok_or_else(|| invalid("a whole number from 1 up"))? as u64;
        }
        "state_ttl" => {
            let ttl = duration(value).ok_or_else(|| invalid("a length of time such as '1 hour', or 0 for none"))?;
            if !ttl.is_zero() && ttl < Duration::from_millis(1) {
                return Err(invalid("a millisecond or more, or 0 for none"));
            }
            settings.state_ttl = (!ttl.is_zero()).then_some(ttl);
        }
        "idle_timeout" => {
            duration(value).ok_or_else(|| invalid("a length of time such as '10 s' or '1 minute'"))?;
            decisions.idle_timeout = (value.trim() != "0").then(|| value.to_string());
        }
        "sql.identifiers" => {
            decisions.lower_identifiers = match value.to_ascii_lowercase().as_str() {
                "lower" => true,
                "exact" => false,
                _ => return Err(invalid("lower or exact")),
            }
        }
        _ => {
            match flink::meaning(name) {
                Some(flink::Meaning::Setting(ours)) => return set(decisions, ours, name_span, value, value_span),
                Some(flink::Meaning::Nothing(why)) => {
                    let warning = Diagnostic::warning("setting-ignored", format!("setting '{name}' does nothing"));
                    decisions.warnings.push(warning.at(Some(name_span)).help(why));
                    return Ok(());
                }
                Some(flink::Meaning::Fixed { value: only, .. }) if value.eq_ignore_ascii_case(only) => return Ok(()),
                Some(flink::Meaning::Fixed { value: only, why }) => {
                    return Err(error("invalid-setting", format!("setting '{name}' is '{only}', and cannot be '{value}'"))
                        .at(value_span)
                        .help(why));
                }
                None => {}
            }
            let names: Vec<String> = NAMES.iter().copied().chain(flink::names()).map(str::to_string).collect();
            return Err(error("unknown-setting", format!("unknown setting '{name}'"))
                .at(name_span)
                .maybe_help(crate::diagnose::did_you_mean(name, "settings", &names)));
        }
    }
    Ok(())
}

fn duration(value: &str) -> Option<Duration> {
    if value.trim() == "0" { Some(Duration::ZERO) } else { parse_duration(value) }
}
