//! Distances on the globe.

/// Mean radius of the earth, metres (IUGG).
const EARTH_M: f64 = 6_371_008.8;

/// The great-circle distance in metres between two points of latitude and longitude in degrees, by the haversine formula; right
/// to 0.5%, the earth being no ball.
#[must_use]
pub fn distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half = |x: f64| {
        let s = libm::sin(x / 2.0);
        s * s
    };
    let h =
        half(lat_b - lat_a) + libm::cos(lat_a) * libm::cos(lat_b) * half((b.1 - a.1).to_radians());
    2.0 * EARTH_M * libm::asin(libm::sqrt(h.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::distance_m;

    #[test]
    fn a_quarter_of_a_meridian_and_known_pairs() {
        let quarter = distance_m((0.0, 0.0), (90.0, 0.0));
        assert!((quarter - 10_007_557.0).abs() < 10.0, "{quarter}");
        // Beijing to Shanghai is about 1,067 km.
        let km = distance_m((39.904, 116.407), (31.230, 121.474)) / 1000.0;
        assert!((1060.0..1075.0).contains(&km), "{km}");
        assert!(distance_m((10.0, 179.9), (10.0, -179.9)) < 23_000.0);
        assert!(distance_m((5.0, 5.0), (5.0, 5.0)) < 1e-6);
    }
}
