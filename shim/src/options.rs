//! The runtime options that containerd's configuration and `ctr` hand to the shim.
//!
//! Four forms reach us as a protobuf `Any`:
//! - `containerd.runc.v1.Options`, which `ctr` and Docker send by default,
//! - `containerd.linux.runc.CreateOptions`, which `ctr` before 2.0 sends with `--uidmap` to every shim that is
//!   not runc's,
//! - `runtimeoptions.v1.Options`, the generic form, whose TOML body (or file) is [`Handler`],
//! - nothing.
//!
//! An option that we do not know is an error: to drop it silently could drop a protection.

use std::fs;
use std::io;
use std::path::PathBuf;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, CodedInputStream, Message};
use containerd_shim_protos::shim::oci;
use serde::Deserialize;

/// What the options ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Cgroups go through systemd.
    pub systemd_cgroup: bool,
    /// `MS_MOVE` in place of `pivot_root`.
    pub no_pivot: bool,
    /// Keep the session keyring.
    pub no_new_keyring: bool,
    /// The state root, below which there is a directory per namespace.
    pub root: Option<PathBuf>,
    /// The cgroup the shim itself joins.
    pub shim_cgroup: Option<String>,
    /// The policy's name.
    pub policy: Option<String>,
}

/// The TOML of a runtime handler: the `options` table of the runtime in containerd's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Handler {
    policy: Option<String>,
    #[serde(rename = "SystemdCgroup")]
    systemd_cgroup: bool,
    #[serde(rename = "NoPivotRoot")]
    no_pivot: bool,
    #[serde(rename = "NoNewKeyring")]
    no_new_keyring: bool,
    #[serde(rename = "ShimCgroup")]
    shim_cgroup: Option<String>,
    #[serde(rename = "Root")]
    root: Option<PathBuf>,
    /// Names the type of this very table.
    #[serde(rename = "TypeUrl")]
    _type_url: Option<String>,
    #[serde(rename = "ConfigPath")]
    _config_path: Option<String>,
}

/// Why the options are not usable.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// An `Any` of a type that we do not read.
    #[error(
        "runtime options of type {0:?} are not supported; use runtimeoptions.v1.Options or \
         containerd.runc.v1.Options"
    )]
    Type(String),
    /// The protobuf message is damaged.
    #[error("cannot decode the runtime options")]
    Decode(#[from] protobuf::Error),
    /// The TOML has an error or a key that we do not know.
    #[error("cannot read the runtime handler's options")]
    Toml(#[source] Box<toml::de::Error>),
    /// The file that the options point to cannot be read.
    #[error("cannot read the runtime handler's options from {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// containerd 1.6 drops every option that it does not know itself.
    #[error(
        "the runtime handler's options came without content: containerd 1.6 passes on only \
         ConfigPath, so put them into a file and name it there, or remove the options table"
    )]
    Empty,
    /// An option that we do not honour, so we refuse it.
    #[error("the runtime option {0} is not supported")]
    Unsupported(&'static str),
}

