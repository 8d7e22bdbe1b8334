//! `Age` (RFC 9111 §5.1).

use http::HeaderValue;

/// The field of a response that is so many seconds old. Most are young: their text is at hand, and a hit makes none.
pub(crate) fn value(seconds: u64) -> HeaderValue {
    let zeros = match seconds {
        0..10 => 2,
        10..100 => 1,
        100..1000 => 0,
        _ => return made(seconds),
    };
    let at = seconds as usize * 3;
    HeaderValue::from_static(&YOUNG[at + zeros..at + 3])
}

fn made(seconds: u64) -> HeaderValue {
    // The conversion of numbers in `HeaderValue` allocates twice.
    let mut digits = itoa::Buffer::new();
    let text = digits.format(seconds);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("0"))
}

/// The numbers below 1000, of three digits each.
static YOUNG: &str = match std::str::from_utf8(&DIGITS) {
    Ok(digits) => digits,
    Err(_) => "",
};

const DIGITS: [u8; 3000] = {
    let mut digits = [b'0'; 3000];
    let mut at = 0;
    while at < 1000 {
        digits[at * 3] += (at / 100) as u8;
        digits[at * 3 + 1] += (at / 10 % 10) as u8;
        digits[at * 3 + 2] += (at % 10) as u8;
        at += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9111_5_1_an_age_is_a_number_without_leading_zeros() {
        for seconds in (0..2000).chain([u64::MAX]) {
            assert_eq!(value(seconds), seconds.to_string());
        }
    }
}
