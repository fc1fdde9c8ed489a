//! DataFusion's errors, rewritten.

use datafusion_common::{DataFusionError, SchemaError};
use highwater_plan::{Diagnostic, Span};

use super::{Construct, Failure, Places, did_you_mean, error};

/// Functions that there are with OVER only.
const WINDOW_FUNCTIONS: [&str; 8] = ["row_number", "rank", "dense_rank", "lag", "lead", "ntile", "percent_rank", "cume_dist"];

/// A DataFusion error as ours, with the best place known.
pub(crate) fn from_datafusion(e: &DataFusionError, places: &Places) -> Failure {
    if let Some(ours) = carried(e) {
        let window = matches!(ours.code, "misplaced-window" | "window-argument");
        let place = match ours.code {
            _ if window => places.window(),
            "not-supported" => places.construct(Construct::Subquery).or(places.statement),
            _ => places.statement,
        };
        return Failure(Box::new(ours.clone())).or_at(place);
    }
    let span = e.diagnostic().and_then(|diagnostic| diagnostic.span).map(span).or(places.statement);
    if let DataFusionError::SchemaError(schema, _) = root(e) {
        return from_schema(schema, span);
    }
    let message = e.diagnostic().map(|d| d.message.clone()).filter(|message| !message.is_empty());
    let text = root(e).strip_backtrace();
    let full = strip_prefixes(&text);
    if let Some(failure) = signature(&full, places) {
        return failure;
    }
    if let Some(name) = between(&full, "Invalid function '", "'") {
        if WINDOW_FUNCTIONS.contains(&name.to_lowercase().as_str()) {
            return error("unknown-function", format!("{name}() is a window function"))
                .at(places.function(&name.to_lowercase()).or(span))
                .help(format!("say over which rows: {name}() OVER (PARTITION BY ... ORDER BY ...)"));
        }
        let near = between(&full, "Did you mean '", "'").map(|near| format!("did you mean '{near}'?"));
        return error("unknown-function", format!("unknown function '{name}'")).at(span).maybe_help(near);
    }
    if let Some(name) = between(&full, "Field ", " not found in struct") {
        return error("unknown-field", format!("unknown field '{name}'")).at(places.ident(&name));
    }
    if full.contains("outer reference columns") || full.contains("orrelated scalar subquery") || full.contains("orrelated column")
    {
        return error("not-supported", "this correlated subquery could not be turned into a join")
            .at(places.construct(Construct::Subquery).or(span))
            .help("name columns of the query around it in the WHERE of the subquery alone, or write an explicit JOIN");
    }
    if full.contains("require unique expression names") {
        let name = between(&full, "expression \"", "\" at position").unwrap_or_default();
        let name = name.rsplit_once(" AS ").map_or(name.as_str(), |(_, name)| name);
        return error("duplicate-column", format!("two columns are called '{name}'"))
            .at(span)
            .help(format!("name one of them: ... AS other_{name}"));
    }
    let condition = full.contains("non-boolean predicate");
    if condition {
        let found = full.rsplit(" returning ").next().map(with_sql_types).unwrap_or_default();
        return error("type-mismatch", format!("a condition must be BOOLEAN, this is {found}"))
            .at(places.construct(Construct::Condition).or(places.statement))
            .help("compare it with something");
    }
    let notes = e.diagnostic().map(|d| d.notes.clone()).unwrap_or_default();
    let help = e.diagnostic().and_then(|d| d.helps.first().map(|help| help.message.clone()));
    let mut failure = classify(&message.unwrap_or(full)).at(span).maybe_help(help.map(|help| crate::parse::friendly(&help)));
    for note in notes {
        failure = failure.note(with_sql_types(&crate::parse::friendly(&note.message)), note.span.map(self::span));
    }
    failure
}

/// The identifier of an unknown column that differs from exactly one known name by case only: `(written, meant, place)`.
pub(crate) fn misspelt_case(e: &DataFusionError) -> Option<(String, String, Option<Span>)> {
    let DataFusionError::SchemaError(schema, _) = root(e) else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref() else { return None };
    let span = e.diagnostic().and_then(|diagnostic| diagnostic.span).or(field.spans.first()).map(self::span);
    let meant = |written: &str, names: &mut dyn Iterator<Item = &str>| -> Option<String> {
        let mut found: Vec<&str> = names.filter(|name| name.eq_ignore_ascii_case(written)).collect();
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [one] if one != written => Some(one.to_string()),
            _ => None,
        }
    };
    if let Some(relation) = &field.relation {
        let relation = relation.table();
        let mut names = valid_fields.iter().flat_map(|f| f.relation.iter().map(|r| r.table()).chain([f.name.as_str()]));
        if let Some(meant) = meant(relation, &mut names) {
            return Some((relation.to_string(), meant, span));
        }
    }
    let meant = meant(&field.name, &mut valid_fields.iter().map(|f| f.name.as_str()))?;
    Some((field.name.clone(), meant, span))
}