impl Options {
    /// Reads the options of a create request or of the shim's standard input.
    pub fn from_any(any: Option<&Any>) -> Result<Self, OptionsError> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        match name {
            "containerd.runc.v1.Options" => Self::from_runc(&any.value),
            "containerd.linux.runc.CreateOptions" => Self::from_create(&any.value),
            "runtimeoptions.v1.Options" | "containerd.runtimeoptions.v1.Options" => {
                Self::from_generic(&any.value)
            }
            _ => Err(OptionsError::Type(any.type_url.clone())),
        }
    }

    fn from_runc(value: &[u8]) -> Result<Self, OptionsError> {
        let options = oci::Options::parse_from_bytes(value)?;
        if !options.task_api_address.is_empty() {
            return Err(OptionsError::Unsupported("task_api_address"));
        }
        // binary_name, io_uid and io_gid name a program and pipes that this shim does not have.
        Ok(Self {
            systemd_cgroup: options.systemd_cgroup,
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            root: (!options.root.is_empty()).then(|| options.root.into()),
            shim_cgroup: (!options.shim_cgroup.is_empty()).then_some(options.shim_cgroup),
            policy: None,
        })
    }

    /// `containerd.linux.runc.CreateOptions` (runtime/linux/runctypes/runc.proto): 1 no_pivot_root,
    /// 8 no_new_keyring, 9 shim_cgroup, 10 io_uid, 11 io_gid. The last two are of pipes that this shim
    /// does not have.
    fn from_create(value: &[u8]) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let mut input = CodedInputStream::from_bytes(value);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match (tag >> 3, tag & 7) {
                (1, 0) => options.no_pivot = input.read_bool()?,
                (8, 0) => options.no_new_keyring = input.read_bool()?,
                (9, 2) => options.shim_cgroup = Some(input.read_string()?),
                (10 | 11, 0) => drop(input.read_uint32()?),
                _ => return Err(OptionsError::Unsupported("of an unknown field number")),
            }
        }
        options.shim_cgroup = options.shim_cgroup.filter(|cgroup| !cgroup.is_empty());
        Ok(options)
    }

    /// `runtimeoptions.v1.Options`: 1 type_url, 2 config_path, 3 config_body.
    fn from_generic(value: &[u8]) -> Result<Self, OptionsError> {
        let (mut path, mut body) = (String::new(), String::new());
        let mut input = CodedInputStream::from_bytes(value);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match tag >> 3 {
                1 => drop(input.read_string()?),
                2 => path = input.read_string()?,
                3 => body = input.read_string()?,
                _ => return Err(OptionsError::Unsupported("of an unknown field number")),
            }
        }
        if body.is_empty() && !path.is_empty() {
            body = fs::read_to_string(&path).map_err(|source| OptionsError::File {
                path: path.clone().into(),
                source,
            })?;
        }
        if body.is_empty() && path.is_empty() {
            return Err(OptionsError::Empty);
        }
        Self::from_toml(&body)
    }

    fn from_toml(text: &str) -> Result<Self, OptionsError> {
        let handler: Handler = toml::from_str(text).map_err(|e| OptionsError::Toml(Box::new(e)))?;
        Ok(Self {
            systemd_cgroup: handler.systemd_cgroup,
            no_pivot: handler.no_pivot,
            no_new_keyring: handler.no_new_keyring,
            root: handler.root,
            shim_cgroup: handler.shim_cgroup,
            policy: handler.policy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: type_url.to_owned(),
            value,
            ..Default::default()
        }
    }

    fn generic(field: u8, text: &str) -> Any {
        let mut value = vec![field << 3 | 2, u8::try_from(text.len()).unwrap()];
        value.extend_from_slice(text.as_bytes());
        any("runtimeoptions.v1.Options", value)
    }

    #[test]
    fn known_forms_are_read() {
        assert_eq!(Options::from_any(None).unwrap(), Options::default());
        let runc = oci::Options {
            systemd_cgroup: true,
            no_new_keyring: true,
            root: "/run/x".to_owned(),
            binary_name: "runc".to_owned(),
            ..Default::default()
        };
        let got = Options::from_any(Some(&any(
            "containerd.runc.v1.Options",
            runc.write_to_bytes().unwrap(),
        )));
        let expected = Options {
            systemd_cgroup: true,
            no_new_keyring: true,
            root: Some("/run/x".into()),
            ..Default::default()
        };
        assert_eq!(got.unwrap(), expected);

        // `ctr run --uidmap 0:100000:65536`: io_uid and io_gid.
        let create = |value: &[u8]| {
            let name = "containerd.linux.runc.CreateOptions";
            Options::from_any(Some(&any(name, value.to_vec())))
        };
        let got = create(&[0x50, 0xa0, 0x8d, 0x06, 0x58, 0xa0, 0x8d, 0x06]);
        assert_eq!(got.unwrap(), Options::default());
        let got = create(&[0x08, 1, 0x40, 1, 0x4a, 1, b'c']).unwrap();
        assert!(got.no_pivot && got.no_new_keyring);
        assert_eq!(got.shim_cgroup.as_deref(), Some("c"));

        let body = "policy = \"restricted\"\nSystemdCgroup = true";
        let got = Options::from_any(Some(&generic(3, body))).unwrap();
        assert_eq!(got.policy.as_deref(), Some("restricted"));
        assert!(got.systemd_cgroup);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("o");
        fs::write(&file, "policy = \"p\"").unwrap();
        let got = Options::from_any(Some(&generic(2, file.to_str().unwrap()))).unwrap();
        assert_eq!(got.policy.as_deref(), Some("p"));
    }

    #[test]
    fn what_we_do_not_know_is_refused() {
        let bad = [
            any("example.com/Unknown", Vec::new()),
            any("containerd.runc.v1.Options", vec![0xff]),
            // open_tcp, and a length where a number should be.
            any("containerd.linux.runc.CreateOptions", vec![0x10, 1]),
            any("containerd.linux.runc.CreateOptions", vec![0x52, 1, 0]),
            any("containerd.linux.runc.CreateOptions", vec![0x50]),
            generic(3, "polcy = \"x\""),
            generic(3, "policy = 7"),
            generic(2, "/nonexistent/options"),
            generic(9, "x"),
            any("runtimeoptions.v1.Options", Vec::new()),
            generic(1, "runtimeoptions.v1.Options"),
        ];
        for any in bad {
            assert!(Options::from_any(Some(&any)).is_err(), "{any:?}");
        }
    }
}
