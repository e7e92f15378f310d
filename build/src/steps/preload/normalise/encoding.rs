//! How containerd writes times and numbers into its databases.

use nodekiln_words::SourceDate;

/// Length of a time as `time.Time.MarshalBinary` writes it: version (1 byte), seconds since year 1 (8),
/// nanoseconds (4), minutes east of UTC or -1 for UTC itself (2), all big-endian.
const TIME: usize = 15;
/// The encoding's version, the only one for offsets of whole minutes.
const TIME_VERSION: u8 = 1;
/// From 0001-01-01 to 1970-01-01, in seconds (Go's `unixToInternal`).
const YEAR_1_TO_1970: u64 = (1969 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400) * 86_400;

/// The source date as `time.Time.MarshalBinary` writes it, in UTC.
pub(super) fn go_time(date: SourceDate) -> [u8; TIME] {
    let mut time = [0; TIME];
    time[0] = TIME_VERSION;
    time[1..9].copy_from_slice(&(date.unix() + YEAR_1_TO_1970).to_be_bytes());
    time[13..].copy_from_slice(&(-1_i16).to_be_bytes());
    time
}

/// Whether these bytes are a time of that shape.
pub(super) fn is_go_time(bytes: &[u8]) -> bool {
    let nanoseconds = bytes.get(9..13).and_then(|four| <[u8; 4]>::try_from(four).ok());
    bytes.len() == TIME
        && bytes.first() == Some(&TIME_VERSION)
        && nanoseconds.is_some_and(|four| u32::from_be_bytes(four) < 1_000_000_000)
}

/// Go's `binary.PutUvarint`: seven bits a byte, the lowest first, the top bit set on all but the last.
pub(super) fn uvarint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Go's `binary.PutVarint`: the sign in the lowest bit, above it the number, or its complement if it is
/// negative.
pub(super) fn varint(number: i64) -> Vec<u8> {
    uvarint((number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned())
}

/// The number whose [`uvarint`] these bytes are.
pub(super) fn read_uvarint(bytes: &[u8]) -> Option<u64> {
    let mut number = 0;
    for (place, byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7F).checked_shl(7 * u32::try_from(place).ok()?)?;
    }
    (uvarint(number) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by a Go program: `time.Unix(1700000000, 0).UTC().MarshalBinary()`.
    const NOVEMBER_2023: [u8; 15] = [1, 0, 0, 0, 0x0e, 0xdc, 0xe5, 0xe8, 0, 0, 0, 0, 0, 0xff, 0xff];

    #[test]
    fn a_date_is_what_go_makes_of_it() {
        let date = SourceDate::from_unix(1_700_000_000).unwrap();
        assert_eq!(go_time(date), NOVEMBER_2023);
        assert!(is_go_time(&NOVEMBER_2023));
    }

    #[test]
    fn what_is_no_time_of_version_1_is_told_apart() {
        let but = |at: usize, byte: u8| {
            let mut time = NOVEMBER_2023;
            time[at] = byte;
            time
        };
        assert!(!is_go_time(&NOVEMBER_2023[..14]), "too short");
        assert!(!is_go_time(&[&NOVEMBER_2023[..], &[0]].concat()), "too long, as version 2 is");
        assert!(!is_go_time(&but(0, 2)), "version 2");
        assert!(!is_go_time(&but(9, 0x3c)), "a second of more than 1000000000 nanoseconds");
        assert!(is_go_time(&but(9, 0x3b)));
    }

    #[test]
    fn numbers_are_what_go_makes_of_them() {
        for (number, bytes) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert_eq!(uvarint(number), bytes);
            assert_eq!(read_uvarint(bytes), Some(number));
        }
        for (number, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (4096, &[0x80, 0x40]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert_eq!(varint(number), bytes);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bytes in [&[][..], &[0x80], &[0x80, 0], &[1, 1], &[0xff; 11]] {
            assert_eq!(read_uvarint(bytes), None, "{bytes:?}");
        }
    }
}
