//! Documents out again: OCI, Docker's and Podman's JSON, the operator's YAML.

use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
};
use serde::Serialize;

use super::document::{Condition, Dialect, Document, Entry};
use super::error::DialectError;
use super::resolve::Target;
use super::{errno, yaml_out};

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// The dialect.
    pub dialect: Dialect,
    /// The container to resolve rules for. Without it, Docker's and Podman's keep their conditions.
    pub target: Option<&'a Target>,
    /// The container to resolve for where the dialect has no conditions and `target` is not given.
    pub usual: &'a Target,
    /// What the operator is to call it.
    pub name: &'a str,
}

/// Writes a document in a dialect; the text ends with a newline.
pub fn write(document: &Document, output: &Output) -> Result<String, DialectError> {
    let resolved = |target| document.oci(target);
    match output.dialect {
        Dialect::Oci => json(&resolved(output.target.unwrap_or(output.usual))?),
        Dialect::Spo => {
            let profile = resolved(output.target.unwrap_or(output.usual))?;
            operator(&profile, output.name)
        }
        dialect @ (Dialect::Docker | Dialect::Podman) => match output.target {
            Some(target) => json(&Engine::resolved(&resolved(target)?, dialect)),
            None => {
                if let Some(name) = &document.profile.base {
                    return Err(DialectError::BaseNeeded { name: name.clone() });
                }
                json(&Engine::new(document, dialect))
            }
        },
    }
}

fn json(value: &impl Serialize) -> Result<String, DialectError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|_| DialectError::Inexpressible {
            what: "a path that is no text".to_owned(),
            dialect: Dialect::Oci,
            instead: "rename it",
        })?;
    text.push('\n');
    Ok(text)
}

/// Docker's and Podman's form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Engine<'a> {
    default_action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architectures: Option<&'a [OciArch]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch_map: Option<Vec<EngineArch<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<&'a [LinuxSeccompFilterFlag]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_metadata: Option<&'a str>,
    syscalls: Vec<EngineRule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EngineArch<'a> {
    architecture: OciArch,
    sub_architectures: &'a [OciArch],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EngineRule<'a> {
    names: &'a [String],
    action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    args: &'a [LinuxSeccompArg],
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    includes: Option<EngineCondition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excludes: Option<EngineCondition<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EngineCondition<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    caps: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    arches: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    min_kernel: Option<String>,
}

impl<'a> Engine<'a> {
    /// With the conditions on the container.
    fn new(document: &'a Document, dialect: Dialect) -> Self {
        let profile = &document.profile;
        let arch_map = profile.arch_map.as_ref().map(|map| {
            map.iter()
                .map(|entry| EngineArch {
                    architecture: entry.architecture,
                    sub_architectures: &entry.sub_architectures,
                })
                .collect()
        });
        let rule = |entry: &'a Entry| EngineRule {
            names: &entry.names,
            action: entry.action,
            errno_ret: entry.errno,
            errno: errno_name(dialect, entry.errno),
            args: &entry.args,
            comment: entry.comment.as_deref().filter(|text| !text.is_empty()),
            includes: condition(&entry.includes),
            excludes: condition(&entry.excludes),
        };
        Self {
            default_action: profile.default_action,
            default_errno_ret: profile.default_errno,
            default_errno: errno_name(dialect, profile.default_errno),
            architectures: profile.architectures.as_deref(),
            arch_map,
            flags: profile.flags.as_deref(),
            listener_path: profile.listener_path.as_deref(),
            listener_metadata: profile.listener_metadata.as_deref(),
            syscalls: profile.syscalls.iter().map(rule).collect(),
        }
    }

    /// For one container only.
    fn resolved(profile: &'a LinuxSeccomp, dialect: Dialect) -> Self {
        let rules = profile.syscalls().as_deref().unwrap_or_default();
        let path = profile.listener_path().as_ref();
        Self {
            default_action: profile.default_action(),
            default_errno_ret: profile.default_errno_ret(),
            default_errno: errno_name(dialect, profile.default_errno_ret()),
            architectures: profile.architectures().as_deref(),
            arch_map: None,
            flags: profile.flags().as_deref(),
            // It came from a text.
            listener_path: path.and_then(|path| path.to_str()),
            listener_metadata: profile.listener_metadata().as_deref(),
            syscalls: rules
                .iter()
                .map(|rule| EngineRule {
                    names: rule.names(),
                    action: rule.action(),
                    errno_ret: rule.errno_ret(),
                    errno: errno_name(dialect, rule.errno_ret()),
                    args: rule.args().as_deref().unwrap_or_default(),
                    comment: None,
                    includes: None,
                    excludes: None,
                })
                .collect(),
        }
    }
}

fn errno_name(dialect: Dialect, errno: Option<u32>) -> Option<&'static str> {
    errno
        .filter(|_| dialect == Dialect::Podman)
        .and_then(errno::name)
}

fn condition(condition: &Condition) -> Option<EngineCondition<'_>> {
    (!condition.is_empty()).then(|| EngineCondition {
        caps: condition
            .capabilities
            .iter()
            .map(|capability| format!("CAP_{capability}"))
            .collect(),
        arches: &condition.arches,
        min_kernel: condition.min_kernel.map(|kernel| kernel.to_string()),
    })
}

/// The operator's resource. It has no field for the default's errno.
fn operator(profile: &LinuxSeccomp, name: &str) -> Result<String, DialectError> {
    if let Some(errno) = profile.default_errno_ret().filter(|errno| *errno != 1) {
        return Err(DialectError::Inexpressible {
            what: format!("the default errno {errno}"),
            dialect: Dialect::Spo,
            instead: "list the calls that need it in a rule with errnoRet, and take EPERM (1) as \
                      the default's",
        });
    }
    let mut out = yaml_out::Writer::default();
    out.field(
        0,
        "apiVersion",
        "security-profiles-operator.x-k8s.io/v1beta1",
    );
    out.field(0, "kind", "SeccompProfile");
    out.open(0, "metadata");
    out.field(1, "name", name);
    out.open(0, "spec");
    out.field(1, "defaultAction", &profile.default_action().to_string());
    if let Some(list) = profile.architectures() {
        out.list(1, "architectures", list.iter().map(ToString::to_string));
    }
    if let Some(list) = profile.flags() {
        out.list(1, "flags", list.iter().map(ToString::to_string));
    }
    if let Some(path) = profile.listener_path() {
        out.field(1, "listenerPath", &path.display().to_string());
    }
    if let Some(text) = profile.listener_metadata() {
        out.field(1, "listenerMetadata", text);
    }
    out.open(1, "syscalls");
    for rule in profile.syscalls().iter().flatten() {
        out.item(1, "action", &rule.action().to_string());
        out.list(2, "names", rule.names().iter().cloned());
        if let Some(errno) = rule.errno_ret() {
            // A string in the operator's types.
            out.quoted(2, "errnoRet", &errno.to_string());
        }
        let args = rule.args().as_deref().unwrap_or_default();
        if !args.is_empty() {
            out.open(2, "args");
        }
        for arg in args {
            out.item(2, "index", &arg.index().to_string());
            out.field(3, "value", &arg.value().to_string());
            if let Some(two) = arg.value_two() {
                out.field(3, "valueTwo", &two.to_string());
            }
            out.field(3, "op", &arg.op().to_string());
        }
    }
    Ok(out.finish())
}
