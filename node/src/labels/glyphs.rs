//! Characters as strokes, on a grid four wide and six high, y downwards: digits, capitals and what else a code has.

/// Width of a character's strokes.
pub(super) const WIDTH: f64 = 4.0;
/// Height of a character's strokes.
pub(super) const HEIGHT: f64 = 6.0;
/// From the left of one character to the left of the next.
pub(super) const ADVANCE: f64 = 5.6;
/// Breadth of a stroke.
pub(super) const STROKE: f64 = 0.62;

/// The strokes of a character: points `xy` of one digit each, a space between the points of a line, a semicolon between lines.
const fn strokes(c: char) -> &'static str {
    match c {
        '0' => "10 30 41 45 36 16 05 01 10;14 32",
        '1' => "11 20 26;16 36",
        '2' => "01 10 30 41 42 06 46",
        '3' => "00 40 22 32 43 45 36 16 05",
        '4' => "36 30 04 44",
        '5' => "40 00 02 32 43 45 36 16 05",
        '6' => "30 10 01 05 16 36 45 44 33 03",
        '7' => "00 40 16",
        '8' => "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
        '9' => "43 13 02 01 10 30 41 45 36 16",
        'A' => "06 02 20 42 46;04 44",
        'B' => "00 06 36 45 44 33 03;33 42 41 30 00",
        'C' => "41 30 10 01 05 16 36 45",
        'D' => "00 06 26 44 42 20 00",
        'E' => "40 00 06 46;03 33",
        'F' => "40 00 06;03 33",
        'G' => "41 30 10 01 05 16 36 45 43 23",
        'H' => "00 06;40 46;03 43",
        'I' => "10 30;20 26;16 36",
        'J' => "40 45 36 16 05 04",
        'K' => "00 06;40 03 46",
        'L' => "00 06 46",
        'M' => "06 00 23 40 46",
        'N' => "06 00 46 40",
        'O' => "10 30 41 45 36 16 05 01 10",
        'P' => "06 00 30 41 42 33 03",
        'Q' => "10 30 41 45 36 16 05 01 10;24 46",
        'R' => "06 00 30 41 42 33 03;23 46",
        'S' => "41 30 10 01 02 13 33 44 45 36 16 05",
        'T' => "00 40;20 26",
        'U' => "00 05 16 36 45 40",
        'V' => "00 26 40",
        'W' => "00 16 23 36 40",
        'X' => "00 46;40 06",
        'Y' => "00 23 40;23 26",
        'Z' => "00 40 06 46",
        '-' => "13 33",
        '.' => "25 26",
        ':' => "21 22;25 26",
        '(' => "30 22 24 36",
        ')' => "10 22 24 16",
        '*' => "21 25;12 34;14 32",
        '~' => "04 13 33 42",
        '$' => "41 30 10 01 02 13 33 44 45 36 16 05;20 26",
        '=' => "02 42;04 44",
        '/' => "06 40",
        '_' => "06 46",
        ' ' => "",
        // A box: whoever sees it knows that something is missing.
        _ => "00 40 46 06 00",
    }
}

/// The lines of a character, as points.
pub(super) fn lines(c: char) -> impl Iterator<Item = Vec<(f64, f64)>> {
    strokes(c)
        .split(';')
        .filter(|line| !line.is_empty())
        .map(|line| {
            line.split(' ')
                .filter_map(|point| match point.as_bytes() {
                    [x, y] => Some((f64::from(x - b'0'), f64::from(y - b'0'))),
                    _ => None,
                })
                .collect()
        })
}

/// Width of a text in grid units.
#[allow(clippy::cast_precision_loss, reason = "a few characters")]
pub(super) fn text_width(text: &str) -> f64 {
    let n = text.chars().count() as f64;
    (n - 1.0).max(0.0) * ADVANCE + WIDTH
}
