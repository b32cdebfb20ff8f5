//! The text of a policy file to policies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use super::toml::{Problem, Table, Text, unknown};
use crate::apparmor::Mode;
use crate::capability;
use crate::policy::builtin::BASELINE;
use crate::policy::model::{
    ApparmorChoice, BestEffort, Denials, Isolation, Policy, ReadOnlyRootfs, SeccompChoice,
    UserNamespace, Verdict,
};
use crate::policy::rules::{labels, process, sensitive, sysctls};
use crate::policy::select::ANNOTATIONS;
use crate::seccomp::Compat32;

const VERDICTS: &[(&str, Verdict)] = &[
    ("deny", Verdict::Deny),
    ("strip", Verdict::Strip),
    ("allow", Verdict::Allow),
];
const DENY_OR_STRIP: &[(&str, Verdict)] = &[("deny", Verdict::Deny), ("strip", Verdict::Strip)];
const DENY_OR_ALLOW: &[(&str, Verdict)] = &[("deny", Verdict::Deny), ("allow", Verdict::Allow)];

const DENIALS: &[(&str, Denials)] = &[("silent", Denials::Silent), ("explain", Denials::Explain)];

/// The longest name of a policy.
const MAX_NAME: usize = 63;

/// What a policy file says.
pub(super) struct Decoded {
    pub(super) default: Option<String>,
    pub(super) annotations: BTreeSet<String>,
    /// The built-in policies and the file's.
    pub(super) policies: BTreeMap<String, Policy>,
}

/// Reads the text of a policy file; `builtin` are the policies every file starts from.
pub(super) fn decode(text: &str, builtin: BTreeMap<String, Policy>) -> Result<Decoded, Problem> {
    let document = DeTable::parse(text).map_err(|error| Problem {
        offset: error.span().map_or(0, |span| span.start),
        message: error.message().to_owned(),
    })?;
    let mut top = Table::new("", document.get_ref());
    let default = top.text("default")?;
    let mut annotations = BTreeSet::new();
    if let Some(mut table) = top.table("annotations")? {
        table.set("allow", &mut annotations, known_annotation)?;
        table.finish()?;
    }
    let mut drafts = BTreeMap::new();
    if let Some(table) = top.table("policy")? {
        for (name, mut table) in table.tables()? {
            check_name(&name, &builtin)?;
            let extends = table.text("extends")?;
            let open = false;
            let draft = Draft {
                extends,
                table,
                open,
            };
            drafts.insert(name.value, draft);
        }
    }
    top.finish()?;
    let policies = Resolver {
        drafts,
        open: Vec::new(),
        done: builtin,
    }
    .all()?;
    if let Some(text) = default
        .as_ref()
        .filter(|text| !policies.contains_key(&text.value))
    {
        let names = policies.keys().map(String::as_str);
        return Err(Problem::at(
            &text.span,
            unknown("policy", &text.value, names),
        ));
    }
    Ok(Decoded {
        default: default.map(|text| text.value),
        annotations,
        policies,
    })
}

fn known_annotation(key: &str) -> Result<String, String> {
    if ANNOTATIONS.contains(&key) {
        Ok(key.to_owned())
    } else {
        Err(unknown("annotation", key, ANNOTATIONS.iter().copied()))
    }
}

fn check_name(name: &Text, builtin: &BTreeMap<String, Policy>) -> Result<(), Problem> {
    let text = &name.value;
    if builtin.contains_key(text) {
        let message = format!(
            "the policy {text:?} is built in and cannot be changed; write one of another name with \
             `extends = {text:?}` and make it the default"
        );
        return Err(Problem::at(&name.span, message));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
        let message = format!(
            "a policy's name has 1 to {MAX_NAME} letters, digits, dots, dashes and underscores"
        );
        return Err(Problem::at(&name.span, message));
    }
    Ok(())
}

/// A policy of the file before what it extends is known.
struct Draft<'t> {
    extends: Option<Text>,
    table: Table<'t>,
    /// One of [`Resolver::open`].
    open: bool,
}

/// Settles policies in the order in which they extend each other.
struct Resolver<'t> {
    drafts: BTreeMap<String, Draft<'t>>,
    /// The policies being settled: each extends the next.
    open: Vec<String>,
    done: BTreeMap<String, Policy>,
}

