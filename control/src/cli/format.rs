//! Numbers with their units, as people read them.

/// `1,234,567`
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 MiB`
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut amount = value as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    format!("{amount:.1} {unit}")
}

/// `1.234 Mpps`
pub(crate) fn rate(packets_per_second: f64) -> String {
    match packets_per_second {
        rate if rate >= 1e6 => format!("{:.3} Mpps", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} kpps", rate / 1e3),
        rate => format!("{rate:.0} pps"),
    }
}

/// `1 h 02 min 03 s`
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min {:02} s", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_where_they_should() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([bytes(1023), bytes(1024), bytes(1 << 20)], ["1023 B", "1.0 KiB", "1.0 MiB"]);
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(
            [rate(12.0), rate(1500.0), rate(4_100_000.0)],
            ["12 pps", "1.5 kpps", "4.100 Mpps"]
        );
        assert_eq!(
            [duration(1.25), duration(61.0), duration(3723.0)],
            ["1.2 s", "1 min 01 s", "1 h 02 min 03 s"]
        );
    }
}
