//! Secrets that a job's text only refers to: looked up where the job runs, so that neither its text nor its checkpoints have them.

use std::borrow::Cow;

use highwater_plan::{Diagnostic, OptionEntry, Span, is_reference};

/// The value of an option: what `${env:NAME}` and `${file:PATH}` refer to, or what is written.
///
/// Of a file the end of its last line is left out. Errors: what is referred to is not there, at the value's place or at `place`.
pub fn resolved(entry: &OptionEntry, place: Option<Span>) -> Result<Cow<'_, str>, Diagnostic> {
    if !is_reference(&entry.value) {
        return Ok(Cow::Borrowed(&entry.value));
    }
    let missing = |what: String, help: &str| {
        let message = format!("option '{}' refers to {what}", entry.key);
        Err(Diagnostic::error("missing-secret", message).at(entry.value_span.or(place)).help(help))
    };
    let inner = &entry.value[2..entry.value.len() - 1];
    match inner.split_once(':') {
        Some(("env", name)) => match std::env::var(name) {
            Ok(value) => Ok(Cow::Owned(value)),
            Err(_) => missing(
                format!("the environment variable {name}, which is not set or is not UTF-8"),
                "set it for the process that runs the job, and where the job is checked",
            ),
        },
        Some(("file", path)) => match std::fs::read_to_string(path) {
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Cow::Owned(line.strip_suffix('\r').unwrap_or(line).to_owned()))
            }
            Err(error) => missing(
                format!("the file {path}, which cannot be read: {error}"),
                "it has to be there for the process that runs the job, and where the job is checked",
            ),
        },
        _ => Ok(Cow::Borrowed(&entry.value)),
    }
}

#[cfg(test)]
mod tests {
    use highwater_plan::Options;

    use super::*;

    fn value(text: &str) -> Result<String, String> {
        let options = Options::from_pairs([("properties.sasl.password", text)]);
        resolved(&options.entries[0], None).map(Cow::into_owned).map_err(|error| error.message)
    }

    #[test]
    fn references_are_looked_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "ge heim\r\n").expect("a file");
        assert_eq!(value(&format!("${{file:{}}}", file.display())), Ok("ge heim".into()));
        assert_eq!(value("${env:CARGO_PKG_NAME}"), Ok("highwater-connectors".into()));
        for plain in ["geheim", "${x}", "$env:HOME", "${env:HOME} "] {
            assert_eq!(value(plain), Ok(plain.into()));
        }
        let said = value("${env:HIGHWATER_NOT_SET}").expect_err("nobody sets it");
        assert!(said.contains("'properties.sasl.password' refers to the environment variable HIGHWATER_NOT_SET"), "{said}");
        let said = value("${file:/nowhere/at/all}").expect_err("there is none");
        assert!(said.contains("the file /nowhere/at/all, which cannot be read"), "{said}");
    }
}
