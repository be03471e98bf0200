//! Input for tests that try parsers with input that nobody meant.
//!
//! A target is a test whose name begins with `fuzz_`. It draws bytes with bolero for a second, or for as long as `make fuzz`
//! says. `cargo bolero test` drives the same targets by coverage, where that is installed.

/// The most bytes that a target draws: 21 changes.
pub(crate) const DRAWN_BYTES_MAX: usize = 64;

/// One of `seeds`, changed as the drawn `bytes` say. Valid input that was changed a little leads deep into a parser.
pub(crate) fn mutated(seeds: &[&[u8]], bytes: &[u8]) -> Vec<u8> {
    let seed = |n: u8| seeds[usize::from(n) % seeds.len()];
    let Some((first, changes)) = bytes.split_first() else { return Vec::new() };
    let mut text = seed(*first).to_vec();
    for change in changes.chunks_exact(3) {
        let [what, place, value] = [change[0], change[1], change[2]];
        let at = text.len() * usize::from(place) / 255;
        match what % 6 {
            0 => text.insert(at, value),
            1 => text.truncate(at.max(text.len() / 2)),
            2 => drop(text.drain(at..(at + usize::from(value % 16)).min(text.len()))),
            3 => {
                let other = seed(value);
                let from = other.len() * usize::from(what) / 255;
                text.splice(at..at, other[from..].iter().copied());
            }
            4 => {
                // Many times the same, as in lines of spaces and in nested brackets.
                let byte = text.get(at).copied().unwrap_or(value);
                text.splice(at..at, std::iter::repeat_n(byte, usize::from(value)));
            }
            _ => {
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= value;
                }
            }
        }
    }
    text
}

/// The same as text.
pub(crate) fn mutated_text(seeds: &[&str], bytes: &[u8]) -> String {
    let seeds: Vec<&[u8]> = seeds.iter().map(|seed| seed.as_bytes()).collect();
    String::from_utf8_lossy(&mutated(&seeds, bytes)).into_owned()
}

#[test]
fn mutated_input_begins_as_a_seed_and_differs_by_its_changes() {
    let seeds: [&[u8]; 2] = [b"abc", b"xyz"];
    assert_eq!(mutated(&seeds, &[]), b"");
    assert_eq!(mutated(&seeds, &[0]), b"abc");
    assert_eq!(mutated(&seeds, &[3]), b"xyz");
    assert_eq!(mutated(&seeds, &[0, 0, 255, b'!']), b"abc!");
    assert_eq!(mutated(&seeds, &[0, 4, 0, 2]), b"aaabc");
    assert_eq!(mutated(&seeds, &[0, 3, 255, 1]), b"abcxyz");
}
