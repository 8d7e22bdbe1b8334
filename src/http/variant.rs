//! Several responses of one URL, told apart by request fields (RFC 9111 §4.1).

use http::{HeaderMap, HeaderName, header};

/// The request fields that a response was selected by, in order and each once. Empty: by none. `None`: by
/// what no request field tells ("*"), or by something that is no field's name.
pub(super) fn selecting_fields(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for list in response.get_all(header::VARY) {
        for name in list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match name {
                b"" => {}
                b"*" => return None,
                name => names.push(HeaderName::from_bytes(name).ok()?),
            }
        }
    }
    names.sort_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Some(names)
}

/// Appends a request's values of these fields, so that two requests get the same text exactly when the
/// values match. A field that is not there differs from an empty one.
pub(super) fn spell(request: &HeaderMap, names: &[HeaderName], text: &mut Vec<u8>) {
    for name in names {
        text.extend_from_slice(name.as_str().as_bytes());
        let mut values = request.get_all(name).iter().peekable();
        if values.peek().is_none() {
            text.push(b'\n');
            continue;
        }
        text.push(b':');
        let start = text.len();
        for value in values {
            if text.len() > start {
                text.push(b',');
            }
            // In a quoted string case and white space make a difference.
            match list_of_choices(name) && !value.as_bytes().contains(&b'"') {
                true => spell_list(value.as_bytes(), text),
                false => text.extend_from_slice(value.as_bytes().trim_ascii()),
            }
        }
        // No value of a field has a line break in it.
        text.push(b'\n');
    }
}

/// Fields whose value is a list, without regard to case and white space (§4.1: "normalizing both header
/// field values in a way known to have identical semantics").
fn list_of_choices(name: &HeaderName) -> bool {
    [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT, header::ACCEPT_CHARSET]
        .contains(name)
}

fn spell_list(value: &[u8], text: &mut Vec<u8>) {
    let mut first = true;
    for element in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if element.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            text.push(b',');
        }
        let is_white = |byte: &&u8| !matches!(byte, b' ' | b'\t');
        text.extend(element.iter().filter(is_white).map(u8::to_ascii_lowercase));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn spelt(names: &[&'static str], fields: &[(&'static str, &'static str)]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| HeaderName::from_static(name)).collect();
        let mut text = Vec::new();
        spell(&request(fields), &names, &mut text);
        text
    }

    #[test]
    fn names_are_gathered_from_all_fields_sorted_and_once() {
        let response = request(&[("vary", "X-B , accept"), ("vary", "x-a,x-b")]);
        let names = selecting_fields(&response).expect("names");
        assert_eq!(names, ["accept", "x-a", "x-b"]);
        assert_eq!(selecting_fields(&request(&[("vary", " , ")])), Some(Vec::new()));
    }

    #[test]
    fn what_no_field_tells_is_no_list_of_fields() {
        for value in ["*", "x-a, *", "x a", "x-a, \u{e4}", "x:a"] {
            let mut response = request(&[("vary", "x-b")]);
            response
                .append(header::VARY, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            assert_eq!(selecting_fields(&response), None, "{value}");
        }
    }

    #[test]
    fn equal_choices_are_one_variant_in_whatever_spelling() {
        let encoding = |value| spelt(&["accept-encoding"], &[("accept-encoding", value)]);
        assert_eq!(encoding("gzip, br"), encoding(" GZIP,br "));
        assert_ne!(encoding("gzip, br"), encoding("br"));
        let lines = [("accept-encoding", "gzip"), ("accept-encoding", "br")];
        assert_eq!(encoding("gzip, br"), spelt(&["accept-encoding"], &lines));
        let accept = |value| spelt(&["accept"], &[("accept", value)]);
        assert_eq!(accept("text/html, */*"), accept("TEXT/html,*/*"));
        assert_ne!(accept("a/b;c=\"D\""), accept("a/b;c=\"d\""));
    }

    #[test]
    fn other_values_are_compared_as_they_are() {
        let value = |value| spelt(&["x-a"], &[("x-a", value)]);
        assert_ne!(value("A"), value("a"));
        assert_ne!(value(""), spelt(&["x-a"], &[]));
        // One field's end is not another's beginning.
        assert_ne!(
            spelt(&["x-a", "x-b"], &[("x-a", "1"), ("x-b", "2")]),
            spelt(&["x-a", "x-b"], &[("x-a", "1x-b:2")])
        );
    }
}
