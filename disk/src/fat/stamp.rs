//! The source date as FAT keeps it: UTC, in steps of two seconds.

use nodekiln_words::SourceDate;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A moment in FAT's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) date: u16,
    pub(super) time: u16,
}

impl Stamp {
    pub(super) fn of(date: SourceDate) -> Self {
        let (days, seconds) = (date.unix() / DAY, date.unix() % DAY);
        let (year, month, day) = civil(days);
        let field = |value: u64| u16::try_from(value).unwrap_or(0);
        Self {
            date: field(year.saturating_sub(1980)) << 9 | field(month) << 5 | field(day),
            time: field(seconds / 3600) << 11
                | field(seconds / 60 % 60) << 5
                | field(seconds % 60 / 2),
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let (mut year, mut left) = (1970, days);
    while left >= year_length(year) {
        left -= year_length(year);
        year += 1;
    }
    let february = year_length(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

fn year_length(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    365 + u64::from(leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_calendar_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(1_793_491_200 / DAY), (2026, 11, 1));
        assert_eq!(civil(4_354_819_198 / DAY), (2107, 12, 31));
    }

    #[test]
    fn the_ends_of_the_calendar_fit_into_their_fields() {
        let stamp = |seconds| Stamp::of(SourceDate::from_unix(seconds).unwrap());
        assert_eq!(stamp(315_532_800), Stamp { date: 1 << 5 | 1, time: 0 });
        let last = Stamp { date: 127 << 9 | 12 << 5 | 31, time: 23 << 11 | 59 << 5 | 29 };
        assert_eq!(stamp(4_354_819_198), last);
    }
}
