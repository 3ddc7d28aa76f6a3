//! When a machine is lent, as people type and read it: hours of the day, days of the week, an end. All in the market's own
//! clock, so that an offer means the same to everybody who looks at it.

use std::str::FromStr;

use deepmarket_types::{Availability, DailyHours, SlotClock, TimeMs, Weekdays};
use deepmarket_wallet::calendar::{civil_from_days, days_from_civil};

use crate::error::{Failure, Outcome};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// The most days or hours that `--until` may be ahead by as a number.
const MOST_AHEAD: u64 = 10_000;
/// As they are typed; the first is bit 0 of [`Weekdays`].
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `--hours`: hours of each day, or the whole day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours(pub Option<DailyHours>);

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_all(text) {
            return Ok(Hours(None));
        }
        let (from, to) = text.split_once('-').ok_or("write hours as from-to, like 18:00-08:00, or `all`")?;
        let (from_minute, to_minute) = (minute_of_day(from)?, minute_of_day(to)?);
        if from_minute == 1440 {
            return Err("24:00 is the end of a day: hours begin at 00:00 to 23:59".into());
        }
        if from_minute == to_minute {
            return Err("these hours end where they begin: name another end, or `all` for the whole day".into());
        }
        Ok(Hours(Some(DailyHours { from_minute, to_minute })))
    }
}

/// The minute of `8`, `08:00` or `24:00`.
fn minute_of_day(text: &str) -> Result<u16, String> {
    let wrong = || format!("'{}' is not a time of day: write 00:00 to 24:00", text.trim());
    let (hour, minute) = text.trim().split_once(':').unwrap_or((text.trim(), "00"));
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour, 2) || !digits(minute, 2) || minute.len() != 2 {
        return Err(wrong());
    }
    let (hour, minute): (u16, u16) = (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
    match minute < 60 && hour * 60 + minute <= 1440 {
        true => Ok(hour * 60 + minute),
        false => Err(wrong()),
    }
}

/// `--days`: days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub Weekdays);

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_all(text) {
            return Ok(Days(Weekdays::ALL));
        }
        let mut days = 0_u8;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut day, last) = (day_of_week(first)?, day_of_week(last)?);
            days |= 1 << day;
            // `sat-mon` goes on over Sunday.
            while day != last {
                day = (day + 1) % 7;
                days |= 1 << day;
            }
        }
        Ok(Days(Weekdays(days)))
    }
}

fn day_of_week(text: &str) -> Result<u8, String> {
    let typed = text.trim().to_ascii_lowercase();
    let full = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let found = (0..7).find(|&day| typed == DAYS[day] || typed == full[day]);
    let wrong = || format!("'{}' is not a day of the week: write {}, mon-fri, mon,wed or all", text.trim(), DAYS.join(", "));
    found.map(|day| day as u8).ok_or_else(wrong)
}

fn is_all(text: &str) -> bool {
    ["all", "always", "every"].contains(&text.trim().to_ascii_lowercase().as_str())
}

/// `--until`: the end of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// No end.
    Never,
    /// So many milliseconds from now on.
    After(u64),
    /// Minutes since 1970-01-01 00:00 of the market's clock.
    Minute(u64),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let typed = text.trim().to_ascii_lowercase();
        if typed == "never" || is_all(&typed) {
            return Ok(Until::Never);
        }
        for (unit, ms) in [('d', DAY_MS), ('h', 60 * MINUTE_MS)] {
            let number = typed.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
            if let Some(number) = number {
                let in_bounds = (1..=MOST_AHEAD).contains(&number);
                let wrong = || format!("'{text}' is out of bounds: write 1{unit} to {MOST_AHEAD}{unit}");
                return in_bounds.then_some(Until::After(number * ms)).ok_or_else(wrong);
            }
        }
        let (date, time) = match typed.split_once(['t', ' ']) {
            Some((date, time)) => (date, Some(minute_of_day(time)?)),
            None => (typed.as_str(), None),
        };
        let wrong = || format!("'{text}' is not an end: write a day (2026-12-24), a moment (2026-12-24T18:00), 3d, 12h or never");
        let parts: Vec<&str> = date.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return Err(wrong());
        }
        let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse(), day.parse()) else { return Err(wrong()) };
        let day = days_from_civil(year, month, day).ok_or_else(|| format!("there is no day {date} from 1970 to 9999"))?;
        // A day is meant with all its hours.
        Ok(Until::Minute(day * 1440 + u64::from(time.unwrap_or(1440))))
    }
}

