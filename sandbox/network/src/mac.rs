//! Link layer addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address of one Ethernet card, written `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// It is no address of a single card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of one card; it must be six pairs of hexadecimal digits with colons between, the first one even, not all zero"
)]
pub struct BadMac(String);

impl Mac {
    /// The six bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for Mac {
    type Error = BadMac;

    fn try_from(bytes: [u8; 6]) -> Result<Self, BadMac> {
        let [first, ..] = bytes;
        let mac = Self(bytes);
        // Bit 0 of the first byte says that it is the address of a group.
        if first & 1 != 0 || bytes == [0; 6] {
            return Err(BadMac(mac.to_string()));
        }
        Ok(mac)
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(32).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(digits.ok_or_else(bad)?, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Self::try_from(bytes)
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(to, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_single_cards_only() {
        for good in [
            "02:00:00:00:00:01",
            "00:00:00:00:00:01",
            "fe:ff:FF:0a:A0:99",
        ] {
            let mac: Mac = good.parse().expect(good);
            assert_eq!(mac.to_string(), good.to_lowercase());
            let text = serde_json::to_string(&mac).expect("serialise");
            assert_eq!(serde_json::from_str::<Mac>(&text).expect("read back"), mac);
        }
        for bad in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02:00:00:00:00:0g",
            "02:00:00:00:00:+1",
            "02-00-00-00-00-01",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "02:00:00:00:00:01 ",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
            assert!(serde_json::from_str::<Mac>(&format!("{bad:?}")).is_err());
        }
    }
}
