use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use cofferdam_integration::{
    binaries::build_dir,
    error::{At, Result},
};

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    all: Vec<(String, String, f64)>,
}

impl Rows {
    pub(crate) fn add(&mut self, what: &str, who: &str, value: f64) {
        self.all.push((what.to_owned(), who.to_owned(), value));
    }

    fn values(&self, what: &str, who: &str) -> Vec<f64> {
        let mine = self.all.iter().filter(|row| row.0 == what && row.1 == who);
        mine.map(|row| row.2).collect()
    }

    fn median(&self, what: &str, who: &str) -> Option<f64> {
        median(self.values(what, who))
    }

    /// Prints a candidate against its peers, and whether the goals (ratios) are met.
    pub(crate) fn compare(&self, what: &str, unit: &str, who: &str, peers: &[(&str, Option<f64>)]) {
        println!("{what}");
        let Some(mine) = self.median(what, who) else {
            println!("  not measured");
            return;
        };
        println!(
            "  {who:<12} {mine:>9.1} {unit}   {}",
            self.spread(what, who)
        );
        for (peer, goal) in peers {
            let Some(theirs) = self.median(what, peer) else {
                println!("  {peer:<12} not measured");
                continue;
            };
            let ratio = mine / theirs;
            let verdict = goal.map_or_else(String::new, |goal| {
                let word = if ratio <= goal { "met" } else { "MISSED" };
                format!("  goal <= {goal:.2}x: {word}")
            });
            println!(
                "  {peer:<12} {theirs:>9.1} {unit}   {}  ratio {ratio:.2}x{verdict}",
                self.spread(what, peer)
            );
        }
    }

    /// Prints a candidate and a peer, and whether the candidate stays under a limit.
    pub(crate) fn limit(&self, what: &str, unit: &str, who: &str, peer: &str, limit: u32) {
        self.compare(what, unit, who, &[(peer, None)]);
        if let Some(mine) = self.median(what, who) {
            let word = if mine <= f64::from(limit) {
                "met"
            } else {
                "MISSED"
            };
            println!("  goal <= {limit} {unit}: {word}");
        }
    }

    /// Prints a candidate and a peer, and whether the candidate adds no more than a limit to it.
    pub(crate) fn added(&self, what: &str, unit: &str, who: &str, peer: &str, limit: u32) {
        self.compare(what, unit, who, &[(peer, None)]);
        if let (Some(mine), Some(theirs)) = (self.median(what, who), self.median(what, peer)) {
            let more = mine - theirs;
            let word = if more <= f64::from(limit) {
                "met"
            } else {
                "MISSED"
            };
            println!("  {more:+.1} {unit}  goal <= +{limit} {unit}: {word}");
        }
    }

    /// The middle half of the samples.
    fn spread(&self, what: &str, who: &str) -> String {
        let mut values = self.values(what, who);
        values.sort_by(f64::total_cmp);
        let quarter = values.len() / 4;
        match (values.get(quarter), values.iter().rev().nth(quarter)) {
            (Some(low), Some(high)) => format!("[{low:.1} .. {high:.1}]"),
            _ => String::new(),
        }
    }

    /// Writes the rows beside the build, one a line: what, who, value.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let mut text = String::from("what\twho\tvalue\n");
        for (what, who, value) in &self.all {
            let _ = writeln!(text, "{what}\t{who}\t{value}");
        }
        let file = build_dir()?.join("bench-rows.tsv");
        fs::write(&file, text).at("write", &file)?;
        Ok(file)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 if values.is_empty() => None,
        0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

/// The candidates, each `rounds` times, in an order that is different every time.
pub(crate) fn turns<'a>(candidates: &[&'a str], rounds: usize) -> Vec<&'a str> {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut all: BTreeMap<u64, &str> = BTreeMap::new();
    for round in 0..rounds {
        for candidate in candidates {
            // std seeds this hasher from the system's randomness.
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(round);
            all.insert(hasher.finish(), candidate);
        }
    }
    all.into_values().collect()
}
