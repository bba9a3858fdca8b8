//! Writes `seeds/` anew: every seed is an encoding that the product made, and is run once here. Run it in this folder after a
//! format changed.

use std::path::Path;
use std::{env, fs, io};

use tally_fuzz::TARGETS;

fn main() -> io::Result<()> {
    let only: Vec<String> = env::args().skip(1).collect();
    let mut total = 0;
    for target in TARGETS {
        if !only.is_empty() && !only.iter().any(|n| n == target.name) {
            continue;
        }
        let dir = Path::new("seeds").join(target.name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let seeds = (target.seeds)();
        for (name, bytes) in &seeds {
            fs::write(dir.join(name), bytes)?;
            (target.run)(bytes);
            total += bytes.len();
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    println!("{total} bytes in all");
    Ok(())
}
