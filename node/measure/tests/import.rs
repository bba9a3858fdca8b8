//! Whole imports: what is used, dropped and repeated, and where; and that no ID leaves by the log.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tally_measure::{DropReason, Error, ImportOptions, ImportReport, import};

fn options(profile: &str) -> ImportOptions {
    ImportOptions::new(profile.parse().unwrap())
}

fn report(csv: &[u8], profile: &str) -> ImportReport {
    import(csv, &options(profile)).unwrap().report
}

const TOUCHES: &str = "\u{feff}Phone,touched_at,channel\r\n\
    +1 212 555 0143,1,a\r\n\
    +12125550143,2,\"b,c\"\r\n\
    \r\n\
    not-a-number,3,a\r\n\
    +1 212 555 0199,4\r\n\
    \"+1 646 555 0100,5,a\r\n\
    +1 646 555 0101,6,\"two\nlines\"\r\n\
    2125550144,7,a\r\n\
    ,8,a\r\n\
    +1 212 555 0143,9,a\r\n";

#[test]
fn every_row_is_accounted_for_by_line() {
    let report = report(TOUCHES.as_bytes(), "e164");
    assert_eq!(report.rows, 9);
    assert_eq!(report.used, 2);
    assert_eq!(
        (report.duplicates.count, &report.duplicates.first_lines),
        (2, &vec![3, 12])
    );
    let dropped: Vec<_> = report
        .dropped
        .iter()
        .map(|(reason, lines)| (*reason, lines.first_lines.clone()))
        .collect();
    assert_eq!(
        dropped,
        [
            (DropReason::ColumnCount, vec![6]),
            (DropReason::Quoting, vec![7]),
            (DropReason::Empty, vec![11]),
            (DropReason::Phone, vec![5]),
            (DropReason::PhoneRegion, vec![10]),
        ]
    );
    assert_eq!(
        report.rows,
        report.used + report.duplicates.count + report.dropped_rows()
    );
}

#[test]
fn the_default_region_and_the_column_are_options() {
    let mut options = options("e164");
    options.default_region = Some("US".parse().unwrap());
    assert_eq!(import(TOUCHES.as_bytes(), &options).unwrap().report.used, 3);
    options.column = Some(" TOUCHED_AT ".into());
    assert_eq!(import(TOUCHES.as_bytes(), &options).unwrap().report.used, 0);
}

#[test]
fn line_numbers_are_bounded_and_counts_are_not() {
    let mut csv = String::from("email\n");
    for _ in 0..50_000 {
        csv.push_str("nobody\n");
    }
    let report = report(csv.as_bytes(), "plain");
    let lines = &report.dropped[&DropReason::Email];
    assert_eq!((lines.count, lines.first_lines.len()), (50_000, 20));
}

#[test]
fn a_file_that_is_no_table_is_refused_without_showing_it() {
    let error = |csv: &str| import(csv.as_bytes(), &options("e164")).err().unwrap();
    assert!(matches!(error(""), Error::Empty { .. }));
    assert!(matches!(error("\"phone\n"), Error::Header { .. }));
    assert!(matches!(
        error("phone,a,Phone\n"),
        Error::AmbiguousColumn { found: 2, .. }
    ));
    let no_header = error("+12125550143,1\n+12125550144,2\n");
    assert!(matches!(no_header, Error::NoColumn { columns: 2, .. }));
    assert!(!format!("{no_header} {no_header:?}").contains("2125550"));
}

#[test]
fn order_and_batches_change_nothing() {
    let mut csv = String::from("phone,n\n");
    for i in 0..40_000_u32 {
        let n = i.wrapping_mul(2_654_435_761) % 20_000;
        writeln!(csv, "+8613{:09},{i}", 7_919 * u64::from(n)).unwrap();
    }
    let forward = import(csv.as_bytes(), &options("e164")).unwrap();
    let mut lines: Vec<_> = csv.lines().collect();
    lines[1..].reverse();
    let back = import(lines.join("\n").as_bytes(), &options("e164")).unwrap();
    assert!(forward.ids == back.ids);
    assert!(forward.ids.is_sorted());
    assert_eq!(forward.report.rows, 40_000);
    assert_eq!(forward.report.used, back.report.used);
}

#[test]
fn an_enumeration_is_warned_about() {
    let mut csv = String::from("phone\n");
    for i in 0..1_000 {
        writeln!(csv, "+861300028{i:04}").unwrap();
    }
    let dense = report(csv.as_bytes(), "cn11").dense_range.unwrap();
    assert_eq!((dense.values, dense.span), (500, 500));
    assert_eq!(report(TOUCHES.as_bytes(), "e164").dense_range, None);
}

#[test]
fn a_report_is_one_json_object_and_comes_back() {
    let report = report(TOUCHES.as_bytes(), "e164");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["profile"], "e164");
    assert_eq!(json["id_type"], "phone");
    assert_eq!(json["dropped"]["phone_region"]["count"], 1);
    assert_eq!(json["dropped"]["phone_region"]["first_lines"][0], 10);
    assert_eq!(
        serde_json::from_value::<ImportReport>(json).unwrap(),
        report
    );
}

/// Keeps all that any library logs.
struct Keeper(Mutex<String>, AtomicBool);

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Ok(mut text) = self.0.lock() {
            let _ = writeln!(text, "{}", record.args());
        }
        self.1.store(true, Ordering::Relaxed);
    }

    fn flush(&self) {}
}

static KEEPER: Keeper = Keeper(Mutex::new(String::new()), AtomicBool::new(false));

#[test]
fn no_library_logs_an_id() {
    log::set_logger(&KEEPER).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    log::debug!("the logger works");
    for profile in ["e164", "digits", "cn11"] {
        import(TOUCHES.as_bytes(), &options(profile)).unwrap();
    }
    let text = KEEPER.0.lock().unwrap();
    assert!(KEEPER.1.load(Ordering::Relaxed) && text.contains("the logger works"));
    for canary in ["555", "number"] {
        assert!(!text.contains(canary), "logged: {text}");
    }
}
