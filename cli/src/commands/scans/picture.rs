//! Scans by day and by place, as one SVG: columns in three shades that differ in lightness, so that they are told apart in grey too.

use std::fmt::Write as _;

use serde_json::Value;

use super::{number, place, rows};

/// Days that are drawn at most: the last ones.
const MAX_DAYS: usize = 120;
/// Places that are drawn at most: those with the most scans.
const MAX_PLACES: usize = 20;
/// What is drawn in one shade: its name, its colour, and the verdicts that it holds; the last one holds all others.
const SHADES: [(&str, &str, &[&str]); 4] = [
    ("genuine", "#1b6b3a", &["genuine_first", "genuine_repeat"]),
    ("suspect", "#b3261e", &["suspect"]),
    ("unknown", "#e0a100", &["unknown"]),
    ("others", "#8a94a6", &[]),
];
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 70.0;
const HEIGHT: f64 = 260.0;
const TOP: f64 = 70.0;

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn real(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn index(n: usize) -> f64 {
    n as f64
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The counts of a day by shade.
fn shades(day: &Value) -> [u64; 4] {
    let mut out = [0; 4];
    let counts = day.get("verdicts").and_then(Value::as_object);
    for (verdict, n) in counts.into_iter().flatten() {
        let shade = SHADES
            .iter()
            .position(|(_, _, verdicts)| verdicts.contains(&verdict.as_str()))
            .unwrap_or(SHADES.len() - 1);
        if let Some(sum) = out.get_mut(shade) {
            *sum += n.as_u64().unwrap_or_default();
        }
    }
    out
}

/// Draws an answer of `scan_stats`.
pub(super) fn draw(answer: &Value) -> String {
    let days = rows(answer, "days");
    let days = days
        .get(days.len().saturating_sub(MAX_DAYS)..)
        .unwrap_or(days);
    let places = rows(answer, "places");
    let places = places.get(..MAX_PLACES).unwrap_or(places);
    let below = TOP + HEIGHT + 90.0;
    let height = below + 24.0 * index(places.len()) + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Scans by day and place</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#111\">{}</text>",
            escaped(words)
        );
    };
    text(LEFT, 28.0, "start", "Scans by day (UTC)");
    for (i, (name, _, _)) in SHADES.iter().enumerate() {
        text(LEFT + 18.0 + 110.0 * index(i), 52.0, "start", name);
    }
    let most = days.iter().map(|d| number(d, "scans")).max();
    let most = most.unwrap_or_default().max(1);
    text(LEFT - 8.0, TOP + 10.0, "end", &most.to_string());
    text(LEFT - 8.0, TOP + HEIGHT, "end", "0");
    let step = (WIDTH - LEFT - 20.0) / index(days.len().max(1));
    for (i, day) in days.iter().enumerate() {
        if i % days.len().div_ceil(8).max(1) == 0 {
            let name = super::text_at(day, "day");
            text(LEFT + step * index(i), TOP + HEIGHT + 20.0, "start", name);
        }
    }
    if !places.is_empty() {
        text(
            LEFT,
            below - 20.0,
            "start",
            "Scans by place (*: more units scanned twice than honest ones)",
        );
    }
    for (i, row) in places.iter().enumerate() {
        let y = below + 24.0 * index(i) + 12.0;
        let stands_out = row.get("stands_out").and_then(Value::as_bool) == Some(true);
        let name = format!("{}{}", place(row), if stands_out { " *" } else { "" });
        text(LEFT + 190.0, y, "end", &name);
        let share = real(number(row, "scans")) / real(most_of(places));
        text(
            LEFT + 206.0 + share * 600.0,
            y,
            "start",
            &number(row, "scans").to_string(),
        );
    }
    let mut bar = |x: f64, y: f64, width: f64, height: f64, colour: &str| {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    };
    for (i, (_, colour, _)) in SHADES.iter().enumerate() {
        bar(LEFT + 110.0 * index(i), 41.0, 12.0, 12.0, colour);
    }
    for (i, day) in days.iter().enumerate() {
        let mut y = TOP + HEIGHT;
        for (count, (_, colour, _)) in shades(day).into_iter().zip(SHADES) {
            let tall = HEIGHT * real(count) / real(most);
            y -= tall;
            let width = (step - 2.0).clamp(0.5, 60.0);
            bar(LEFT + step * index(i), y, width, tall, colour);
        }
    }
    for (i, row) in places.iter().enumerate() {
        let share = real(number(row, "scans")) / real(most_of(places));
        let y = below + 24.0 * index(i);
        bar(LEFT + 200.0, y, share * 600.0, 16.0, "#1b4f9c");
    }
    svg.push_str("</svg>\n");
    svg
}

fn most_of(places: &[Value]) -> u64 {
    let most = places.iter().map(|p| number(p, "scans")).max();
    most.unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_scan_is_drawn_and_no_name_is_markup() {
        let day = json!({"day": "2026-01-01", "scans": 10, "verdicts": {"genuine_first": 6, "suspect": 1, "unknown": 1, "recalled": 2}});
        assert_eq!(shades(&day), [6, 1, 1, 2]);
        let svg = draw(&json!({
            "days": [day],
            "places": [{"country": "CN", "region": "<script>", "cell": "", "scans": 9, "stands_out": true}],
        }));
        assert!(svg.contains("&lt;script&gt;, CN *") && !svg.contains("<script>"));
        // The legend, a column of four shades, one place, and the ground.
        assert_eq!(svg.matches("<rect").count(), 4 + 4 + 1 + 1);
        assert!(draw(&json!({"days": [], "places": []})).ends_with("</svg>\n"));
    }
}
