//! A profile as its author wrote it, every name with its place, faults and all.
//!
//! The readers of `dialect` stop at the first fault; a linter goes on. What cannot be read is a finding
//! and left out; what can is kept even if a runtime would refuse it, because rules speak of it.

use cofferdam_profiles::seccomp::Test;
use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use super::finding::Report;
use super::reader::{Object, Reader};
use super::rules::shape::{MALFORMED, UNKNOWN_FIELD};
use crate::dialect::node::{Node, Value};
use crate::dialect::{ArchMap, Condition, Dialect, Document, Entry, Kernel, Place, Profile};

/// A profile with places.
#[derive(Debug)]
pub(super) struct Draft {
    /// What could be read.
    pub(super) document: Document,
    /// Where the profile begins.
    pub(super) at: Place,
    /// Where the default action stands.
    pub(super) default_at: Place,
    /// Every architecture that is written, also in Docker's map, and where.
    pub(super) architectures: Vec<(Place, OciArch)>,
    /// The flags, and where the list is.
    pub(super) flags: Vec<(Place, LinuxSeccompFilterFlag)>,
    /// For every rule of the document, where its parts are.
    pub(super) places: Vec<Places>,
}

/// Where the parts of a rule are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) names: Vec<Place>,
    pub(super) args: Vec<Arg>,
    pub(super) action: Place,
    pub(super) errno: Option<Place>,
}

/// A condition as it is written: what a test makes of it is cut to what a filter can test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arg {
    pub(super) at: Place,
    pub(super) index: u64,
    pub(super) two: Option<u64>,
    pub(super) test: Test,
}

impl Draft {
    /// The rules with their places.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Entry, &Places)> {
        self.document.profile.syscalls.iter().zip(&self.places)
    }

    /// The pointer to a field of the profile.
    pub(super) fn pointer(&self, field: &str) -> String {
        format!("{}/{field}", self.document.root)
    }
}

const OCI_FIELDS: &[&str] = &[
    "defaultAction",
    "defaultErrnoRet",
    "architectures",
    "flags",
    "listenerPath",
    "listenerMetadata",
    "syscalls",
];
const OCI_ENTRY: &[&str] = &["names", "action", "errnoRet", "args"];
const ARG: &[&str] = &["index", "value", "valueTwo", "op"];

/// Reads the profile of a document; `None` if there is none.
pub(super) fn read(root: &Node, report: &mut Report) -> Option<Draft> {
    let (node, pointer, around) = find(root, report)?;
    let mut reader = Reader::new(report);
    let object = reader.object(node, &pointer)?;
    let dialect = around.unwrap_or_else(|| by_content(node));
    profile(&mut reader, &object, dialect, around == Some(Dialect::Oci))
}

/// Where the profile is, and the dialect that is told by what is around it.
fn find<'a>(root: &'a Node, report: &mut Report) -> Option<(&'a Node, String, Option<Dialect>)> {
    let api = root.get("apiVersion").and_then(Node::text);
    if api.is_some_and(|api| api.starts_with("security-profiles-operator.x-k8s.io/"))
        && let Some(spec) = root.get("spec")
        && root.get("kind").and_then(Node::text) == Some("SeccompProfile")
    {
        return Some((spec, "/spec".to_owned(), Some(Dialect::Spo)));
    }
    if root.get("defaultAction").is_some() || root.get("syscalls").is_some() {
        return Some((root, String::new(), None));
    }
    let inside = root.get("linux").and_then(|linux| linux.get("seccomp"));
    if let Some(seccomp) = inside {
        return Some((seccomp, "/linux/seccomp".to_owned(), Some(Dialect::Oci)));
    }
    report.note(
        &MALFORMED,
        root.at,
        "",
        "this is no seccomp profile: there is no defaultAction, no linux.seccomp as in a \
         container's config.json, and no SeccompProfile of the Security Profiles Operator",
    );
    None
}

/// The dialect of a profile that stands alone, by the fields it uses.
fn by_content(node: &Node) -> Dialect {
    let rules = match node.get("syscalls").map(|list| &list.value) {
        Some(Value::List(list)) => list.as_slice(),
        _ => &[],
    };
    let uses = |field: &str| rules.iter().any(|rule| rule.get(field).is_some());
    if node.get("defaultErrno").is_some() || uses("errno") {
        Dialect::Podman
    } else if node.get("archMap").is_some()
        || ["includes", "excludes", "comment", "name"]
            .iter()
            .any(|field| uses(field))
    {
        Dialect::Docker
    } else {
        Dialect::Oci
    }
}

