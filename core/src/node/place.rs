//! Where in a configuration file something is wrong, in words.

/// Longest key that a message repeats. Unit: characters.
const KEY_CHARS_MAX: usize = 80;

/// Line of the value of a dotted key, from 1.
pub(crate) fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let value = table.get(part)?;
        if parts.peek().is_none() {
            let before = text.get(..value.span().start)?;
            return Some(before.matches('\n').count() + 1);
        }
        table = value.get_ref().as_table()?;
    }
    None
}

/// `line 3, column 5: reason in the key that stands there`. Values are not repeated: a URL may have
/// credentials in it.
pub fn locate(text: &str, error: &toml::de::Error) -> String {
    let message = without_text(error.message());
    let Some(before) = error.span().and_then(|it| text.get(..it.start)) else {
        return message;
    };
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    // Who set keys by the API has no lines to count.
    let content = text.lines().nth(line - 1).unwrap_or_default();
    let key = key_of(content).map_or_else(String::new, |it| format!(" in `{it}`"));
    format!("line {line}, column {column}: {message}{key}")
}

/// The key that a line sets, if it looks like one.
fn key_of(line: &str) -> Option<&str> {
    let key = line.split_once('=')?.0.trim();
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-.".contains(it);
    (!key.is_empty() && key.len() <= KEY_CHARS_MAX && key.chars().all(is_plain)).then_some(key)
}

/// A message of the parser without the text that it repeats: `invalid type: string "…", expected …`.
fn without_text(message: &str) -> String {
    let quoted = message.split_once('"').and_then(|(before, rest)| {
        let (_, after) = rest.rsplit_once('"')?;
        Some(format!("{before}\"…\"{after}"))
    });
    quoted.unwrap_or_else(|| message.to_owned())
}
