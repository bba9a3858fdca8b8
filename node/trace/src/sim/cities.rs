//! The map of the simulation: 68 cities of mainland China, in seven sales regions, and eight places abroad where VPN exits stand.
//!
//! Coordinates are those of the city's centre to about a kilometre; the population, in millions of the whole municipality, is
//! rounded and serves as a weight only.

/// A city.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct City {
    /// Its name.
    pub name: &'static str,
    /// Latitude, degrees north.
    pub lat: f64,
    /// Longitude, degrees east.
    pub lon: f64,
    /// Millions of people; a weight.
    pub people: f64,
    /// The sales region.
    pub region: Region,
}

impl City {
    /// Latitude and longitude, degrees.
    #[must_use]
    pub const fn at(&self) -> (f64, f64) {
        (self.lat, self.lon)
    }
}

/// A sales region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Region {
    North,
    NorthEast,
    East,
    Central,
    South,
    SouthWest,
    NorthWest,
    Abroad,
}

/// The regions where goods are sold.
pub const SALES_REGIONS: [Region; 7] = [
    Region::North,
    Region::NorthEast,
    Region::East,
    Region::Central,
    Region::South,
    Region::SouthWest,
    Region::NorthWest,
];

const fn city(name: &'static str, lat: f64, lon: f64, people: f64, region: Region) -> City {
    City {
        name,
        lat,
        lon,
        people,
        region,
    }
}

use Region::{Abroad, Central, East, North, NorthEast, NorthWest, South, SouthWest};

/// Where goods are sold.
#[rustfmt::skip]
pub const CITIES: [City; 68] = [
    city("Beijing", 39.904, 116.407, 21.9, North),
    city("Tianjin", 39.085, 117.201, 13.9, North),
    city("Shijiazhuang", 38.042, 114.514, 11.2, North),
    city("Tangshan", 39.631, 118.180, 7.7, North),
    city("Baoding", 38.874, 115.465, 9.2, North),
    city("Taiyuan", 37.871, 112.551, 5.3, North),
    city("Datong", 40.077, 113.300, 3.1, North),
    city("Hohhot", 40.842, 111.749, 3.4, North),
    city("Baotou", 40.657, 109.840, 2.7, North),
    city("Shenyang", 41.805, 123.432, 9.1, NorthEast),
    city("Dalian", 38.914, 121.615, 7.5, NorthEast),
    city("Changchun", 43.817, 125.324, 9.1, NorthEast),
    city("Jilin", 43.838, 126.549, 3.6, NorthEast),
    city("Harbin", 45.803, 126.535, 10.0, NorthEast),
    city("Qiqihar", 47.354, 123.918, 4.1, NorthEast),
    city("Shanghai", 31.230, 121.474, 24.9, East),
    city("Nanjing", 32.060, 118.797, 9.3, East),
    city("Suzhou", 31.299, 120.585, 12.7, East),
    city("Wuxi", 31.491, 120.312, 7.5, East),
    city("Xuzhou", 34.206, 117.284, 9.1, East),
    city("Hangzhou", 30.274, 120.155, 11.9, East),
    city("Ningbo", 29.868, 121.544, 9.4, East),
    city("Wenzhou", 27.994, 120.699, 9.6, East),
    city("Hefei", 31.821, 117.227, 9.4, East),
    city("Wuhu", 31.353, 118.433, 3.6, East),
    city("Fuzhou", 26.074, 119.297, 8.3, East),
    city("Xiamen", 24.480, 118.089, 5.2, East),
    city("Quanzhou", 24.874, 118.676, 8.8, East),
    city("Nanchang", 28.682, 115.858, 6.3, East),
    city("Ganzhou", 25.831, 114.935, 9.0, East),
    city("Jinan", 36.651, 117.120, 9.2, East),
    city("Qingdao", 36.067, 120.383, 10.1, East),
    city("Yantai", 37.464, 121.448, 7.1, East),
    city("Linyi", 35.104, 118.356, 11.0, East),
    city("Zhengzhou", 34.747, 113.625, 12.6, Central),
    city("Luoyang", 34.619, 112.454, 7.1, Central),
    city("Nanyang", 32.991, 112.528, 9.7, Central),
    city("Wuhan", 30.593, 114.305, 12.3, Central),
    city("Yichang", 30.692, 111.286, 4.0, Central),
    city("Xiangyang", 32.009, 112.122, 5.3, Central),
    city("Changsha", 28.228, 112.939, 10.0, Central),
    city("Hengyang", 26.893, 112.572, 6.6, Central),
    city("Guangzhou", 23.129, 113.264, 18.7, South),
    city("Shenzhen", 22.543, 114.058, 17.6, South),
    city("Dongguan", 23.021, 113.752, 10.5, South),
    city("Foshan", 23.022, 113.122, 9.5, South),
    city("Shantou", 23.354, 116.682, 5.5, South),
    city("Zhanjiang", 21.271, 110.359, 7.0, South),
    city("Nanning", 22.817, 108.366, 8.7, South),
    city("Guilin", 25.274, 110.290, 4.9, South),
    city("Liuzhou", 24.326, 109.428, 4.2, South),
    city("Haikou", 20.044, 110.199, 2.9, South),
    city("Sanya", 18.253, 109.512, 1.0, South),
    city("Chongqing", 29.563, 106.551, 32.1, SouthWest),
    city("Chengdu", 30.573, 104.066, 20.9, SouthWest),
    city("Mianyang", 31.467, 104.679, 4.9, SouthWest),
    city("Guiyang", 26.647, 106.630, 6.0, SouthWest),
    city("Zunyi", 27.726, 106.927, 6.6, SouthWest),
    city("Kunming", 25.038, 102.718, 8.5, SouthWest),
    city("Dali", 25.607, 100.268, 3.3, SouthWest),
    city("Lhasa", 29.652, 91.172, 0.9, SouthWest),
    city("Xi'an", 34.342, 108.940, 13.0, NorthWest),
    city("Baoji", 34.363, 107.238, 3.3, NorthWest),
    city("Lanzhou", 36.061, 103.834, 4.4, NorthWest),
    city("Xining", 36.617, 101.778, 2.5, NorthWest),
    city("Yinchuan", 38.487, 106.231, 2.9, NorthWest),
    city("Urumqi", 43.826, 87.617, 4.1, NorthWest),
    city("Kashgar", 39.470, 75.990, 0.7, NorthWest),
];

/// Where VPN exits stand.
#[rustfmt::skip]
pub const EXITS: [City; 8] = [
    city("Hong Kong", 22.319, 114.169, 7.5, Abroad),
    city("Tokyo", 35.676, 139.650, 14.0, Abroad),
    city("Singapore", 1.352, 103.820, 5.7, Abroad),
    city("Seoul", 37.567, 126.978, 9.7, Abroad),
    city("Los Angeles", 34.052, -118.244, 3.9, Abroad),
    city("Frankfurt", 50.110, 8.682, 0.8, Abroad),
    city("London", 51.507, -0.128, 8.9, Abroad),
    city("Sydney", -33.869, 151.209, 5.3, Abroad),
];