fn from_schema(schema: &SchemaError, span: Option<Span>) -> Failure {
    match schema {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<String> = valid_fields.iter().map(|field| field.name.clone()).collect();
            let place = match &field.relation {
                Some(relation) => format!(" in '{}'", relation.table()),
                None => String::new(),
            };
            error("unknown-column", format!("unknown column '{}'{place}", field.name))
                .at(span.or(field.spans.first().map(self::span)))
                .maybe_help(did_you_mean(&field.name, "columns here", &names))
        }
        SchemaError::AmbiguousReference { field } => error("ambiguous-column", format!("column '{}' is ambiguous", field.name))
            .at(span)
            .help(format!("several relations have it: write relation.{}", field.name)),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            error("duplicate-column", format!("column '{name}' appears twice"))
                .at(span)
                .help(format!("rename one of them: {name} AS other_name"))
        }
    }
}

/// "Failed to coerce arguments ... sum(Utf8)" in its several forms, in one line.
fn signature(text: &str, places: &Places) -> Option<Failure> {
    let marks =
        ["No function matches the given name and argument types '", "No function matches the given name and argument types \""];
    let call = marks.iter().find_map(|mark| between(text, mark, "'")).or_else(|| {
        let name = between(text, "Function '", "'").or_else(|| between(text, "function: '", "'"))?;
        Some(name)
    })?;
    let (name, types) = match call.split_once('(') {
        Some((name, types)) => (name, Some(types.trim_end_matches(')').to_string())),
        None => (call.as_str(), None),
    };
    let types = types.or_else(|| {
        between(text, "but received ", ")").and_then(|found| found.split_once("(DataType: ").map(|(_, t)| t.to_string()))
    });
    let what = match types {
        Some(types) if types.is_empty() => format!("{name}() does not work without arguments"),
        Some(types) => format!("{name}() does not take arguments of type ({})", with_sql_types(&types)),
        None => {
            let reason = text.split_once(&format!("'{name}'")).map(|(_, reason)| reason.trim()).unwrap_or_default();
            let reason = reason.split('\n').next().unwrap_or_default();
            let reason = reason.split("No function matches").next().unwrap_or_default().trim().trim_end_matches('.');
            format!("wrong arguments for {name}(): {}", crate::parse::friendly(reason))
        }
    };
    let usage = crate::functions::usage(&name.to_lowercase());
    Some(
        error("wrong-arguments", what)
            .at(places.function(&name.to_lowercase()))
            .help(usage.unwrap_or_else(|| "convert them with CAST(x AS type), or check their number".into())),
    )
}

fn classify(text: &str) -> Failure {
    let first = text.lines().next().unwrap_or_default();
    // Some of DataFusion's messages end in a dump of the syntax tree.
    let first = first.split(" {").next().unwrap_or(first);
    let message = with_sql_types(&crate::parse::friendly(first));
    let lower = first.to_lowercase();
    let code = if lower.contains("not implemented") || lower.contains("not supported") || lower.contains("unsupported") {
        "not-supported"
    } else if lower.contains("coerce") || lower.contains("cannot infer common") || lower.contains("type") {
        "type-mismatch"
    } else if lower.contains("group by") {
        "not-grouped"
    } else {
        "invalid-query"
    };
    error(code, message)
}

/// Arrow's names of types as SQL writes them.
fn with_sql_types(text: &str) -> String {
    const NAMES: [(&str, &str); 16] = [
        ("Utf8View", "VARCHAR"),
        ("Utf8", "VARCHAR"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "REAL"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("Decimal128", "DECIMAL"),
        ("Timestamp(s)", "TIMESTAMP(0)"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Timestamp(ns)", "TIMESTAMP(9)"),
        ("Interval(MonthDayNano)", "INTERVAL"),
    ];
    NAMES.iter().fold(text.to_string(), |text, (arrow, sql)| text.replace(arrow, sql))
}

/// The innermost error that is not a mere wrapper.
fn root(e: &DataFusionError) -> &DataFusionError {
    match e {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(all) if !all.is_empty() => root(&all[0]),
        other => other,
    }
}

fn carried(e: &DataFusionError) -> Option<&Diagnostic> {
    match root(e) {
        DataFusionError::External(inner) => inner.downcast_ref::<Diagnostic>(),
        _ => None,
    }
}

fn strip_prefixes(text: &str) -> String {
    let mut text = text.trim();
    for prefix in [
        "Error during planning: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Arrow error: ",
        "Internal error: ",
        "SQL error: ",
        "Invalid argument error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.split("\nThis issue was likely caused by").next().unwrap_or(text).trim_end_matches('.').to_string()
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let start = text.find(before)? + before.len();
    let end = text[start..].find(after)? + start;
    Some(text[start..end].to_string())
}

fn span(span: datafusion_common::Span) -> Span {
    let at = |location: datafusion_common::Location| sqlparser::tokenizer::Location::new(location.line, location.column);
    super::place(sqlparser::tokenizer::Span::new(at(span.start), at(span.end)))
}