/// The fields that a dialect has beside OCI's, of a profile and of a rule.
fn extra(dialect: Dialect) -> (&'static [&'static str], &'static [&'static str]) {
    const DOCKER: &[&str] = &["name", "comment", "includes", "excludes"];
    const PODMAN: &[&str] = &["name", "comment", "includes", "excludes", "errno"];
    match dialect {
        Dialect::Oci => (&[], &[]),
        Dialect::Docker => (&["archMap"], DOCKER),
        Dialect::Podman => (&["archMap", "defaultErrno"], PODMAN),
        Dialect::Spo => (&["baseProfileName", "disabled"], &[]),
    }
}

/// Tells of fields that nobody reads. `embedded`: a runtime reads this, not an engine.
fn leftover(reader: &mut Reader, object: &Object, known: &[&str], more: &[&str], embedded: bool) {
    for (key, _) in object.fields {
        let name = key.name.as_str();
        if known.contains(&name) || more.contains(&name) {
            continue;
        }
        let engines = [
            "archMap",
            "includes",
            "excludes",
            "defaultErrno",
            "errno",
            "name",
        ];
        let what = if embedded && engines.contains(&name) {
            "is Docker's or Podman's; a runtime that reads this file ignores it, and so would apply \
             the rest without it"
        } else {
            "is no field of a seccomp profile; runtimes ignore it"
        };
        let pointer = format!("{}/{name}", object.pointer);
        reader
            .report
            .note(&UNKNOWN_FIELD, key.at, pointer, format!("{name:?} {what}"));
    }
}

fn profile(
    reader: &mut Reader,
    object: &Object,
    dialect: Dialect,
    embedded: bool,
) -> Option<Draft> {
    let (more, more_entry) = extra(dialect);
    leftover(reader, object, OCI_FIELDS, more, embedded);
    let default = reader.need(object, "defaultAction");
    let default_at = default.map_or(object.at, |node| node.at);
    let default_action = default.and_then(|node| {
        reader.named::<LinuxSeccompAction>(node, &object.pointer_to("defaultAction"), "an action")
    });
    let default_errno = reader.errno(object, "defaultErrnoRet", "defaultErrno");
    let written = reader.names::<OciArch>(object, "architectures", "an architecture");
    let flags = reader.names::<LinuxSeccompFilterFlag>(object, "flags", "a seccomp flag");
    let mut architectures = written.clone();
    let mut arch_map = Vec::new();
    for (node, pointer) in reader.list(object, "archMap") {
        let Some(one) = reader.object(node, &pointer) else {
            continue;
        };
        leftover(
            reader,
            &one,
            &["architecture", "subArchitectures"],
            &[],
            embedded,
        );
        let own = reader.need(&one, "architecture").and_then(|node| {
            let pointer = one.pointer_to("architecture");
            Some((
                node.at,
                reader.named::<OciArch>(node, &pointer, "an architecture")?,
            ))
        });
        let sub = reader.names::<OciArch>(&one, "subArchitectures", "an architecture");
        architectures.extend(own.iter().chain(&sub).copied());
        if let Some((_, architecture)) = own {
            arch_map.push(ArchMap {
                architecture,
                sub_architectures: sub.into_iter().map(|(_, arch)| arch).collect(),
            });
        }
    }
    let mut syscalls = Vec::new();
    let mut places = Vec::new();
    for (node, pointer) in reader.list(object, "syscalls") {
        let Some(one) = reader.object(node, &pointer) else {
            continue;
        };
        leftover(reader, &one, OCI_ENTRY, more_entry, embedded);
        if let Some((entry, place)) = entry(reader, &one, embedded) {
            syscalls.push(entry);
            places.push(place);
        }
    }
    let profile = Profile {
        default_action: default_action?,
        default_errno,
        architectures: object
            .has("architectures")
            .then(|| written.iter().map(|(_, arch)| *arch).collect()),
        arch_map: object.has("archMap").then_some(arch_map),
        flags: object
            .has("flags")
            .then(|| flags.iter().map(|(_, flag)| *flag).collect()),
        listener_path: reader.text(object, "listenerPath"),
        listener_metadata: reader.text(object, "listenerMetadata"),
        base: reader
            .text(object, "baseProfileName")
            .filter(|name| !name.is_empty()),
        syscalls,
    };
    let document = Document {
        dialect,
        root: object.pointer.clone(),
        name: None,
        profile,
        unknown: Vec::new(),
    };
    let at = object.at;
    Some(Draft {
        document,
        at,
        default_at,
        architectures,
        flags,
        places,
    })
}

