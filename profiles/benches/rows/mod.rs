//! What every bench prints: a row of microseconds per round, then the least and the median.

use std::io::{self, Write};

pub(crate) struct Rows<const N: usize> {
    columns: [Vec<f64>; N],
}

impl<const N: usize> Rows<N> {
    /// Prints the names.
    pub(crate) fn new(out: &mut impl Write, names: [&str; N]) -> io::Result<Self> {
        writeln!(out, "round,{}", names.join(","))?;
        Ok(Self {
            columns: std::array::from_fn(|_| Vec::new()),
        })
    }

    /// Prints and keeps what one round took.
    pub(crate) fn add(&mut self, out: &mut impl Write, took: [f64; N]) -> io::Result<()> {
        let round = self.columns.first().map_or(0, Vec::len);
        for (column, took) in self.columns.iter_mut().zip(took) {
            column.push(took);
        }
        row(out, &round.to_string(), took)
    }

    /// Prints the least and the median of each column.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        for column in &mut self.columns {
            column.sort_by(f64::total_cmp);
        }
        let at = |rank: usize| -> [f64; N] {
            std::array::from_fn(|column| {
                let column = self.columns.get(column);
                column
                    .and_then(|column| column.get(rank))
                    .copied()
                    .unwrap_or(f64::NAN)
            })
        };
        let middle = self.columns.first().map_or(0, Vec::len) / 2;
        row(out, "min", at(0))?;
        row(out, "median", at(middle))
    }
}

fn row<const N: usize>(out: &mut impl Write, name: &str, values: [f64; N]) -> io::Result<()> {
    let values = values.map(|value| format!("{value:.1}"));
    writeln!(out, "{name},{}", values.join(","))
}