impl Until {
    /// The moment, which must be to come.
    pub fn moment(self, clock: &MarketClock) -> Outcome<Option<TimeMs>> {
        let moment = match self {
            Until::Never => return Ok(None),
            Until::After(ms) => clock.now.plus(ms),
            Until::Minute(minute) => clock.utc(minute),
        };
        if moment > clock.now {
            return Ok(Some(moment));
        }
        let message = format!(
            "the offer would have ended at {}: it is {} on the market's clock",
            clock.show(moment),
            clock.show(clock.now)
        );
        Err(Failure::user(message).with_hint("name a later end with --until").with_code(2036))
    }
}

/// The market's clock, and what it shows.
#[derive(Clone, Copy, Debug)]
pub struct MarketClock {
    /// How the market divides its days.
    pub slots: SlotClock,
    /// The time of its last block.
    pub now: TimeMs,
}

impl MarketClock {
    fn utc(&self, local_minute: u64) -> TimeMs {
        TimeMs((local_minute * MINUTE_MS).saturating_add_signed(self.slots.utc_offset_ms.saturating_neg()))
    }

    /// `2026-12-24 18:00`.
    pub fn show(&self, time: TimeMs) -> String {
        let minutes = time.0.saturating_add_signed(self.slots.utc_offset_ms) / MINUTE_MS;
        let (year, month, day) = civil_from_days((minutes / 1440) as i64);
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes % 1440 / 60, minutes % 60)
    }

    /// `2026-12-24`.
    pub fn date(&self, time: TimeMs) -> String {
        self.show(time)[..10].to_owned()
    }

    /// `UTC-08:00`.
    pub fn zone(&self) -> String {
        let minutes = self.slots.utc_offset_ms / MINUTE_MS as i64;
        let sign = if minutes < 0 { '-' } else { '+' };
        format!("UTC{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
    }
}

/// `18:00-08:00`.
pub fn hours(hours: &DailyHours) -> String {
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{}-{}", time(hours.from_minute), time(hours.to_minute))
}

/// `mon-fri`, `mon, wed`; `every day`.
pub fn days(days: Weekdays) -> String {
    if days == Weekdays::ALL {
        return "every day".into();
    }
    let mut runs: Vec<String> = Vec::new();
    let mut day = 0;
    while day < 7 {
        let first = day;
        while day < 7 && days.contains(day) {
            day += 1;
        }
        match day - first {
            0 => day += 1,
            1 => runs.push(DAYS[usize::from(first)].into()),
            _ => runs.push(format!("{}-{}", DAYS[usize::from(first)], DAYS[usize::from(day) - 1])),
        }
    }
    runs.join(", ")
}

