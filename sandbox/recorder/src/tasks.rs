//! The records of the thread groups that are followed, shared with the programs.
//!
//! Each group has a place in an array, by the lower bits of its id, which costs the programs next to
//! nothing to look at. Who finds the place taken is kept in a hash map. A place that was ever taken is
//! never 0 again, so that 0 says: neither here nor there.

use std::io;
use std::sync::atomic::Ordering;

use crate::shared::SharedArray;
use crate::sys::{Kind, Map};

/// A place that was left: no group has this id.
pub(crate) const LEFT: u64 = 0xffff_ffff;

/// Both. A record is the id in its lower half, then what `program` says.
#[derive(Debug)]
pub(crate) struct Tasks {
    pub(crate) places: SharedArray,
    pub(crate) others: Map<u32, u64>,
}

impl Tasks {
    /// With places for at least so many groups, and room for as many that find theirs taken.
    pub(crate) fn create(most: u32) -> io::Result<Self> {
        let places = most.clamp(1, 1 << 20).next_power_of_two();
        Ok(Self {
            places: SharedArray::create("places", places)?,
            others: Map::create(Kind::Hash, "tasks", most)?,
        })
    }

    /// Of an id, the place.
    pub(crate) fn mask(&self) -> u32 {
        self.places.length() - 1
    }

    /// Sets the record of a group. `rest` is its upper half.
    pub(crate) fn set(&self, group: u32, rest: u32) -> io::Result<()> {
        let record = u64::from(rest) << 32 | u64::from(group);
        let place = self.places.at(group & self.mask())?;
        let mut seen = place.load(Ordering::SeqCst);
        while seen == 0 || seen == LEFT || of(seen) == group {
            match place.compare_exchange(seen, record, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        self.others.set(&group, record)
    }

    /// The upper half of the record of a group.
    pub(crate) fn get(&self, group: u32) -> io::Result<Option<u32>> {
        let seen = self.places.at(group & self.mask())?.load(Ordering::SeqCst);
        if of(seen) == group && seen != 0 {
            return Ok(Some(rest(seen)));
        }
        let found = self.others.get(&group)?;
        Ok(found.first().map(|record| rest(*record)))
    }

    /// Takes a group out.
    pub(crate) fn remove(&self, group: u32) -> io::Result<()> {
        let place = self.places.at(group & self.mask())?;
        let mut seen = place.load(Ordering::SeqCst);
        while seen != 0 && of(seen) == group {
            match place.compare_exchange(seen, LEFT, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.others.remove(&group).map(drop)
    }

    /// How many groups there are at this moment.
    pub(crate) fn count(&self) -> io::Result<usize> {
        let taken = self.places.all().filter(|place| {
            let record = place.load(Ordering::SeqCst);
            record != 0 && record != LEFT
        });
        Ok(taken.count() + self.others.keys()?.len())
    }
}

fn of(record: u64) -> u32 {
    let [a, b, c, d, ..] = record.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn rest(record: u64) -> u32 {
    of(record >> 32)
}
