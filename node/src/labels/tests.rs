//! Sheets read by programs that are not ours: zbar, Poppler and libdmtx.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tally_codes::Serial;
use tally_codes::gs1::UrlBase;
use tempfile::TempDir;

use super::*;

const GTIN: &str = "09521234543213";

/// Rows as `tally codes issue` writes them, with serials that look as random as real ones.
fn rows(host: &str, count: u64) -> String {
    let base = UrlBase::parse(host).unwrap();
    let gtin = GTIN.parse().unwrap();
    let mut out = "url,serial\n".to_owned();
    for n in 0..count {
        let bits = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let serial = Serial::from_bits(bits >> 20);
        out.push_str(&format!("{},{serial}\n", base.url(&gtin, serial)));
    }
    out
}

fn labels(host: &str, count: u64) -> Vec<Label> {
    read_labels(&mut rows(host, count).as_bytes(), 1, MAX_LABELS).unwrap()
}

fn urls(labels: &[Label]) -> BTreeSet<String> {
    labels.iter().map(|l| l.url.clone()).collect()
}

/// Whether a program is here. Where nothing may be skipped, it must be.
fn has(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    if !found {
        println!("SKIPPED: {tool} is not installed");
        let strict = std::env::var("CI_STRICT").is_ok_and(|v| v == "1");
        assert!(!strict, "{tool} is missing");
    }
    found
}

/// What a program prints, line by line.
fn read_by(tool: &str, args: &[&str], file: &Path) -> Vec<String> {
    let out = Command::new(tool).args(args).arg(file).output().unwrap();
    assert!(
        out.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn by_zbar(file: &Path) -> BTreeSet<String> {
    read_by(
        "zbarimg",
        &["--quiet", "--raw", "-Sdisable", "-Sqrcode.enable"],
        file,
    )
    .into_iter()
    .collect()
}

#[test]
fn rows_are_read_and_bad_ones_are_named() {
    let text = rows("https://id.t.cn", 5);
    let all = labels("https://id.t.cn", 5);
    assert_eq!(all.len(), 5);
    let read = |text: &str, first, count| read_labels(&mut text.as_bytes(), first, count);
    assert_eq!(read(&text, 2, 2).unwrap(), all[1..3]);
    let json: String = all
        .iter()
        .map(|l| {
            format!(
                "{{\"url\":\"{}\",\"serial\":\"{}\"}}\n",
                l.url, l.code.serial
            )
        })
        .collect();
    assert_eq!(read(&json, 1, 10).unwrap(), all);
    let bare: String = all.iter().map(|l| format!("{}\n\n", l.url)).collect();
    assert_eq!(read(&bare, 1, 10).unwrap(), all);
    assert!(matches!(
        read(&text, 6, 10),
        Err(LabelError::Empty { first: 6, found: 5 })
    ));
    for (bad, line) in [
        ("url,serial\nserial\n", 2),
        ("{}\n", 1),
        ("{\n", 1),
        ("https://id.t.cn/01/09521234543213\n", 1),
        (
            "https://id.t.cn/01/09521234543214/21/0123456789ABCDEFGHJK\n",
            1,
        ),
    ] {
        let found = read(bad, 1, 10);
        assert!(
            matches!(found, Err(LabelError::Row { line: l, .. }) if l == line),
            "{bad:?} {found:?}"
        );
    }
    assert!(read(&"x".repeat(10_000), 1, 10).is_err());
}

#[test]
fn a_grid_that_does_not_fit_is_refused_with_what_would() {
    let all = labels("https://id.t.cn", 100);
    let sheet = Sheet::new(&all, &Options::default()).unwrap();
    let per_page = sheet.grid.columns * sheet.grid.rows;
    assert_eq!(sheet.pages.len(), 100_usize.div_ceil(per_page));
    assert!(per_page > 50, "{:?}", sheet.grid);
    for (columns, rows) in [(11, 4), (4, 20)] {
        let options = Options {
            grid: Some(Grid { columns, rows }),
            ..Options::default()
        };
        let Err(LabelError::TooLarge { module, .. }) = Sheet::new(&all, &options) else {
            panic!("{columns} {rows}")
        };
        let smaller = Options {
            module_mm: module,
            ..options
        };
        Sheet::new(&all, &smaller).unwrap();
        let larger = Options {
            module_mm: module + 0.02,
            ..options
        };
        assert!(Sheet::new(&all, &larger).is_err());
    }
    for bad in [
        Options {
            module_mm: 0.1,
            ..Options::default()
        },
        Options {
            margin_mm: -1.0,
            ..Options::default()
        },
        Options {
            margin_mm: f64::NAN,
            ..Options::default()
        },
        Options {
            grid: Some(Grid {
                columns: 0,
                rows: 1,
            }),
            ..Options::default()
        },
    ] {
        assert!(matches!(
            Sheet::new(&all, &bad),
            Err(LabelError::Range { .. })
        ));
    }
    // Nothing of a label leaves its page, and the quiet zone of a symbol is free of the next one.
    for paper in [Paper::A4, Paper::Letter] {
        let options = Options {
            paper,
            ..Options::default()
        };
        let sheet = Sheet::new(&all, &options).unwrap();
        for page in &sheet.pages {
            let places: Vec<(f64, f64)> = page
                .shapes
                .iter()
                .filter_map(|s| match s {
                    Shape::Symbol { x, y, .. } => Some((*x, *y)),
                    Shape::Strokes { .. } => None,
                })
                .collect();
            let side = 29.0 * sheet.module;
            for (i, (x, y)) in places.iter().enumerate() {
                assert!(*x >= options.margin_mm && x + side <= sheet.width - options.margin_mm);
                assert!(*y >= options.margin_mm && y + side <= sheet.height - options.margin_mm);
                for (a, b) in places.iter().skip(i + 1) {
                    let apart = (x - a).abs().max((y - b).abs()) - side;
                    assert!(apart >= 8.0 * sheet.module, "{apart}");
                }
            }
        }
    }
}

#[test]
fn every_character_of_a_code_has_a_glyph() {
    let missing: Vec<Vec<(f64, f64)>> = glyphs::lines('\u{e4}').collect();
    for c in "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U-".chars() {
        let lines: Vec<_> = glyphs::lines(c).collect();
        assert!(!lines.is_empty() && lines != missing, "{c}");
        for (x, y) in lines.iter().flatten() {
            assert!((0.0..=glyphs::WIDTH).contains(x) && (0.0..=glyphs::HEIGHT).contains(y));
        }
        let others = "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U-".chars();
        for other in others.filter(|o| *o != c) {
            assert_ne!(
                glyphs::lines(other).collect::<Vec<_>>(),
                lines,
                "{c} {other}"
            );
        }
    }
}

#[test]
fn zbar_reads_every_symbol_of_a_png_page() {
    if !has("zbarimg") {
        return;
    }
    let dir = TempDir::new().unwrap();
    // Version 3 and version 4.
    for (host, dpi) in [("https://id.t.cn", 300), ("https://codes.example.com", 200)] {
        let all = labels(host, 40);
        let sheet = Sheet::new(&all, &Options::default()).unwrap();
        let mut found = BTreeSet::new();
        for page in &sheet.pages {
            let file = dir.path().join("page.png");
            std::fs::write(&file, to_png(&sheet, page, dpi).unwrap()).unwrap();
            found.extend(by_zbar(&file));
        }
        assert_eq!(found, urls(&all), "{host}");
    }
    let all = labels("https://id.t.cn", 1);
    let sheet = Sheet::new(&all, &Options::default()).unwrap();
    for dpi in [71, 1201, 72] {
        // At 72 dots an inch a module of half a millimetre is a single pixel.
        assert!(matches!(
            to_png(&sheet, &sheet.pages[0], dpi),
            Err(LabelError::Range { .. })
        ));
    }
}

#[test]
fn poppler_and_zbar_read_every_symbol_of_a_pdf() {
    if !has("pdftoppm") || !has("zbarimg") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let all = labels("https://id.t.cn", 150);
    let sheet = Sheet::new(
        &all,
        &Options {
            paper: Paper::Letter,
            ..Options::default()
        },
    )
    .unwrap();
    assert!(sheet.pages.len() > 1);
    let pdf = to_pdf(&sheet).unwrap();
    assert_eq!(
        pdf,
        to_pdf(&sheet).unwrap(),
        "the same sheet, the same bytes"
    );
    let file = dir.path().join("labels.pdf");
    std::fs::write(&file, &pdf).unwrap();
    let stem = dir.path().join("page");
    let out = Command::new("pdftoppm")
        // As a printer draws it: no greys.
        .args(["-r", "300", "-aaVector", "no", "-png"])
        .args([&file, &stem])
        .output()
        .unwrap();
    // Poppler complains about anything that is not as it should be.
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let mut found = BTreeSet::new();
    let mut pages = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "png") {
            pages += 1;
            found.extend(by_zbar(&path));
        }
    }
    assert_eq!(pages, sheet.pages.len());
    assert_eq!(found, urls(&all));
}