impl Resolver<'_> {
    fn all(mut self) -> Result<BTreeMap<String, Policy>, Problem> {
        while let Some(name) = self.drafts.keys().next().cloned() {
            self.settle(&name)?;
        }
        Ok(self.done)
    }

    /// Settles a draft and, before it, all it extends; a loop, so that no chain is too long.
    fn settle(&mut self, name: &str) -> Result<(), Problem> {
        self.open.push(name.to_owned());
        while let Some(name) = self.open.last().cloned() {
            let Some(draft) = self.drafts.get_mut(&name) else {
                self.open.pop();
                continue;
            };
            draft.open = true;
            let extends = draft.extends.clone().unwrap_or_else(|| Text {
                value: BASELINE.to_owned(),
                span: 0..0,
            });
            if let Some(base) = self.done.get(&extends.value).cloned() {
                if let Some(draft) = self.drafts.remove(&name) {
                    self.done
                        .insert(name.clone(), finish(name, base, draft.table)?);
                }
                self.open.pop();
                continue;
            }
            match self.drafts.get(&extends.value) {
                Some(draft) if draft.open => return Err(self.circle(&extends)),
                Some(_) => self.open.push(extends.value),
                None => {
                    let names = self.done.keys().chain(self.drafts.keys());
                    let message = unknown("policy", &extends.value, names.map(String::as_str));
                    return Err(Problem::at(&extends.span, message));
                }
            }
        }
        Ok(())
    }

    fn circle(&self, last: &Text) -> Problem {
        let start = self.open.iter().position(|name| *name == last.value);
        let names = self.open.get(start.unwrap_or(0)..).unwrap_or_default();
        let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
        let more = if names.len() > shown.len() {
            " extends ..."
        } else {
            ""
        };
        let circle = format!("{}{more} extends {}", shown.join(" extends "), last.value);
        Problem::at(
            &last.span,
            format!("policies extend each other in a circle: {circle}"),
        )
    }
}

/// Lays a table of the file over the policy it extends.
fn finish(name: String, base: Policy, mut table: Table<'_>) -> Result<Policy, Problem> {
    let mut policy = Policy { name, ..base };
    top_level(&mut policy, &mut table)?;
    if let Some(mut table) = table.table("capabilities")? {
        let rules = &mut policy.capabilities;
        if let Some(names) = table.texts("bounding")? {
            let known = |name: &Text| {
                capability::parse(&name.value).ok_or_else(|| unknown_capability(name))
            };
            rules.bounding = names.iter().map(known).collect::<Result<_, _>>()?;
        }
        table.choice("beyond", DENY_OR_STRIP, &mut rules.beyond)?;
        table.finish()?;
    }
    if let Some(mut table) = table.table("host_namespaces")? {
        let rules = &mut policy.host_namespaces;
        table.choice("pid", VERDICTS, &mut rules.pid)?;
        table.choice("network", VERDICTS, &mut rules.network)?;
        table.choice("ipc", VERDICTS, &mut rules.ipc)?;
        table.choice("uts", VERDICTS, &mut rules.uts)?;
        table.choice("cgroup", VERDICTS, &mut rules.cgroup)?;
        table.choice("user", DENY_OR_ALLOW, &mut rules.user)?;
        table.finish()?;
    }
    if let Some(mut table) = table.table("mounts")? {
        let rules = &mut policy.mounts;
        table.choice("sensitive", VERDICTS, &mut rules.sensitive)?;
        table.set("paths", &mut rules.paths, host_path)?;
        table.set("allow", &mut rules.allow, host_path)?;
        table.choice(
            "shared_propagation",
            VERDICTS,
            &mut rules.shared_propagation,
        )?;
        table.choice("kernel_write", VERDICTS, &mut rules.kernel_write)?;
        table.choice("other_types", VERDICTS, &mut rules.other_types)?;
        table.choice("unmapped", DENY_OR_ALLOW, &mut rules.unmapped)?;
        table.finish()?;
    }
    if let Some(mut table) = table.table("devices")? {
        let rules = &mut policy.devices;
        table.choice("beyond", VERDICTS, &mut rules.beyond)?;
        let read = |text: &str| {
            text.parse()
                .map_err(|e: crate::policy::device::DeviceError| e.to_string())
        };
        table.set("allow", &mut rules.allow, read)?;
        table.finish()?;
    }
    if let Some(mut table) = table.table("sysctls")? {
        let rules = &mut policy.sysctls;
        table.choice("beyond", VERDICTS, &mut rules.beyond)?;
        table.set("allow", &mut rules.allow, sysctl)?;
        table.finish()?;
    }
    if let Some(mut table) = table.table("rlimits")? {
        policy.rlimits.clear();
        for name in process::limit_names() {
            if let Some(highest) = table.number(name)? {
                policy.rlimits.insert(name.to_owned(), highest);
            }
        }
        table.finish()?;
    }
    table.finish()?;
    Ok(policy)
}

