//! Prices as whole numbers: WebAssembly of contracts has no fractions.

/// Decimals that a price has.
pub const DECIMALS: usize = 6;

/// The first number of a JSON text that stands under this name, in millionths; `None` if there is none. It may be
/// written as a number or, as many exchanges do, as a text. Exponents and negative numbers are refused, and decimals
/// beyond six cut off.
pub fn find(json: &str, name: &str) -> Option<u64> {
    // A quote within a text is escaped, so that a name in quotes before a colon is a name.
    let quoted = ink::prelude::format!("\"{name}\"");
    json.match_indices(&quoted).find_map(|(at, _)| {
        let rest = json.get(at.checked_add(quoted.len())?..)?.trim_start().strip_prefix(':')?.trim_start();
        match rest.strip_prefix('"') {
            Some(text) => parse(text.split('"').next()?),
            None => parse(rest.split([',', '}', ']', ' ', '\t', '\r', '\n']).next()?),
        }
    })
}

/// `12.5` in millionths.
fn parse(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain([b'0'; DECIMALS]).take(DECIMALS);
    let millionths =
        digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0'))));
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(millionths)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn numbers_are_found_by_their_name() {
        assert_eq!(find(r#"{"price":12.5}"#, "price"), Some(12_500_000));
        assert_eq!(find(r#"{ "symbol": "price", "data": [{ "price" : "0.0000019" }] }"#, "price"), Some(1));
        assert_eq!(find("{\"price\": 7\n}", "price"), Some(7_000_000));
        assert_eq!(find(r#"{"note":"\"price\":1","price":2}"#, "price"), Some(2_000_000));
    }

    #[test]
    fn what_is_no_price_is_none() {
        for json in [
            "",
            "price",
            r#"{"price":null}"#,
            r#"{"price":-1}"#,
            r#"{"price":1e9}"#,
            r#"{"price":1.}"#,
            r#"{"price":.5}"#,
            r#"{"price":99999999999999999999}"#,
            r#"{"prices":1}"#,
        ] {
            assert_eq!(find(json, "price"), None, "{json}");
        }
    }
}