fn entry(reader: &mut Reader, object: &Object, embedded: bool) -> Option<(Entry, Places)> {
    let mut names = Vec::new();
    for (node, pointer) in reader.list(object, "names") {
        names.extend(reader.string(node, &pointer).map(|name| (node.at, name)));
    }
    let single = reader.text(object, "name").filter(|name| !name.is_empty());
    let singular = single.is_some() && names.is_empty();
    if let (true, Some(single)) = (singular, single) {
        let at = object.get("name").map_or(object.at, |node| node.at);
        names.push((at, single));
    }
    let action = reader.need(object, "action")?;
    let at = object.pointer_to("action");
    let value = reader.named::<LinuxSeccompAction>(action, &at, "an action")?;
    let errno = reader.errno(object, "errnoRet", "errno");
    let mut args = Vec::new();
    for (node, pointer) in reader.list(object, "args") {
        let Some(one) = reader.object(node, &pointer) else {
            continue;
        };
        leftover(reader, &one, ARG, &[], embedded);
        // A condition that cannot be read would leave a rule that means something else.
        args.push(arg(reader, &one)?);
    }
    let (includes, excludes) = if embedded {
        (Condition::default(), Condition::default())
    } else {
        (
            condition(reader, object, "includes"),
            condition(reader, object, "excludes"),
        )
    };
    let place = Places {
        names: names.iter().map(|(at, _)| *at).collect(),
        action: action.at,
        errno: object
            .get("errnoRet")
            .or_else(|| object.get("errno"))
            .map(|node| node.at),
        args: args.iter().map(|(_, arg)| *arg).collect(),
    };
    let entry = Entry {
        at: object.at,
        pointer: object.pointer.clone(),
        singular,
        names: names.into_iter().map(|(_, name)| name).collect(),
        action: value,
        errno,
        args: args.into_iter().map(|(oci, _)| oci).collect(),
        comment: None,
        includes,
        excludes,
    };
    Some((entry, place))
}

fn arg(reader: &mut Reader, object: &Object) -> Option<(LinuxSeccompArg, Arg)> {
    let index = reader.need(object, "index")?;
    let index = reader.number(index, &object.pointer_to("index"))?;
    let op = reader.need(object, "op")?;
    let op = reader.named::<LinuxSeccompOperator>(op, &object.pointer_to("op"), "an operator")?;
    let mut field = |name: &str| match object.get(name) {
        Some(node) => reader.number(node, &object.pointer_to(name)).map(Some),
        None => Some(None),
    };
    let (value, two) = (field("value")?.unwrap_or(0), field("valueTwo")?);
    let built = LinuxSeccompArgBuilder::default()
        .index(usize::try_from(index).unwrap_or(usize::MAX))
        .value(value)
        .op(op);
    let built = match two {
        Some(two) => built.value_two(two),
        None => built,
    };
    // Every field has a default, so there is nothing to miss.
    let oci = built.build().unwrap_or_default();
    let test = Test::from_oci(&oci);
    let at = object.at;
    Some((
        oci,
        Arg {
            at,
            index,
            two,
            test,
        },
    ))
}

fn condition(reader: &mut Reader, object: &Object, field: &str) -> Condition {
    let Some(node) = object.get(field) else {
        return Condition::default();
    };
    let Some(object) = reader.object(node, &object.pointer_to(field)) else {
        return Condition::default();
    };
    leftover(
        reader,
        &object,
        &["caps", "arches", "minKernel"],
        &[],
        false,
    );
    let capabilities = reader.names(&object, "caps", "a capability");
    let mut arches = Vec::new();
    for (node, pointer) in reader.list(&object, "arches") {
        arches.extend(reader.string(node, &pointer));
    }
    let min_kernel = reader.text(&object, "minKernel").and_then(|text| {
        let kernel = Kernel::parse(&text);
        if kernel.is_none() {
            let pointer = object.pointer_to("minKernel");
            let words = format!("{text:?} is no kernel version, as in \"4.8\"");
            reader.report.note(&MALFORMED, object.at, pointer, words);
        }
        kernel
    });
    Condition {
        capabilities: capabilities.into_iter().map(|(_, one)| one).collect(),
        arches,
        min_kernel,
    }
}
