//! SQL/JSON paths: `$.a.b[0]`, `$["key"]`, `$.a[*]`, `$.*`, `lax` or `strict` in front.

use super::scan::{self, Invalid};

/// A step into a value.
#[derive(Debug, PartialEq)]
enum Step {
    Member(String),
    Item(i64),
    /// `.*`
    Members,
    /// `[*]`
    Items,
}

/// A path, taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Path {
    steps: Vec<Step>,
    /// Whether a step that leads nowhere is an error.
    pub(super) strict: bool,
}

impl Path {
    /// `None` for what is no path, or one with filters or methods.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let text = text.trim();
        let strict = text.strip_prefix("strict");
        let text = text.strip_prefix("lax").or(strict).unwrap_or(text).trim_start();
        let mut rest = text.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            // Flink's own notation has a dot before brackets, too.
            if rest.starts_with(".[") {
                rest = &rest[1..];
            }
            if let Some(name) = rest.strip_prefix('.') {
                if let Some(behind) = name.strip_prefix('*') {
                    steps.push(Step::Members);
                    rest = behind;
                    continue;
                }
                if let Some(quoted) = name.strip_prefix('"') {
                    let end = quoted.find('"')?;
                    steps.push(Step::Member(quoted[..end].to_string()));
                    rest = &quoted[end + 1..];
                    continue;
                }
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let name_text = name[..end].trim();
                if name_text.is_empty() || name_text.contains(['*', '?', '(', '@']) {
                    return None;
                }
                steps.push(Step::Member(name_text.to_string()));
                rest = &name[end..];
                continue;
            }
            let inner = rest.strip_prefix('[')?;
            let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''));
            let end = match quote {
                Some(quote) => inner[1..].find(quote)? + 2,
                None => inner.find(']')?,
            };
            let step = inner[..end].trim();
            steps.push(match quote {
                Some(_) => Step::Member(step[1..step.len() - 1].to_string()),
                None if step == "*" => Step::Items,
                None => Step::Item(step.parse().ok()?),
            });
            rest = inner[end..].trim_start().strip_prefix(']')?;
        }
        Some(Path { steps, strict: strict.is_some() })
    }

    /// `{a,b,0}`: names, and numbers where an array stands.
    pub(super) fn of_names(text: &str) -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        if inner.trim().is_empty() {
            return Some(Vec::new());
        }
        Some(inner.split(',').map(|name| name.trim().trim_matches('"').to_string()).collect())
    }

    /// What stands at the path: one value at most, unless the path has a `*`.
    pub(super) fn find<'a>(&self, text: &'a str) -> Result<Vec<&'a str>, Invalid> {
        let mut found = Vec::new();
        collect(&self.steps, scan::valid(text)?, &mut found)?;
        Ok(found)
    }
}

fn collect<'a>(steps: &[Step], value: &'a str, found: &mut Vec<&'a str>) -> Result<(), Invalid> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return Ok(());
    };
    let next = match step {
        Step::Member(name) => scan::member(value, name)?,
        Step::Item(index) if *index < 0 => None,
        // A value that is no array is one of itself.
        Step::Item(0) if !value.starts_with('[') => Some(value),
        Step::Item(index) => scan::item(value, *index)?,
        Step::Members | Step::Items => {
            let mut parts = Vec::new();
            match step {
                Step::Members => scan::members(value, |_, value| parts.push(value))?,
                _ => scan::items(value, |item| parts.push(item))?,
            };
            if *step == Step::Items && !value.starts_with('[') {
                parts.push(value);
            }
            return parts.into_iter().try_for_each(|part| collect(rest, part, found));
        }
    };
    match next {
        Some(next) => collect(rest, next, found),
        None => Ok(()),
    }
}

/// A member by its name, or an item by its number.
pub(super) fn step<'a>(value: &'a str, name: &str) -> Result<Option<&'a str>, Invalid> {
    if value.starts_with('[') {
        return match name.parse() {
            Ok(index) => scan::item(value, index),
            Err(_) => Ok(None),
        };
    }
    scan::member(value, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let json = r#"{"a": {"b": [10, 20]}, "k.l": 1}"#;
        let find = |path: &str| Path::parse(path).map(|path| path.find(json));
        assert_eq!(find("$.a.b[1]"), Some(Ok(vec!["20"])));
        assert_eq!(find("lax $.a.b[7]"), Some(Ok(vec![])));
        assert_eq!(find("$['k.l']"), Some(Ok(vec!["1"])));
        assert_eq!(find("strict $.['k.l']"), Some(Ok(vec!["1"])));
        assert_eq!(find("$.\"k.l\""), Some(Ok(vec!["1"])));
        assert_eq!(find("$.*"), Some(Ok(vec![r#"{"b": [10, 20]}"#, "1"])));
        assert_eq!(find("$.a.b[*]"), Some(Ok(vec!["10", "20"])));
        assert_eq!(find("$.a.b[*].c"), Some(Ok(vec![])));
        assert_eq!(find("$.a ? (@.b > 1)"), None);
        assert_eq!(find("a"), None);
    }
}