fn top_level(policy: &mut Policy, table: &mut Table<'_>) -> Result<(), Problem> {
    let places = [
        ("microvm", Isolation::Microvm),
        ("host-kernel", Isolation::HostKernel),
    ];
    table.choice("isolation", &places, &mut policy.isolation)?;
    table.choice("privileged", VERDICTS, &mut policy.privileged)?;
    table.choice("run_as_root", DENY_OR_ALLOW, &mut policy.run_as_root)?;
    table.flag("no_new_privileges", &mut policy.no_new_privileges)?;
    let choices = [
        ("generate", SeccompChoice::Generate),
        ("intersect", SeccompChoice::Intersect),
        ("default", SeccompChoice::Default),
        ("engine", SeccompChoice::Engine),
    ];
    table.choice("seccomp", &choices, &mut policy.seccomp)?;
    if let Some(text) = table.text("seccomp_recordings")? {
        policy.seccomp_recordings = match text.value.as_str() {
            "" => None,
            path => {
                absolute(path).map_err(|message| Problem::at(&text.span, message))?;
                Some(path.into())
            }
        };
    }
    table.choice("denials", DENIALS, &mut policy.denials)?;
    let choices = [
        ("refused", Compat32::Refused),
        ("filtered", Compat32::Filtered),
        ("socketcall", Compat32::Socketcall),
    ];
    let key = "seccomp_compat32";
    table.choice(key, &choices, &mut policy.seccomp_compat32)?;
    let choices = [
        ("asked", ReadOnlyRootfs::Asked),
        ("required", ReadOnlyRootfs::Required),
    ];
    table.choice("read_only_rootfs", &choices, &mut policy.read_only_rootfs)?;
    table.set("masked_paths", &mut policy.masked_paths, container_path)?;
    table.set("readonly_paths", &mut policy.readonly_paths, container_path)?;
    table.set("best_effort", &mut policy.best_effort, |text| match text {
        "apparmor" => Ok(BestEffort::Apparmor),
        "generated-seccomp" => Ok(BestEffort::GeneratedSeccomp),
        "landlock" => Ok(BestEffort::Landlock),
        "selinux" => Ok(BestEffort::Selinux),
        "user-namespace" => Ok(BestEffort::UserNamespace),
        other => Err(unknown(
            "feature",
            other,
            [
                "apparmor",
                "generated-seccomp",
                "landlock",
                "selinux",
                "user-namespace",
            ]
            .into_iter(),
        )),
    })?;
    let choices = [
        ("generate", ApparmorChoice::Generate),
        ("engine", ApparmorChoice::Engine),
    ];
    table.choice("apparmor", &choices, &mut policy.apparmor)?;
    let documents = &mut policy.apparmor_documents;
    table.set("apparmor_documents", documents, |text| {
        absolute(text).map(|()| text.into())
    })?;
    let choices = [("enforce", Mode::Enforce), ("complain", Mode::Complain)];
    table.choice("apparmor_mode", &choices, &mut policy.apparmor_mode)?;
    let key = "apparmor_unconfined";
    table.choice(key, DENY_OR_ALLOW, &mut policy.apparmor_unconfined)?;
    let key = "selinux_unconfined";
    table.choice(key, DENY_OR_ALLOW, &mut policy.selinux_unconfined)?;
    let key = "selinux_types";
    table.set(key, &mut policy.selinux_types, labels::selinux_type)?;
    table.choice("hooks", VERDICTS, &mut policy.hooks)?;
    let choices = [
        ("own", UserNamespace::Own),
        ("engine", UserNamespace::Engine),
    ];
    let key = "user_namespace";
    table.choice(key, &choices, &mut policy.user_namespace)?;
    super::landlock::decode(&mut policy.landlock, table)
}

fn unknown_capability(name: &Text) -> Problem {
    let names: Vec<String> = capability::ALL.iter().map(ToString::to_string).collect();
    let upper = name.value.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let message = unknown("capability", plain, names.iter().map(String::as_str));
    Problem::at(&name.span, message)
}

fn host_path(text: &str) -> Result<PathBuf, String> {
    absolute(text)?;
    Ok(sensitive::canonical(Path::new(text)))
}

fn container_path(text: &str) -> Result<String, String> {
    absolute(text)?;
    Ok(sensitive::plain(Path::new(text))
        .to_string_lossy()
        .into_owned())
}

pub(super) fn absolute(text: &str) -> Result<(), String> {
    let path = Path::new(text);
    let parents = path.components().any(|c| c == Component::ParentDir);
    if !path.is_absolute() || parents || text.contains('\0') {
        return Err(format!("{text:?} must be an absolute path without \"..\""));
    }
    Ok(())
}

fn sysctl(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    if name.contains('*') || sysctls::namespace(name).is_none() {
        return Err(format!(
            "{text:?} belongs to no namespace: it would change for the whole host. Kernel parameters \
             of namespaces are net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm*"
        ));
    }
    Ok(text.to_owned())
}
