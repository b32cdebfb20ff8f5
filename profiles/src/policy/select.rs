//! Which policy holds: the command line, else the handler, else the environment, else the file's
//! default; an annotation may only tighten that, unless the administrator's file lists its key.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::facts::Wanted;
use super::landlock::{LANDLOCK_ANNOTATION, LandlockRules};
use super::model::{ApparmorChoice, Denials, Isolation, SeccompChoice};
use super::recording::RECORD_ANNOTATION;
use super::text::harmless;
use super::{Policy, PolicyFile, Refusal, Selection};

/// The annotation that names a policy.
pub const POLICY_ANNOTATION: &str = "cofferdam.dev/policy";

/// The annotation that asks for denied calls to be explained, or not to be.
pub const DENIALS_ANNOTATION: &str = "cofferdam.dev/denials";

/// The annotation that asks for a virtual machine.
pub const ISOLATION_ANNOTATION: &str = "cofferdam.dev/isolation";

/// The annotation with a virtual machine's memory, MiB.
pub const VM_MEMORY_ANNOTATION: &str = "cofferdam.dev/vm-memory";

/// The annotation with the number of its processors.
pub const VM_CPUS_ANNOTATION: &str = "cofferdam.dev/vm-cpus";

/// Every annotation of ours.
pub const ANNOTATIONS: &[&str] = &[
    POLICY_ANNOTATION,
    DENIALS_ANNOTATION,
    LANDLOCK_ANNOTATION,
    RECORD_ANNOTATION,
    ISOLATION_ANNOTATION,
    VM_MEMORY_ANNOTATION,
    VM_CPUS_ANNOTATION,
];

/// What the keys of our annotations begin with.
const PREFIX: &str = "cofferdam.dev/";

impl PolicyFile {
    /// The policy in force, and in words how it was chosen.
    pub(crate) fn select(
        &self,
        selection: &Selection,
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<(Policy, String), Refusal> {
        let (mut policy, how) = self.choose(selection, annotations)?;
        if let Some(asked) = asked_denials(annotations)?
            && (asked < policy.denials || self.annotation_may_loosen(DENIALS_ANNOTATION))
        {
            policy.denials = asked;
        }
        if let Some(asked) = asked_isolation(annotations)?
            && (asked < policy.isolation || self.annotation_may_loosen(ISOLATION_ANNOTATION))
        {
            policy.isolation = asked;
        }
        if let Some(asked) = LandlockRules::asked(annotations)? {
            policy.landlock = if self.annotation_may_loosen(LANDLOCK_ANNOTATION) {
                asked
            } else {
                policy.landlock.meet(&asked)
            };
        }
        Ok((policy, how))
    }

    /// Whether the policy in force wants a profile that is made of the container's files.
    pub fn wants_generated(
        &self,
        selection: &Selection,
        spec: &Spec,
    ) -> Result<Option<Wanted>, Refusal> {
        let (policy, _) = self.choose(selection, spec.annotations().as_ref())?;
        let wants = policy.seccomp == SeccompChoice::Generate && spec.linux().is_some();
        Ok(wants.then_some(Wanted {
            recordings: policy.seccomp_recordings,
        }))
    }

    /// Whether the policy in force may want an AppArmor profile made.
    pub fn wants_apparmor(&self, selection: &Selection, spec: &Spec) -> Result<bool, Refusal> {
        let (policy, _) = self.choose(selection, spec.annotations().as_ref())?;
        Ok(policy.apparmor == ApparmorChoice::Generate)
    }

    /// The access documents that the policy in force names: the caller reads them with
    /// [`read_trusted`](super::read_trusted) for [`HostFacts::access`](super::HostFacts::access).
    pub fn wants_access(
        &self,
        selection: &Selection,
        spec: &Spec,
    ) -> Result<BTreeSet<PathBuf>, Refusal> {
        let (policy, _) = self.select(selection, spec.annotations().as_ref())?;
        let mut documents = policy.landlock.documents;
        if policy.apparmor == ApparmorChoice::Generate {
            documents.extend(policy.apparmor_documents);
        }
        Ok(documents)
    }

    fn choose(
        &self,
        selection: &Selection,
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<(Policy, String), Refusal> {
        let choices = [
            (&selection.command_line, "the command line"),
            (&selection.handler, "the runtime handler"),
            (&selection.environment, "COFFERDAM_POLICY"),
        ];
        let mut named = choices
            .into_iter()
            .filter_map(|(name, origin)| Some((name.as_ref()?, origin)));
        let default = (self.default_name(), "the policy file's default");
        let (name, origin) = named.next().unwrap_or(default);
        let base = self.named(name, origin)?;
        let Some(annotations) = annotations else {
            return Ok((base.clone(), format!("{name} (chosen by {origin})")));
        };
        let unknown = annotations
            .keys()
            .filter(|k| k.starts_with(PREFIX) && !ANNOTATIONS.contains(&k.as_str()));
        if let Some(key) = unknown.min() {
            return Err(Refusal::UnknownAnnotation {
                key: harmless(key),
                known: ANNOTATIONS.join(", "),
            });
        }
        let Some(asked) = annotations.get(POLICY_ANNOTATION) else {
            return Ok((base.clone(), format!("{name} (chosen by {origin})")));
        };
        let annotated = self.named(asked, "the annotation cofferdam.dev/policy")?;
        if self.annotation_may_loosen(POLICY_ANNOTATION) {
            let how = format!("{asked} (chosen by annotation, which the policy file allows)");
            return Ok((annotated.clone(), how));
        }
        let met = base.meet(annotated);
        let how = format!("{} (chosen by {origin}, tightened by annotation)", met.name);
        Ok((met, how))
    }

    fn named(&self, name: &str, origin: &str) -> Result<&Policy, Refusal> {
        self.policy(name).ok_or_else(|| Refusal::UnknownPolicy {
            origin: origin.to_owned(),
            name: harmless(name),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }
}

/// Where the annotations ask to run.
fn asked_isolation(
    annotations: Option<&HashMap<String, String>>,
) -> Result<Option<Isolation>, Refusal> {
    let asked = annotations.and_then(|all| all.get(ISOLATION_ANNOTATION));
    match asked.map(String::as_str) {
        None => Ok(None),
        Some("microvm") => Ok(Some(Isolation::Microvm)),
        Some("host-kernel") => Ok(Some(Isolation::HostKernel)),
        Some(other) => Err(Refusal::AnnotationValue {
            key: ISOLATION_ANNOTATION,
            value: harmless(other),
            known: "microvm, host-kernel",
        }),
    }
}

/// What the annotations ask to become of denied calls.
pub(crate) fn asked_denials(
    annotations: Option<&HashMap<String, String>>,
) -> Result<Option<Denials>, Refusal> {
    match annotations
        .and_then(|all| all.get(DENIALS_ANNOTATION))
        .map(String::as_str)
    {
        None => Ok(None),
        Some("silent") => Ok(Some(Denials::Silent)),
        Some("explain") => Ok(Some(Denials::Explain)),
        Some(other) => Err(Refusal::AnnotationValue {
            key: DENIALS_ANNOTATION,
            value: harmless(other),
            known: "silent, explain",
        }),
    }
}