/// `18:00-08:00 mon-fri until 2026-12-24 18:00`; `always`.
pub fn availability(availability: &Availability, clock: &MarketClock) -> String {
    let Availability { hours: daily, weekdays, until } = availability;
    let mut parts = Vec::new();
    parts.extend(daily.as_ref().map(hours));
    if *weekdays != Weekdays::ALL {
        parts.push(days(*weekdays));
    }
    parts.extend(until.map(|until| format!("until {}", clock.show(until))));
    if parts.is_empty() { "always".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Portland, at 2026-11-25 05:31.
    fn clock() -> MarketClock {
        let slots = SlotClock { slot_ms: 6 * 3_600_000, utc_offset_ms: -8 * 3_600_000 };
        MarketClock { slots, now: TimeMs(1_795_613_460_000) }
    }

    #[test]
    fn hours_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Hours>().unwrap().0.map(|h| (h.from_minute, h.to_minute));
        assert_eq!(read("18:00-08:00"), Some((1080, 480)));
        assert_eq!(read("8-17"), Some((480, 1020)));
        assert_eq!(read("00:30-24:00"), Some((30, 1440)));
        assert_eq!((read("all"), read("Always")), (None, None));
        for (bad, says) in [
            ("25:00-08:00", "'25:00' is not a time of day"),
            ("18:00-24:01", "'24:01'"),
            ("18:60-08:00", "'18:60'"),
            ("18:0-08:00", "'18:0'"),
            ("-5-8", "''"),
            ("24:00-08:00", "the end of a day"),
            ("08:00-08:00", "end where they begin"),
            ("18:00", "from-to"),
            ("evening-morning", "'evening'"),
            ("١٨-٢٠", "is not a time"),
            ("", "from-to"),
        ] {
            let error = bad.parse::<Hours>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn days_are_read_and_shown() {
        for (text, bits, shown) in [
            ("mon-fri", 0b001_1111, "mon-fri"),
            ("Mon,wed", 0b000_0101, "mon, wed"),
            ("sat-mon", 0b110_0001, "mon, sat-sun"),
            ("sunday", 0b100_0000, "sun"),
            ("mon-tue, thu", 0b000_1011, "mon-tue, thu"),
            ("all", 0b111_1111, "every day"),
            ("mon-sun", 0b111_1111, "every day"),
        ] {
            let Days(read) = text.parse().unwrap();
            assert_eq!((read.0, days(read).as_str()), (bits, shown), "{text}");
        }
        for bad in ["", "mon-", "mo", "mon-fri-sun", "weekdays", "mon;tue"] {
            let error = bad.parse::<Days>().unwrap_err();
            assert!(error.contains("is not a day of the week") && error.contains("mon-fri"), "{bad}: {error}");
        }
    }

    #[test]
    fn an_end_is_a_day_with_all_its_hours_a_moment_or_a_time_from_now() {
        let moment = |text: &str| text.parse::<Until>().unwrap().moment(&clock()).unwrap().map(|at| clock().show(at));
        assert_eq!(moment("2026-12-24").as_deref(), Some("2026-12-25 00:00"));
        assert_eq!(moment("2026-11-25").as_deref(), Some("2026-11-26 00:00"), "today is not over");
        assert_eq!(moment("2026-12-24T18:00").as_deref(), Some("2026-12-24 18:00"));
        assert_eq!(moment("2026-12-24 18").as_deref(), Some("2026-12-24 18:00"));
        assert_eq!(moment("3d").as_deref(), Some("2026-11-28 05:31"));
        assert_eq!(moment("12h").as_deref(), Some("2026-11-25 17:31"));
        assert_eq!(moment("never"), None);
        assert_eq!(clock().zone(), "UTC-08:00");
        for (bad, says) in [
            ("2026-02-29", "no day 2026-02-29"),
            ("2026-13-01", "no day"),
            ("0000-01-01", "no day"),
            ("24.12.2026", "is not an end"),
            ("2026-12-24T25:00", "'25:00' is not a time of day"),
            ("0d", "out of bounds"),
            ("10001h", "out of bounds"),
            ("soon", "is not an end"),
            ("2026-1-1", "is not an end"),
            ("-3d", "is not an end"),
            ("", "is not an end"),
        ] {
            let error = bad.parse::<Until>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
        let past = "2026-11-25T05:31".parse::<Until>().unwrap().moment(&clock()).unwrap_err().to_string();
        assert!(past.contains("2026-11-25 05:31 on the market's clock"), "{past}");
        assert!("2020-01-01".parse::<Until>().unwrap().moment(&clock()).is_err());
    }

    #[test]
    fn availability_is_shown_in_a_few_words() {
        let Hours(hours) = "18:00-08:00".parse().unwrap();
        let until = Some(TimeMs(clock().now.0 + 3_600_000));
        let night = Availability { hours, weekdays: Weekdays(0b1_1111), until };
        assert_eq!(availability(&night, &clock()), "18:00-08:00 mon-fri until 2026-11-25 06:31");
        assert_eq!(availability(&Availability::default(), &clock()), "always");
    }
}