#[test]
fn libdmtx_reads_data_matrix_labels() {
    if !has("dmtxread") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let all = labels("https://id.t.cn", 4);
    for symbol in [SymbolKind::DataMatrix, SymbolKind::Gs1DataMatrix] {
        let options = Options {
            symbol,
            grid: Some(Grid {
                columns: 2,
                rows: 2,
            }),
            module_mm: 1.0,
            ..Options::default()
        };
        let sheet = Sheet::new(&all, &options).unwrap();
        let file = dir.path().join("page.png");
        std::fs::write(&file, to_png(&sheet, &sheet.pages[0], 150).unwrap()).unwrap();
        let gs1 = symbol == SymbolKind::Gs1DataMatrix;
        let expected: BTreeSet<String> = all
            .iter()
            .map(|l| match gs1 {
                true => format!("01{GTIN}21{}", l.code.serial),
                false => l.url.clone(),
            })
            .collect();
        // With -G, FNC1 is shown as that character.
        let mut args = vec!["-n", "-N4"];
        if gs1 {
            args.push("-G29");
        }
        let found: BTreeSet<String> = read_by("dmtxread", &args, &file)
            .into_iter()
            .map(|line| line.trim_start_matches('\u{1d}').to_owned())
            .collect();
        assert_eq!(found, expected, "{symbol}");
    }
}

#[test]
fn svg_pages_are_whole() {
    let all = labels("https://id.t.cn", 3);
    let sheet = Sheet::new(&all, &Options::default()).unwrap();
    let svg = to_svg(&sheet, &sheet.pages[0]);
    assert!(
        svg.starts_with(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"210mm\" height=\"297mm\""
        )
    );
    assert_eq!(svg.matches("<path").count(), 6);
    assert!(svg.ends_with("</svg>\n"));
    let lines: usize = sheet.pages[0]
        .shapes
        .iter()
        .map(|s| match s {
            Shape::Symbol { outlines, .. } => outlines.len(),
            Shape::Strokes { .. } => 0,
        })
        .sum();
    assert_eq!(svg.matches('z').count(), lines);
}
