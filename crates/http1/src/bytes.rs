//! Classes of bytes (RFC 9110, 5.6.2 and 5.5).

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        #[allow(clippy::indexing_slicing)] // reason: const evaluation, i < 256
        {
            table[i] = b.is_ascii_alphanumeric()
                || matches!(
                    b,
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
                );
        }
        i += 1;
    }
    table
}

static TOKEN: [bool; 256] = token_table();

/// Whether the byte may stand in a token.
#[inline]
pub(crate) fn is_token(b: u8) -> bool {
    // The table has an entry for every byte, so the fallback never happens.
    TOKEN.get(usize::from(b)).copied().unwrap_or(false)
}

/// Whether all bytes may stand in a field value or reason phrase.
#[inline]
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    // Written as a fold without early exit, so that it becomes vector code.
    !value.iter().fold(false, |bad, &b| bad | ((b < 0x20) & (b != b'\t')) | (b == 0x7f))
}

/// Whether all bytes may stand in a request target: visible ASCII but no fragment.
#[inline]
pub(crate) fn is_target(value: &[u8]) -> bool {
    !value.iter().fold(false, |bad, &b| bad | (b <= 0x20) | (b >= 0x7f) | (b == b'#'))
}

/// The value without leading and trailing spaces and tabs.
#[inline]
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A plain decimal number: digits only, at least one, below 2^63, so that a signed reader reads
/// the same.
pub(crate) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value
        .iter()
        .try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
        .filter(|n| i64::try_from(*n).is_ok())
}
