//! A tree of values to a profile: one reader for all dialects, which share most of their fields.

use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};
use serde::de::DeserializeOwned;

use super::document::{ArchMap, Condition, Dialect, Document, Entry, Kernel, Profile};
use super::errno;
use super::error::DialectError;
use super::node::{Cursor, Fields, Node};
use super::place::Place;

/// The API group of the Security Profiles Operator; any version of it.
const SPO_GROUP: &str = "security-profiles-operator.x-k8s.io/";

/// What a document is a profile in, and where in it; `None` for a resource of another kind.
pub(super) fn document(root: &Node) -> Result<Document, DialectError> {
    let whole = Cursor {
        node: root,
        pointer: String::new(),
    };
    if let Some(group) = root.get("apiVersion").and_then(Node::text)
        && group.starts_with(SPO_GROUP)
    {
        return operator(&whole);
    }
    if root.get("defaultAction").is_some() {
        return profile(&whole, None);
    }
    if root.get("ociVersion").is_some() || root.get("linux").is_some() {
        let mut fields = whole.fields()?;
        let linux = fields.get("linux").ok_or(DialectError::NoSeccomp)?;
        let seccomp = linux.fields()?.get("seccomp");
        return profile(&seccomp.ok_or(DialectError::NoSeccomp)?, Some(Dialect::Oci));
    }
    Err(DialectError::Unknown)
}

/// A `SeccompProfile` resource.
fn operator(whole: &Cursor) -> Result<Document, DialectError> {
    let mut fields = whole.fields()?;
    let kind = fields.need("kind")?;
    if kind.text()? != "SeccompProfile" {
        return Err(DialectError::OtherKind {
            at: kind.node.at,
            kind: kind.text()?.to_owned(),
        });
    }
    let mut document = profile(&fields.need("spec")?, Some(Dialect::Spo))?;
    if let Some(metadata) = fields.get("metadata") {
        let name = metadata.fields()?.get("name");
        document.name = name.map(|name| name.text()).transpose()?.map(str::to_owned);
    }
    Ok(document)
}

/// Reads the profile itself; `dialect` where it is known by what is around it.
fn profile(at: &Cursor, dialect: Option<Dialect>) -> Result<Document, DialectError> {
    let mut decoder = Decoder {
        docker: false,
        podman: false,
        spo: dialect == Some(Dialect::Spo),
        unknown: Vec::new(),
    };
    let profile = decoder.profile(at)?;
    let by_content = match (decoder.podman, decoder.docker) {
        (true, _) => Dialect::Podman,
        (_, true) => Dialect::Docker,
        _ => Dialect::Oci,
    };
    // A configuration with Docker's conditions in it would be run without them: say what it is.
    let dialect = match dialect {
        Some(Dialect::Oci) if by_content != Dialect::Oci => by_content,
        Some(known) => known,
        None => by_content,
    };
    Ok(Document {
        dialect,
        root: at.pointer.clone(),
        name: None,
        profile,
        unknown: decoder.unknown,
    })
}

/// What was seen on the way that tells the dialects apart.
struct Decoder {
    docker: bool,
    podman: bool,
    spo: bool,
    unknown: Vec<(Place, String)>,
}

impl Decoder {
    fn profile(&mut self, at: &Cursor) -> Result<Profile, DialectError> {
        let mut fields = at.fields()?;
        let default_action = named(&fields.need("defaultAction")?, "a seccomp action")?;
        let default_errno = self.errno(&mut fields, "defaultErrnoRet", "defaultErrno")?;
        let architectures = fields
            .get("architectures")
            .map(|list| names::<OciArch>(&list, "an architecture"))
            .transpose()?;
        let arch_map = fields.get("archMap").map(|list| self.arch_map(&list));
        let arch_map = arch_map.transpose()?;
        let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
        if some(&architectures) && arch_map.as_ref().is_some_and(|map| !map.is_empty()) {
            return Err(fields.both("architectures", "archMap"));
        }
        let flags = fields
            .get("flags")
            .map(|list| names(&list, "a seccomp filter flag"));
        let listener_path = text(&mut fields, "listenerPath")?;
        let listener_metadata = text(&mut fields, "listenerMetadata")?;
        let base = if self.spo {
            text(&mut fields, "baseProfileName")?.filter(|name| !name.is_empty())
        } else {
            None
        };
        let mut syscalls = Vec::new();
        if let Some(list) = fields.get("syscalls") {
            for entry in list.list()? {
                syscalls.push(self.entry(&entry)?);
            }
        }
        self.leftover(&fields);
        Ok(Profile {
            default_action,
            default_errno,
            architectures,
            arch_map,
            flags: flags.transpose()?,
            listener_path,
            listener_metadata,
            base,
            syscalls,
        })
    }

    fn leftover(&mut self, fields: &Fields) {
        let pointer = &fields.pointer;
        let unknown = fields.unknown();
        self.unknown
            .extend(unknown.map(|key| (key.at, format!("{pointer}/{}", key.name))));
    }

    fn arch_map(&mut self, list: &Cursor) -> Result<Vec<ArchMap>, DialectError> {
        self.docker = true;
        let mut out = Vec::new();
        for one in list.list()? {
            let mut fields = one.fields()?;
            let architecture = named(&fields.need("architecture")?, "an architecture")?;
            let sub = fields.get("subArchitectures");
            let sub = sub
                .map(|list| names(&list, "an architecture"))
                .transpose()?;
            out.push(ArchMap {
                architecture,
                sub_architectures: sub.unwrap_or_default(),
            });
            self.leftover(&fields);
        }
        Ok(out)
    }

