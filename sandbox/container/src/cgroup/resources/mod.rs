//! `linux.resources` -> the kernel's limit files.
//!
//! As in runc, 0 means "not given" for the limits where engines send it so, and -1 "no limit".

mod convert;
mod v1;
mod v2;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxRdma, LinuxResources};

use super::host::Mode;
use super::location::Location;
use super::{Error, Unenforced, file};

/// Sets every limit that is given, devices excepted.
pub(super) fn apply(
    location: &Location,
    resources: &LinuxResources,
) -> Result<Vec<Unenforced>, Error> {
    let mut limits = Limits {
        location,
        unenforced: Vec::new(),
    };
    match location.mode {
        Mode::V1 => v1::apply(&mut limits, resources)?,
        Mode::V2 => v2::apply(&mut limits, resources)?,
    }
    Ok(limits.unenforced)
}

/// Writes limits and keeps a list of those that this host does not know.
struct Limits<'a> {
    location: &'a Location,
    unenforced: Vec<Unenforced>,
}

impl Limits<'_> {
    /// The file of a controller, if the kernel has it.
    fn file(&self, controller: &str, name: &str) -> Option<PathBuf> {
        self.location
            .controller(controller)
            .map(|dir| dir.join(name))
            .filter(|path| path.exists())
    }

    /// Writes one value; a missing controller or file goes on the list.
    fn set(
        &mut self,
        controller: &str,
        name: &str,
        field: &str,
        value: impl Display,
    ) -> Result<(), Error> {
        let value = value.to_string();
        let Some(dir) = self.location.controller(controller) else {
            self.lacks(
                field,
                value,
                format!("this host has no `{controller}` cgroup controller"),
            );
            return Ok(());
        };
        let path = dir.join(name);
        match file::write_raw(&path, &value) {
            Ok(()) => Ok(()),
            Err(e) if file::gone(&e) && dir.exists() => {
                let reason = match self.location.mode {
                    Mode::V1 => format!("this kernel has no {name}"),
                    Mode::V2 => format!(
                        "this cgroup has no {name}: the kernel lacks it, or the `{controller}` \
                         controller is not handed down to this level (cgroup.subtree_control)"
                    ),
                };
                self.lacks(field, value, reason);
                Ok(())
            }
            Err(source) => Err(Error::Write {
                path,
                value,
                source,
            }),
        }
    }

    /// Notes what cannot be enforced.
    fn lacks(&mut self, field: &str, asked: impl Display, reason: impl Into<String>) {
        self.unenforced.push(Unenforced {
            field: field.to_owned(),
            asked: asked.to_string(),
            reason: reason.into(),
        });
    }

    fn hugepages(&mut self, limits: &[LinuxHugepageLimit], name: &str) -> Result<(), Error> {
        const FIELD: &str = "linux.resources.hugepageLimits";
        for limit in limits {
            let size = limit.page_size();
            let known = size.len() <= 16 && size.chars().all(|c| c.is_ascii_alphanumeric());
            if !known {
                return Err(Error::BadValue {
                    field: FIELD.to_owned(),
                    value: size.clone(),
                    reason: "is not a page size such as 2MB",
                });
            }
            let field = format!("{FIELD}[{size}]");
            self.set(
                "hugetlb",
                &format!("hugetlb.{size}.{name}"),
                &field,
                limit.limit(),
            )?;
            // Reservations count too, or mmap without touching gets round the limit.
            let rsvd = format!("hugetlb.{size}.rsvd.{name}");
            if self.file("hugetlb", &rsvd).is_some() {
                self.set("hugetlb", &rsvd, &field, limit.limit())?;
            }
        }
        Ok(())
    }

    fn rdma(&mut self, devices: &HashMap<String, LinuxRdma>) -> Result<(), Error> {
        const FIELD: &str = "linux.resources.rdma";
        for (device, limit) in devices {
            if device.is_empty() || device.contains(char::is_whitespace) {
                return Err(Error::BadValue {
                    field: FIELD.to_owned(),
                    value: device.clone(),
                    reason: "is not the name of an RDMA device",
                });
            }
            let mut line = device.clone();
            for (key, value) in [
                ("hca_handle", limit.hca_handles()),
                ("hca_object", limit.hca_objects()),
            ] {
                if let Some(value) = value {
                    line.push_str(&format!(" {key}={value}"));
                }
            }
            self.set("rdma", "rdma.max", &format!("{FIELD}[{device}]"), line)?;
        }
        Ok(())
    }
}

/// A value that is neither absent nor 0.
fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|v| *v != T::default())
}

/// A `major:minor` pair as the blkio and io files take it.
fn device_number(major: i64, minor: i64, field: &str) -> Result<String, Error> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => Err(Error::BadValue {
            field: field.to_owned(),
            value: format!("{major}:{minor}"),
            reason: "is not a device number",
        }),
    }
}
