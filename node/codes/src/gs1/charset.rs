//! Character sets of element strings, and percent coding in links.

use std::borrow::Cow;

/// GS1's character set 82 (General Specifications, figure 7.11-1).
#[must_use]
pub const fn is_set_82(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'"' | b'%'..=b'/' | b':'..=b'?' | b'_')
}

/// GS1's character set 39 (figure 7.11-2).
pub(super) const fn is_set_39(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'#' | b'-' | b'/')
}

/// GS1's character set 64: base 64 for URLs (figure 7.11-3).
pub(super) const fn is_set_64(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'=')
}

/// What RFC 3986 allows anywhere in a URI.
pub(super) const fn is_uri(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'%'
        | b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@'
        | b'!' | b'$' | b'&'..=b',' | b';' | b'=')
}

const fn is_unreserved(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~')
}

/// Undoes percent coding; a per cent sign that two hex digits do not follow stands for itself. In a query `+` is a space.
pub(super) fn unescape(text: &str, query: bool) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| *b == b'%' || query && *b == b'+') {
        return Cow::Borrowed(bytes);
    }
    let hex = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let coded = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match coded {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if query && *first == b'+' {
                    b' '
                } else {
                    *first
                });
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}

/// Codes all but unreserved characters; in a query a space becomes `+`.
pub(super) fn escape(text: &str, query: bool, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in text.bytes() {
        if is_unreserved(b) {
            out.push(char::from(b));
        } else if query && b == b' ' {
            out.push('+');
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_have_as_many_characters_as_their_names_say() {
        let count = |f: fn(u8) -> bool| (0..=255).filter(|b| f(*b)).count();
        assert_eq!(count(is_set_82), 82);
        assert_eq!(count(is_set_39), 39);
        // 64 and the padding sign.
        assert_eq!(count(is_set_64), 65);
        // 66 unreserved, 18 reserved and the per cent sign (RFC 3986 2.2, 2.3).
        assert_eq!(count(is_uri), 85);
    }

    #[test]
    fn percent_coding_follows_the_vectors() {
        let Some(vectors) = crate::gs1::link::tests::vectors() else {
            return;
        };
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        let latin = |b: &[u8]| b.iter().map(|b| char::from(*b)).collect::<String>();
        let unescapes = vectors["test_dl_URIunescape"].as_array().unwrap();
        for v in unescapes {
            let input = text(&v["in"]);
            assert_eq!(latin(&unescape(&input, false)), text(&v["path"]), "{input}");
            assert_eq!(latin(&unescape(&input, true)), text(&v["query"]), "{input}");
        }
        let escapes = vectors["test_dl_URIescape"].as_array().unwrap();
        for v in escapes {
            for (query, name) in [(false, "path"), (true, "query")] {
                let mut out = String::new();
                escape(&text(&v["in"]), query, &mut out);
                assert_eq!(out, text(&v[name]));
            }
        }
        println!(
            "percent coding: {} unescape, {} escape vectors, all equal",
            unescapes.len(),
            escapes.len()
        );
    }
}
