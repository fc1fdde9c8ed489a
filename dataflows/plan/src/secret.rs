//! Which options are secrets, and texts without them.
//!
//! A job's text is kept in its checkpoints and shown where it is wrong. So a secret should not stand in it but be
//! [referred to](is_reference): `'${env:NAME}'`, `'${file:PATH}'`. Where one does, what is shown has stars in its place.

/// Words in the names of options whose values nobody else is to read.
const WORDS: &[&str] = &["password", "passphrase", "secret", "token", "jaas", "key.pem", "credential"];
/// Ends of names that have such a word and only say where something is.
const PLACES: &[&str] = &[".location", ".url", ".path", ".file", ".id"];

/// Whether the values of an option of this name are secrets.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // What datagen makes up for a column of such a name is none.
    !key.starts_with("fields.") && WORDS.iter().any(|word| key.contains(word)) && !PLACES.iter().any(|place| key.ends_with(place))
}

/// Whether a value says where it is to be looked up: `${env:NAME}`, `${file:PATH}`.
pub fn is_reference(value: &str) -> bool {
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.starts_with("env:") || inner.starts_with("file:"))
}

/// A job's text with stars for the letters of secrets: the values of options that are, and passwords in addresses
/// (`http://user:password@host`). Lines stay lines.
pub fn masked(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = letters.clone();
    let (mut at, mut seen, mut ended) = (0, Seen::Nothing, 0);
    let mut escapes = false;
    while at < letters.len() {
        let next = letters.get(at + 1).copied();
        match (letters[at], next) {
            (letter, _) if letter.is_whitespace() => at += 1,
            ('-', Some('-')) => at = find(&letters, at, &['\n']),
            ('/', Some('*')) => at = end_of_comment(&letters, at),
            ('=', _) => {
                seen = if let Seen::Key(key) = seen { Seen::Value(key) } else { Seen::Nothing };
                at += 1;
            }
            (',' | ';' | '(' | ')', _) => (at, seen) = (at + 1, Seen::Nothing),
            (quote @ ('\'' | '"' | '`'), _) => {
                let end = end_of_quoted(&letters, at, quote, std::mem::take(&mut escapes));
                seen = seen.take(&mut out[at + 1..end], ended == at);
                at = (end + 1).min(letters.len());
                ended = at;
            }
            ('$', Some('$')) => {
                let end = find(&letters, at + 2, &['$', '$']);
                seen = seen.take(&mut out[at + 2..end], ended == at);
                at = (end + 2).min(letters.len());
                ended = at;
            }
            _ => {
                let ends = |letter: &char| letter.is_whitespace() || ",;()='\"`".contains(*letter);
                let end = letters[at..].iter().position(ends).map_or(letters.len(), |length| at + length);
                // `E'..'`: a text in which a backslash hides a quote.
                escapes = end == at + 1 && letters[at].eq_ignore_ascii_case(&'e') && letters.get(end) == Some(&'\'');
                if !escapes {
                    seen = seen.take(&mut out[at..end], ended == at);
                    ended = end;
                }
                at = end;
            }
        }
    }
    out.into_iter().collect()
}

/// What stood before.
enum Seen {
    Nothing,
    /// What may be the name of an option.
    Key(String),
    /// A name and a sign of equality: what comes is its value.
    Value(String),
}

impl Seen {
    /// Goes on to a word or a quoted text, in which stars are put for what is a secret. `adjacent`: nothing stands between it and
    /// what was seen before.
    fn take(self, word: &mut [char], adjacent: bool) -> Seen {
        let value: String = word.iter().collect();
        let is_value = matches!(&self, Seen::Value(key) if is_secret(key) && !is_reference(&value));
        if is_value {
            star(word);
        } else if let Some((start, end)) = password_in_address(word) {
            star(&mut word[start..end]);
        }
        match self {
            Seen::Value(_) => Seen::Nothing,
            Seen::Key(key) if adjacent => Seen::Key(key + &value),
            _ => Seen::Key(value),
        }
    }
}

fn star(letters: &mut [char]) {
    letters.iter_mut().filter(|letter| !matches!(letter, '\n' | '\r')).for_each(|letter| *letter = '*');
}

/// Where a comment that begins at `from` ends; there may be others in it.
fn end_of_comment(letters: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < letters.len() {
        match letters[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    letters.len()
}

/// Where the quote stands that ends a text which begins with one at `from`; two are one of the text.
fn end_of_quoted(letters: &[char], from: usize, quote: char, escapes: bool) -> usize {
    let mut at = from + 1;
    while at < letters.len() {
        match letters[at] {
            '\\' if escapes => at += 2,
            letter if letter == quote && letters.get(at + 1) == Some(&quote) => at += 2,
            letter if letter == quote => return at,
            _ => at += 1,
        }
    }
    letters.len()
}

/// Where `what` begins from `from` on, or the end.
fn find(letters: &[char], from: usize, what: &[char]) -> usize {
    let from = from.min(letters.len());
    letters[from..].windows(what.len()).position(|window| window == what).map_or(letters.len(), |at| from + at)
}

fn password_in_address(quoted: &[char]) -> Option<(usize, usize)> {
    let start = find(quoted, 0, &[':', '/', '/']) + 3;
    let end = quoted.iter().rposition(|c| *c == '@').filter(|end| *end > start)?;
    let colon = find(&quoted[..end], start, &[':']);
    (colon + 1 < end).then_some((colon + 1, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for key in ["properties.sasl.password", "properties.ssl.key.pem", "schema_registry.token", "properties.SASL.JAAS.config"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["key", "key.format", "properties.ssl.key.location", "properties.sasl.oauthbearer.token.endpoint.url"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn what_is_shown_of_a_text_has_stars_for_secrets() {
        let masks = |text: &str, expected: &str| assert_eq!(masked(text), expected);
        masks("WITH (properties.sasl.password = 'a''b', topic = 't')", "WITH (properties.sasl.password = '****', topic = 't')");
        masks("('properties.sasl.password'='geheim')", "('properties.sasl.password'='******')");
        masks("-- don't\npassword\n  = 'abc' -- 'x'", "-- don't\npassword\n  = '***' -- 'x'");
        masks("/* it's */ x.token = 'ü' \"it's\" topic = 't'", "/* it's */ x.token = '*' \"it's\" topic = 't'");
        masks("schema_registry = 'http://u:pa@ss@h:1,http://h:2'", "schema_registry = 'http://u:*****@h:1,http://h:2'");
        masks("password = '${env:P}', key = 'a'", "password = '${env:P}', key = 'a'");
        masks("password = 'never", "password = '*****");
        masks(
            "a.password = \"geheim\", b.password = geheim) c.token=12345",
            "a.password = \"******\", b.password = ******) c.token=*****",
        );
        masks("properties.\"sasl.password\" = 'x', \"my token\" = 'y'", "properties.\"sasl.password\" = '*', \"my token\" = '*'");
        masks("/* a /* b */ don't */ password = /* here */ 'x'", "/* a /* b */ don't */ password = /* here */ '*'");
        masks(
            "SELECT E'it\\'s', `it's`, $$it's$$; password = E'a\\'b'",
            "SELECT E'it\\'s', `it's`, $$it's$$; password = E'****'",
        );
        masks("key.pem = '-----\nabc\n-----'\nnext", "key.pem = '*****\n***\n*****'\nnext");
        masks("password = -- why\n'x' topic = 't'", "password = -- why\n'*' topic = 't'");
        masks("x = 'http://u:p@h' FROM t WHERE token = 'a'", "x = 'http://u:*@h' FROM t WHERE token = '*'");
    }
}