    fn entry(&mut self, at: &Cursor) -> Result<Entry, DialectError> {
        let mut fields = at.fields()?;
        let list = fields.get("names").map(|list| list.texts()).transpose()?;
        let single = text(&mut fields, "name")?.filter(|name| !name.is_empty());
        self.docker |= single.is_some();
        let singular = single.is_some();
        let names = match (list, single) {
            (Some(list), Some(_)) if !list.is_empty() => return Err(fields.both("name", "names")),
            (_, Some(single)) => vec![single],
            (Some(list), None) => list,
            (None, None) => fields.need("names")?.texts()?,
        };
        let action = named(&fields.need("action")?, "a seccomp action")?;
        let errno = self.errno(&mut fields, "errnoRet", "errno")?;
        let mut args = Vec::new();
        if let Some(list) = fields.get("args") {
            for arg in list.list()? {
                args.push(self.arg(&arg)?);
            }
        }
        let comment = text(&mut fields, "comment")?;
        self.docker |= comment.is_some();
        let includes = self.condition(fields.get("includes"))?;
        let excludes = self.condition(fields.get("excludes"))?;
        self.leftover(&fields);
        Ok(Entry {
            at: at.node.at,
            pointer: at.pointer.clone(),
            singular,
            names,
            action,
            errno,
            args,
            comment,
            includes,
            excludes,
        })
    }

    fn arg(&mut self, at: &Cursor) -> Result<LinuxSeccompArg, DialectError> {
        let mut fields = at.fields()?;
        // What index there is at all is the model's to say; it must fit a machine word here.
        let index = fields.need("index")?;
        let index = usize::try_from(index.number(u64::from(u32::MAX))?).unwrap_or(usize::MAX);
        let arg = LinuxSeccompArgBuilder::default()
            .index(index)
            .value(number(&mut fields, "value", u64::MAX)?.unwrap_or(0))
            .op(named::<LinuxSeccompOperator>(
                &fields.need("op")?,
                "an operator",
            )?);
        let arg = match number(&mut fields, "valueTwo", u64::MAX)? {
            Some(two) => arg.value_two(two),
            None => arg,
        };
        self.leftover(&fields);
        // Every field has a default, so there is nothing to miss.
        Ok(arg.build().unwrap_or_default())
    }

    /// An errno by number, or in Podman's way by name, which there goes before the number.
    fn errno(
        &mut self,
        fields: &mut Fields,
        number_field: &'static str,
        name_field: &'static str,
    ) -> Result<Option<u32>, DialectError> {
        let by_number = match fields.get(number_field) {
            // The operator has it as a string.
            Some(cursor) if cursor.node.text().is_some() && self.spo => errno_by_name(&cursor)?,
            Some(cursor) => u32::try_from(cursor.number(u64::from(u32::MAX))?).ok(),
            None => None,
        };
        let Some(cursor) = fields.get(name_field) else {
            return Ok(by_number);
        };
        self.podman = true;
        Ok(errno_by_name(&cursor)?.or(by_number))
    }

    fn condition(&mut self, at: Option<Cursor>) -> Result<Condition, DialectError> {
        let Some(at) = at else {
            return Ok(Condition::default());
        };
        self.docker = true;
        let mut fields = at.fields()?;
        let capabilities = fields.get("caps").map(|list| names(&list, "a capability"));
        let arches = fields.get("arches").map(|list| list.texts());
        let min_kernel = match fields.get("minKernel") {
            None => None,
            Some(cursor) => {
                let text = cursor.text()?;
                let kernel = Kernel::parse(text);
                Some(kernel.ok_or_else(|| cursor.value_error(text, "a version, as in \"4.8\""))?)
            }
        };
        self.leftover(&fields);
        Ok(Condition {
            capabilities: capabilities.transpose()?.unwrap_or_default(),
            arches: arches.transpose()?.unwrap_or_default(),
            min_kernel,
        })
    }
}

/// A name (`ENOSYS`) or a number as text; the empty string is none.
fn errno_by_name(at: &Cursor) -> Result<Option<u32>, DialectError> {
    let text = at.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().ok().or_else(|| errno::number(text));
    let wanted = "an errno by name or number, as in \"ENOSYS\"";
    number.map(Some).ok_or_else(|| at.value_error(text, wanted))
}

fn text(fields: &mut Fields, name: &'static str) -> Result<Option<String>, DialectError> {
    let found = fields.get(name);
    Ok(found.map(|at| at.text()).transpose()?.map(str::to_owned))
}

fn number(fields: &mut Fields, name: &'static str, most: u64) -> Result<Option<u64>, DialectError> {
    fields.get(name).map(|at| at.number(most)).transpose()
}

/// A string that stands for one of the values of `T`, by the names of the OCI specification.
fn named<T: DeserializeOwned>(at: &Cursor, wanted: &str) -> Result<T, DialectError> {
    let text = at.text()?;
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| at.value_error(text, wanted))
}

fn names<T: DeserializeOwned>(at: &Cursor, wanted: &str) -> Result<Vec<T>, DialectError> {
    at.list()?.map(|one| named(&one, wanted)).collect()
}
