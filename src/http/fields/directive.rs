//! The directives of a list: token, or token=token, or token="quoted".
//!
//! Malformed text is skipped up to the next token. A quote that never closes may hide a `no-store`, so it
//! counts as one.

/// Names and their arguments, unquoted.
pub(crate) fn directives(bytes: &[u8]) -> impl Iterator<Item = (&str, Option<String>)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            match *rest {
                [] => return None,
                // A string without a name.
                [b'"', ref after @ ..] => {
                    rest = after;
                    if quoted(&mut rest).is_none() {
                        return Some(UNCLOSED);
                    }
                }
                [byte, ref after @ ..] if !is_tchar(byte) => rest = after,
                _ => return Some(directive(&mut rest)),
            }
        }
    })
}

/// What an unclosed string counts as.
const UNCLOSED: (&str, Option<String>) = ("no-store", None);

fn directive<'a>(rest: &mut &'a [u8]) -> (&'a str, Option<String>) {
    let name = token(rest);
    let [b'=', after @ ..] = *rest else { return (name, None) };
    *rest = after;
    let [b'"', after @ ..] = *rest else {
        // Nothing after "=": an argument that is neither a number nor a name.
        return (name, Some(token(rest).to_owned()));
    };
    *rest = after;
    quoted(rest).map_or(UNCLOSED, |argument| (name, Some(argument)))
}

fn token<'a>(rest: &mut &'a [u8]) -> &'a str {
    let end = rest.iter().position(|byte| !is_tchar(*byte)).unwrap_or(rest.len());
    let (token, after) = rest.split_at(end);
    *rest = after;
    std::str::from_utf8(token).unwrap_or_default()
}

const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The string after its opening quote. `None` if it is not closed: then nothing is left.
fn quoted(rest: &mut &[u8]) -> Option<String> {
    let mut text = Vec::new();
    loop {
        match *rest {
            [b'"', after @ ..] => {
                *rest = after;
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                text.push(*byte);
                *rest = after;
            }
            [] => return None,
        }
    }
}
